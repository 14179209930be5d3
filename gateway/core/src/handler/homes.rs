//! What a worker does as the home of names and rooms: it knows the hosts of their connections, and
//! tells each what concerns it.

use super::Handler;
use crate::address::{Address, Fingerprint, WorkerId};
use crate::message::{CountChange, EncodedPush, Exclude, Message, NameKind, Origin, SHARERS_MAX};
use crate::router::ClaimError;
use crate::shard::Shard;
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{Backend, ConnectionId};
use std::time::Duration;

/// Sizes of rooms sent to hosts in a turn at most.
const TOTALS_PER_TURN: usize = 1024;
/// How often sizes of rooms are sent to hosts.
const TOTALS_EVERY: Duration = Duration::from_secs(1);

impl<B: Backend> Handler<B> {
    pub(super) fn claim(&mut self, kind: NameKind, name: Fingerprint, from: Address, tag: u32) {
        let policy = self.policy.device_policy;
        let code = match kind {
            NameKind::Key => CloseCode::REPLACED,
            NameKind::User => CloseCode::DEVICE_LIMIT,
        };
        let outbox = &mut self.outbox;
        let evict = |address: Address| {
            let connection = address.connection();
            outbox.send(address.worker(), Message::Evict { connection, code, reason: None });
        };
        let claimed = self.shard.directory.claim(kind, name, from, tag, policy, evict);
        if kind == NameKind::User && claimed.is_ok() {
            self.divide_rate(name, 2); // a lone connection has the whole rate already
        }
        self.answer_claim(from, claimed);
    }

    /// A connection brings the key that was made for one here.
    pub(super) fn reclaim(&mut self, connection: ConnectionId, from: Address, tag: u32) {
        let session = self.shard.sessions.get(connection);
        let holder = session.filter(|session| session.is_open() && session.key.is_none());
        let claimed = match holder.map(|session| self.owner_tag(session)) {
            Some(owner) if owner != tag => Err(ClaimError::Taken),
            Some(_) => {
                self.kick(connection, CloseCode::REPLACED, None);
                Ok(())
            }
            None => Ok(()),
        };
        self.answer_claim(from, claimed);
    }

    fn answer_claim(&mut self, from: Address, claimed: Result<(), ClaimError>) {
        let connection = from.connection();
        let evict = |code| Message::Evict { connection, code, reason: None };
        let answer = match claimed {
            Ok(()) => Message::Granted { connection },
            Err(ClaimError::Full) => evict(CloseCode::OVERLOAD),
            Err(ClaimError::Taken) => evict(CloseCode::AUTH_FAILED),
        };
        self.outbox.send(from.worker(), answer);
    }

    /// Only a user's rate is divided: the holder of a key has no other part of its user's rate by
    /// that key.
    pub(super) fn release(&mut self, kind: NameKind, name: Fingerprint, from: Address) {
        self.shard.directory.release(name, from);
        if kind == NameKind::User {
            self.divide_rate(name, 1);
        }
    }

    /// As the home of a user: sends to the hosts of its connections, the newest first, among how
    /// many its rate is divided now, if these are at least `from`. A lone connection begins with
    /// the whole rate, so that is sent only when others have left.
    fn divide_rate(&mut self, name: Fingerprint, from: u8) {
        let max = usize::from(SHARERS_MAX);
        let count = self.shard.directory.connections(name).take(max).count() as u8;
        if count < from {
            return;
        }
        for address in self.shard.directory.connections(name).take(max) {
            let connection = address.connection();
            self.outbox.send(address.worker(), Message::Sharers { connection, count });
        }
    }

    /// As the home of a user or key: hands the push to the hosts of its connections, which report
    /// whether each got it.
    pub(super) fn relay_to_name(
        &mut self,
        name: Fingerprint,
        push: &EncodedPush,
        exclude: Exclude,
        origin: Origin,
    ) {
        let all = || self.shard.directory.connections(name);
        let meant = |address: &Address| exclude.address != Some(*address);
        let count = all().filter(meant).count() as u32;
        let hosts_report = match (origin, count) {
            (_, 0) => {
                let found = all().next().is_some();
                return self.report(origin, if found { Ok(0) } else { Err(ErrorCode::NOT_FOUND) });
            }
            (Origin::None, _) | (_, 1) => origin,
            // Without room for a sum hosts do not report, and all count as receivers.
            _ => self
                .shard
                .receipts
                .open(origin, count)
                .map_or(Origin::None, |index| Origin::Sum { home: self.outbox.me(), index }),
        };
        for address in self.shard.directory.connections(name).filter(meant) {
            let (connection, push) = (address.connection(), push.clone());
            self.outbox.send(address.worker(), Message::Deliver { connection, push, origin: hosts_report });
        }
        if hosts_report == Origin::None {
            self.report(origin, Ok(count));
        }
    }

    /// As the home of a room: hands the push to the hosts of its members, or refuses it where one
    /// of them has no place for it.
    pub(super) fn relay_to_room(
        &mut self,
        name: Fingerprint,
        push: &EncodedPush,
        exclude: Exclude,
        origin: Origin,
    ) {
        let rooms = &self.shard.home_rooms;
        let Some(room) = rooms.find(name).filter(|room| rooms.total(*room) > 0) else {
            return self.report(origin, Err(ErrorCode::NOT_FOUND));
        };
        let total = self.shard.room_total(name).unwrap_or(0);
        if !self.outbox.places().take_for_room(name, total, || rooms.hosts(room)) {
            self.io.metrics.fanout_refusals.add(1);
            return self.report(origin, Err(ErrorCode::BUSY));
        }
        for worker in rooms.hosts(room) {
            self.outbox.send(worker, Message::DeliverRoom { room: name, push: push.clone(), exclude });
        }
        let receivers = total - u32::from(exclude.is_counted).min(total);
        self.report(origin, Ok(receivers));
    }

    /// As the home of a room: takes a host's count of members, and answers a host that had none
    /// before.
    pub(super) fn room_members(&mut self, worker: WorkerId, change: CountChange) {
        let (room, appearance) = (change.room, change.appearance);
        let counted = self.shard.home_rooms.set_host_count(worker, change);
        self.take_own_total(room);
        let total = match counted {
            Some((_, false)) => return,
            Some((total, true)) => Some(total),
            None => None,
        };
        self.outbox.send(worker, Message::RoomReady { room, total, appearance });
    }

    /// As host and home of a room: takes the home's total at once, without a message. Of other
    /// rooms the home here knows nothing.
    pub(super) fn take_own_total(&mut self, name: Fingerprint) {
        let Shard { home_rooms, hosted_rooms, .. } = &mut self.shard;
        let Some(total) = home_rooms.find(name).map(|room| home_rooms.total(room)) else { return };
        if let Some(room) = hosted_rooms.find(name) {
            hosted_rooms.set_total(room, total);
        }
    }

    /// Reports to the homes of rooms how many members are here.
    pub(super) fn report_counts(&mut self) {
        let workers = self.outbox.workers();
        let worker = self.context.id;
        while let Some(change) = self.shard.hosted_rooms.next_count_change() {
            self.outbox.send(change.room.home(workers), Message::RoomMembers { worker, change });
        }
    }

    /// Reports to the homes of rooms how many members are here, and as a home to the hosts how many
    /// there are.
    pub(crate) fn report_room_sizes(&mut self) {
        self.report_counts();
        if self.turn.now < self.turn.totals_due && !self.turn.is_stopping() {
            return;
        }
        // As the home it knows the sum itself, and better than a message that is under way.
        let me = self.context.id;
        for _ in 0..TOTALS_PER_TURN {
            let Some(room) = self.shard.home_rooms.next_total_change() else {
                self.turn.totals_due = self.turn.now + TOTALS_EVERY;
                return;
            };
            let (name, total) = (self.shard.home_rooms.name(room), self.shard.home_rooms.total(room));
            for host in self.shard.home_rooms.hosts(room).filter(|host| *host != me) {
                self.outbox.send(host, Message::RoomTotal { room: name, total });
            }
        }
    }
}
