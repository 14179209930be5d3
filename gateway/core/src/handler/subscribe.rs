//! Subscribe and Unsubscribe: which pushes a connection takes.

use super::Handler;
use gateway_proto::body::{OPERATIONS_MAX, OperationList};
use gateway_proto::codes::ErrorCode;
use gateway_proto::frame::Header;
use netpoll::{Backend, ConnectionId};

impl<B: Backend> Handler<B> {
    /// Operations 14 and 16.
    pub(crate) fn subscribe(&mut self, connection: ConnectionId, header: Header, body: &[u8], add: bool) {
        let list = match OperationList::parse(body, OPERATIONS_MAX) {
            Ok(list) => list,
            Err(error) => {
                let why = "the body is a list of integers between commas, 64 at most";
                return self.refuse(connection, header, error.error_code(), why);
            }
        };
        let Some(source) = self.source(connection) else { return };
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let old = session.accepts;
        match self.shard.sessions.accept_sets.change(old, list.iter(), add, source) {
            Some(new) => {
                if let Some(session) = self.shard.sessions.get_mut(connection) {
                    session.accepts = new;
                }
                self.reply(connection, header.reply(0), |_| {});
            }
            None => self.refuse(connection, header, ErrorCode::TOO_LARGE, "too many operations are accepted"),
        }
    }
}
