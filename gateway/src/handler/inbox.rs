//! Messages of other workers, of the control thread, and of this worker to itself.

use crate::address::{Address, Fingerprint};
use crate::message::{Exclude, KickTarget, Message, NameKind, Origin, Push, SHARERS_MAX};
use crate::router::ClaimError;
use crate::session::flow::Allowance;
use crate::settings::Reloadable;
use crate::worker::Worker;
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{Backend, ConnectionId, SharedBuffer};
use std::sync::Arc;

impl<B: Backend> Worker<B> {
    /// Handles one message.
    pub(crate) fn message(&mut self, message: Message) {
        match message {
            Message::Claim { kind, name, from, tag } => self.claim(kind, name, from, tag),
            Message::Reclaim { connection, from, tag } => self.reclaim(connection, from, tag),
            Message::Granted { connection } => self.login_answered(connection),
            Message::Sharers { connection, count } => self.share_rate(connection, count),
            Message::Release { kind, name, from } => self.release(kind, name, from),
            Message::Evict { connection, code: CloseCode::AUTH_FAILED, reason: None } => {
                self.refuse_login(connection, CloseCode::AUTH_FAILED, "the key belongs to another user");
            }
            Message::Evict { connection, code, reason } => self.kick(connection, code, reason.as_ref()),
            Message::ToName { name, push, exclude, origin } => {
                self.relay_to_name(name, &push, exclude, origin);
            }
            Message::ToMadeKey { connection, name, push, exclude, origin } => {
                self.deliver_to_key((connection, name), push, exclude, origin);
            }
            Message::ToRoom { room, push, exclude, origin } => {
                self.relay_to_room(room, &push, exclude, origin)
            }
            Message::ToAll { push, rate, origin } => self.deliver_to_all(push, rate, origin),
            Message::DeliverRoom { room, push, exclude } => self.deliver_room(room, push, exclude),
            Message::Deliver { connection, push, origin } => {
                let result = self.deliver(connection, &push);
                self.report(origin, result);
            }
            Message::RoomMembers { worker, change } => {
                let (room, appearance) = (change.room, change.appearance);
                match self.shard.rooms.set_host_count(worker, change) {
                    Some((_, false)) => {}
                    Some((total, true)) => {
                        self.post.send(worker, Message::RoomReady { room, total: Some(total), appearance });
                    }
                    None => self.post.send(worker, Message::RoomReady { room, total: None, appearance }),
                }
            }
            Message::RoomReady { room, total, appearance } => self.room_ready(room, total, appearance),
            Message::RoomTotal { room, total } => {
                if let Some(room) = self.shard.rooms.find(room) {
                    self.shard.rooms.set_total(room, total);
                }
            }
            Message::Outcome { origin: Origin::Sum { index, .. }, result } => {
                if let Some((origin, sum)) = self.shard.sums.add(index, result) {
                    self.report(origin, sum);
                }
            }
            Message::Outcome { origin, result } => self.outcome(origin, result),
            Message::Verified(verdict) => self.verified(verdict),
            Message::Kick { target: KickTarget::MadeKey(connection, name), code, reason, ticket }
                if !self.has_made_key(connection) =>
            {
                let (home, target) = (name.home(self.post.workers()), KickTarget::Name(name));
                self.post.send(home, Message::Kick { target, code, reason, ticket });
            }
            Message::Kick { target: KickTarget::Many(filter), code, reason, ticket } => {
                self.begin_sweep(filter, code, reason, ticket);
            }
            Message::Kick { target, code, reason, ticket } => {
                let closed = self.kick_target(target, code, reason.as_ref());
                self.report(Origin::Control { ticket }, Ok(closed));
            }
            Message::Inspect(inspection) => self.inspect(inspection),
            Message::Reload(reloadable) => self.reload(&reloadable),
            Message::Drain { over } => self.begin_drain(over),
            Message::Stop => self.stop(),
            Message::Parting(word) => self.parting_heard(word),
        }
    }

    fn claim(&mut self, kind: NameKind, name: Fingerprint, from: Address, tag: u32) {
        let policy = self.reloadable.device_policy;
        let code = match kind {
            NameKind::Key => CloseCode::REPLACED,
            NameKind::User => CloseCode::DEVICE_LIMIT,
        };
        let post = &mut self.post;
        let evict = |address: Address| {
            let connection = address.connection();
            post.send(address.worker(), Message::Evict { connection, code, reason: None });
        };
        let claimed = self.shard.directory.claim(kind, name, from, tag, policy, evict);
        if kind == NameKind::User && claimed.is_ok() {
            self.divide_rate(name, 2); // one that is alone has been told nothing else
        }
        self.answer_claim(from, claimed);
    }

    /// A connection brings the key that was made for one here.
    fn reclaim(&mut self, connection: ConnectionId, from: Address, tag: u32) {
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
        self.post.send(from.worker(), answer);
    }

    /// Only a user's rate is divided: the holder of a key has no other part of its user's rate by that key.
    fn release(&mut self, kind: NameKind, name: Fingerprint, from: Address) {
        self.shard.directory.release(name, from);
        if kind == NameKind::User {
            self.divide_rate(name, 1);
        }
    }

    fn reload(&mut self, reloadable: &Arc<Reloadable>) {
        self.lone_allowance = Allowance::new(&reloadable.rate, 1);
        self.reloadable = Arc::clone(reloadable);
    }

    /// As the home of a user: says to the hosts of its connections, the newest first, among how many its rate is divided now.
    /// Fewer than `from` need not be told.
    /// A lone connection is not told what it begins with, unless it is what is left.
    fn divide_rate(&mut self, name: Fingerprint, from: u8) {
        let max = usize::from(SHARERS_MAX);
        let count = self.shard.directory.connections(name).take(max).count() as u8;
        if count < from {
            return;
        }
        for address in self.shard.directory.connections(name).take(max) {
            let connection = address.connection();
            self.post.send(address.worker(), Message::Sharers { connection, count });
        }
    }

    /// As the home of a user or key: hands the push to the hosts of its connections, which report who got it.
    fn relay_to_name(&mut self, name: Fingerprint, push: &Push, exclude: Exclude, origin: Origin) {
        let all = || self.shard.directory.connections(name);
        let meant = |address: &Address| exclude.address != Some(*address);
        let count = all().filter(meant).count() as u32;
        let hosts_report = match (origin, count) {
            (_, 0) => {
                let found = all().next().is_some();
                return self.report(origin, if found { Ok(0) } else { Err(ErrorCode::NOT_FOUND) });
            }
            (Origin::Nobody, _) | (_, 1) => origin,
            // Without room for a sum nobody is asked, and all count as receivers.
            _ => self
                .shard
                .sums
                .open(origin, count)
                .map_or(Origin::Nobody, |index| Origin::Sum { home: self.post.me(), index }),
        };
        for address in self.shard.directory.connections(name).filter(meant) {
            let (connection, push) = (address.connection(), push.clone());
            self.post.send(address.worker(), Message::Deliver { connection, push, origin: hosts_report });
        }
        if hosts_report == Origin::Nobody {
            self.report(origin, Ok(count));
        }
    }

    /// As the host that a made key names: delivers, or asks the key's home.
    fn deliver_to_key(
        &mut self,
        (connection, name): (ConnectionId, Fingerprint),
        push: Push,
        exclude: Exclude,
        origin: Origin,
    ) {
        if !self.has_made_key(connection) {
            let home = name.home(self.post.workers());
            return self.post.send(home, Message::ToName { name, push, exclude, origin });
        }
        let excluded = exclude.address == Some(self.address(connection));
        let result = if excluded { Ok(0) } else { self.deliver(connection, &push) };
        self.report(origin, result);
    }

    /// Whether the connection is logged in with the key that was made for it.
    fn has_made_key(&self, connection: ConnectionId) -> bool {
        let session = self.shard.sessions.get(connection);
        session.is_some_and(|session| session.is_open() && session.key.is_none())
    }

    /// As the home of a room: hands the push to the hosts of its members, or refuses it where one of them has no place for it.
    fn relay_to_room(&mut self, name: Fingerprint, push: &Push, exclude: Exclude, origin: Origin) {
        let rooms = &self.shard.rooms;
        let Some(room) = rooms.find(name).filter(|room| rooms.total(*room) > 0) else {
            return self.report(origin, Err(ErrorCode::NOT_FOUND));
        };
        if !self.post.places().take_for_room(name, || rooms.hosts(room)) {
            self.metrics.fanout_refusals.add(1);
            return self.report(origin, Err(ErrorCode::BUSY));
        }
        for worker in rooms.hosts(room) {
            self.post.send(worker, Message::DeliverRoom { room: name, push: push.clone(), exclude });
        }
        let total = rooms.total(room);
        let receivers = total - u32::from(exclude.is_counted).min(total);
        self.report(origin, Ok(receivers));
    }

    /// Closes the target's connections here, or has their hosts close them; returns how many.
    fn kick_target(&mut self, target: KickTarget, code: CloseCode, reason: Option<&SharedBuffer>) -> u32 {
        let mut closed = 0;
        match target {
            KickTarget::Many(_) => {} // a sweep
            KickTarget::Connection(connection) | KickTarget::MadeKey(connection, _) => {
                closed += u32::from(self.shard.sessions.get(connection).is_some());
                self.kick(connection, code, reason);
            }
            KickTarget::Name(name) => {
                for address in self.shard.directory.connections(name) {
                    closed += 1;
                    let (connection, reason) = (address.connection(), reason.cloned());
                    self.post.send(address.worker(), Message::Evict { connection, code, reason });
                }
            }
        }
        closed
    }
}
