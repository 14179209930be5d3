//! Messages of other workers, of the control thread, and of this worker to itself.

use crate::address::Fingerprint;
use crate::router::fanout::Target;
use crate::worker::Worker;
use crate::worker::message::{Exclude, KickTarget, Message, NameKind, Origin, Push};
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{Backend, ConnectionId};
use std::sync::Arc;

impl<B: Backend> Worker<B> {
    /// Handles one message.
    pub(crate) fn message(&mut self, message: Message) {
        match message {
            Message::Claim { kind, name, from, platform } => self.claim(kind, name, from, platform),
            Message::Granted { connection } => self.login_answered(connection),
            Message::Release { name, from } => self.shard.directory.release(name, from),
            Message::Evict { connection, code } => self.kick(connection, code),
            Message::ToName { name, push, exclude, origin } => {
                self.relay_to_name(name, &push, exclude, origin);
            }
            Message::ToMadeKey { connection, name, push, exclude, origin } => {
                self.deliver_to_key((connection, name), push, exclude, origin);
            }
            Message::ToRoom { room, push, exclude, origin } => {
                self.relay_to_room(room, &push, exclude, origin)
            }
            Message::ToAll { push, rate, origin } => {
                let receivers = self.shard.sessions.open_count() as u32;
                self.fan_out(Target::Everyone, push, Exclude::default(), rate);
                self.report(origin, Some(receivers));
            }
            Message::Deliver { connection, push } => self.deliver(connection, &push, Exclude::default()),
            Message::DeliverRoom { room, push, exclude } => self.deliver_room(room, push, exclude),
            Message::RoomMembers { room, worker, count, appearance } => {
                let change = self.shard.rooms.set_host_count(&mut self.shard.texts, room, worker, count);
                match change {
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
            Message::Outcome { origin, receivers } => {
                self.outcome(origin, receivers.ok_or(ErrorCode::NOT_FOUND))
            }
            Message::Verified(verdict) => self.verified(verdict),
            Message::Kick { target, code, ticket } => self.kick_target(target, code, ticket),
            Message::Inspect(inspection) => self.inspect(inspection),
            Message::Reload(reloadable) => self.reloadable = Arc::clone(&reloadable),
            Message::Drain { over } => self.begin_drain(over),
            Message::Stop => self.stop(),
            Message::Parting(word) => self.parting_heard(word),
        }
    }

    fn claim(&mut self, kind: NameKind, name: Fingerprint, from: crate::address::Address, platform: u32) {
        let policy = self.reloadable.device_policy;
        let code = match kind {
            NameKind::Key => CloseCode::REPLACED,
            NameKind::User => CloseCode::DEVICE_LIMIT,
        };
        let post = &mut self.post;
        let evict = |address: crate::address::Address| {
            post.send(address.worker(), Message::Evict { connection: address.connection(), code });
        };
        let answer = match self.shard.directory.claim(kind, name, from, platform, policy, evict) {
            Ok(()) => Message::Granted { connection: from.connection() },
            Err(_) => Message::Evict { connection: from.connection(), code: CloseCode::OVERLOAD },
        };
        self.post.send(from.worker(), answer);
    }

    /// As the home of a user or key: hands the push to the hosts of its connections.
    fn relay_to_name(&mut self, name: Fingerprint, push: &Push, exclude: Exclude, origin: Origin) {
        let mut receivers = 0;
        let mut found = false;
        for address in self.shard.directory.connections(name) {
            found = true;
            if exclude.address == Some(address) {
                continue;
            }
            receivers += 1;
            self.post.send(
                address.worker(),
                Message::Deliver { connection: address.connection(), push: push.clone() },
            );
        }
        self.report(origin, found.then_some(receivers));
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
        self.deliver(connection, &push, exclude);
        self.report(origin, Some(u32::from(!excluded)));
    }

    /// Whether the connection is logged in with the key that was made for it.
    fn has_made_key(&self, connection: ConnectionId) -> bool {
        let session = self.shard.sessions.get(connection);
        session.is_some_and(|session| session.is_open() && session.key.is_none())
    }

    /// As the home of a room: hands the push to the hosts of its members.
    fn relay_to_room(&mut self, name: Fingerprint, push: &Push, exclude: Exclude, origin: Origin) {
        let Some(room) = self.shard.rooms.find(name) else { return self.report(origin, None) };
        for worker in self.shard.rooms.hosts(room) {
            self.post.send(worker, Message::DeliverRoom { room: name, push: push.clone(), exclude });
        }
        let total = self.shard.rooms.total(room);
        let receivers = total - u32::from(exclude.is_counted).min(total);
        self.report(origin, (total > 0).then_some(receivers));
    }

    fn kick_target(&mut self, target: KickTarget, code: CloseCode, ticket: u64) {
        let mut receivers = 0;
        match target {
            KickTarget::Connection(connection) => {
                receivers += u32::from(self.shard.sessions.get(connection).is_some());
                self.kick(connection, code);
            }
            KickTarget::MadeKey(connection, _) if self.has_made_key(connection) => {
                receivers = 1;
                self.kick(connection, code);
            }
            KickTarget::MadeKey(_, name) => {
                let (home, target) = (name.home(self.post.workers()), KickTarget::Name(name));
                return self.post.send(home, Message::Kick { target, code, ticket });
            }
            KickTarget::Name(name) => {
                for address in self.shard.directory.connections(name) {
                    receivers += 1;
                    self.post
                        .send(address.worker(), Message::Evict { connection: address.connection(), code });
                }
            }
        }
        self.report(Origin::Control { ticket }, Some(receivers));
    }
}
