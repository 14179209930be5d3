//! The names that a session is known by.

use super::Handler;
use crate::address::Fingerprint;
use crate::session::{Session, User};
use netpoll::Backend;

impl<B: Backend> Handler<B> {
    /// A session's key.
    pub(crate) fn key_text<'s>(&self, session: &Session, scratch: &'s mut [u8; 255]) -> &'s str {
        if !session.key.is_none() {
            return self.shard.texts.read(session.key, scratch);
        }
        let made = self.context.names.made_key(self.address(session.connection));
        scratch[..made.len()].copy_from_slice(&made);
        std::str::from_utf8(&scratch[..made.len()]).unwrap_or_default()
    }

    /// The name of the key that a client brought; `None` when the server made its key.
    pub(crate) fn own_key_name(&self, session: &Session) -> Option<Fingerprint> {
        (!session.key.is_none()).then(|| self.key_name(session))
    }

    /// The name of a session's key.
    pub(crate) fn key_name(&self, session: &Session) -> Fingerprint {
        self.context.names.key(self.key_text(session, &mut [0; 255]))
    }

    /// The name that a session's user is known by.
    pub(crate) fn user_name(&self, session: &Session) -> Option<Fingerprint> {
        match session.user() {
            User::Anonymous => None,
            User::Mid(mid) => Some(self.context.names.mid(mid)),
            User::Uid(uid) => {
                let mut scratch = [0; 255];
                Some(self.context.names.uid(self.shard.texts.read(uid, &mut scratch)))
            }
        }
    }
}
