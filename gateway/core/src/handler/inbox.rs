//! Messages of other workers, of the control thread, and of this worker to itself.

use super::Handler;
use crate::address::Fingerprint;
use crate::context::Policy;
use crate::message::{EncodedPush, Exclude, KickTarget, Message, Origin};
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId, SharedBuffer};

impl<B: Backend> Handler<B> {
    /// Handles one message.
    pub(crate) fn message(&mut self, message: Message) {
        match message {
            Message::Claim { kind, name, from, tag } => self.claim(kind, name, from, tag),
            Message::Reclaim { connection, from, tag } => self.reclaim(connection, from, tag),
            Message::Granted { connection } => self.login_answered(connection),
            Message::Sharers { connection, count } => self.share_rate(connection, count),
            Message::Release { kind, name, from } => self.release(kind, name, from),
            Message::Evict { connection, code: CloseCode::AUTH_FAILED, reason: None } => {
                self.refuse_login(connection, CloseCode::AUTH_FAILED, &"the key belongs to another user");
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
            Message::RoomMembers { worker, change } => self.room_members(worker, change),
            Message::RoomReady { room, total, appearance } => self.room_ready(room, total, appearance),
            Message::RoomTotal { room, total } => {
                if let Some(room) = self.shard.hosted_rooms.find(room) {
                    self.shard.hosted_rooms.set_total(room, total);
                }
            }
            Message::Outcome { origin: Origin::Sum { index, .. }, result } => {
                if let Some((origin, sum)) = self.shard.receipts.add(index, result) {
                    self.report(origin, sum);
                }
            }
            Message::Outcome { origin, result } => self.outcome(origin, result),
            Message::Verified(verdict) => self.verified(verdict),
            Message::Kick { target: KickTarget::MadeKey(connection, name), code, reason, ticket }
                if !self.has_made_key(connection) =>
            {
                let (home, target) = (name.home(self.outbox.workers()), KickTarget::Name(name));
                self.outbox.send(home, Message::Kick { target, code, reason, ticket });
            }
            Message::Kick { target, code, reason, ticket } => {
                let closed = self.kick_target(target, code, reason.as_ref());
                self.report(Origin::Control { ticket }, Ok(closed));
            }
            Message::Inspect(inspection) => self.inspect(inspection),
            Message::Reload(values) => self.policy = Policy::new(values),
            Message::Drain { .. } | Message::Stop | Message::Shutdown(_) => {
                debug_assert!(false, "the worker handles what concerns it as a whole");
            }
        }
    }

    /// As the host that a made key names: delivers, or asks the key's home.
    fn deliver_to_key(
        &mut self,
        (connection, name): (ConnectionId, Fingerprint),
        push: EncodedPush,
        exclude: Exclude,
        origin: Origin,
    ) {
        if !self.has_made_key(connection) {
            let home = name.home(self.outbox.workers());
            return self.outbox.send(home, Message::ToName { name, push, exclude, origin });
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

    /// Closes the target's connections here, or has their hosts close them; returns how many.
    fn kick_target(&mut self, target: KickTarget, code: CloseCode, reason: Option<&SharedBuffer>) -> u32 {
        let mut closed = 0;
        match target {
            KickTarget::Many(_) => debug_assert!(false, "a sweep is the worker's"),
            KickTarget::Connection(connection) | KickTarget::MadeKey(connection, _) => {
                closed += u32::from(self.shard.sessions.get(connection).is_some());
                self.kick(connection, code, reason);
            }
            KickTarget::Name(name) => {
                for address in self.shard.directory.connections(name) {
                    closed += 1;
                    let (connection, reason) = (address.connection(), reason.cloned());
                    self.outbox.send(address.worker(), Message::Evict { connection, code, reason });
                }
            }
        }
        closed
    }
}
