//! Messages from HTTP to users, connections, rooms and everyone.

use super::control::Control;
use super::encoder::EncodeError;
use super::workers::{MailboxFull, SendError};
use gateway_core::address::{Address, Fingerprint, Fingerprints};
use gateway_core::message::{EncodedPush, Exclude, Message, MessageClass, Origin};
use netpoll::SharedBuffer;
use std::sync::PoisonError;

/// The target of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Mid(i64),
    Uid(String),
    Key(String),
    Room(String),
    /// All sessions, with at most this many deliveries per second; 0: no limit.
    All {
        rate: u32,
    },
}

impl Target {
    pub(super) fn class(&self) -> MessageClass {
        match self {
            Target::Mid(_) | Target::Uid(_) | Target::Key(_) => MessageClass::User,
            Target::Room(_) => MessageClass::Room,
            Target::All { .. } => MessageClass::Broadcast,
        }
    }

    /// The connection that the target's key names, if the key was made by this process.
    pub(super) fn made_key(&self, names: &Fingerprints) -> Option<Address> {
        match self {
            Target::Key(key) => names.address_in(key),
            _ => None,
        }
    }
}

impl Control {
    pub(super) fn encode(
        &self,
        class: MessageClass,
        operation: i32,
        bodies: &[&[u8]],
    ) -> Result<EncodedPush, EncodeError> {
        self.encoder.lock().unwrap_or_else(PoisonError::into_inner).push(class, operation, bodies)
    }

    /// Bytes for workers to hold, such as a reason.
    pub(super) fn text(&self, text: &str) -> Result<SharedBuffer, EncodeError> {
        self.encoder.lock().unwrap_or_else(PoisonError::into_inner).text(text)
    }

    /// Count of outcomes that a message to `target` will have.
    pub(super) fn outcomes(&self, target: &Target) -> usize {
        match target {
            Target::All { .. } => self.workers.count(),
            _ => 1,
        }
    }

    /// Hands `push` to the worker that knows the target, or to all of them.
    ///
    /// # Errors
    /// [`SendError`]; a broadcast may have reached other workers when a mailbox is full.
    pub(super) fn send(&self, target: &Target, push: EncodedPush, origin: Origin) -> Result<(), SendError> {
        let names = self.workers.names();
        let exclude = Exclude::default();
        let name = match target {
            Target::Mid(mid) => names.mid(*mid),
            Target::Uid(uid) => names.uid(uid),
            Target::Key(key) => {
                let name = names.key(key);
                let Some(address) = target.made_key(names) else {
                    return Ok(self.send_to_name(name, push, origin)?);
                };
                let connection = address.connection();
                let message = Message::ToMadeKey { connection, name, push, exclude, origin };
                return Ok(self.wakes.send(&self.workers, address.worker(), message)?);
            }
            Target::Room(room) => {
                let room = names.room(room);
                let (home, message) =
                    (self.workers.home(room), Message::ToRoom { room, push, exclude, origin });
                return Ok(self.wakes.send(&self.workers, home, message)?);
            }
            Target::All { rate } => return self.send_to_all(&push, *rate, origin),
        };
        Ok(self.send_to_name(name, push, origin)?)
    }

    fn send_to_name(&self, name: Fingerprint, push: EncodedPush, origin: Origin) -> Result<(), MailboxFull> {
        let message = Message::ToName { name, push, exclude: Exclude::default(), origin };
        self.wakes.send(&self.workers, self.workers.home(name), message)
    }

    fn send_to_all(&self, push: &EncodedPush, rate: u32, origin: Origin) -> Result<(), SendError> {
        if !self.workers.places().take_for_everyone() {
            return Err(SendError::NoFanout);
        }
        let rate = rate.div_ceil(self.workers.count() as u32);
        let mut result = Ok(());
        for worker in self.workers.ids() {
            let message = Message::ToAll { push: push.clone(), rate, origin };
            let sent = self.wakes.send(&self.workers, worker, message);
            if sent.is_err() {
                self.workers.places().return_everyone(worker);
            }
            result = result.and(sent.map_err(SendError::from));
        }
        result
    }
}
