//! Subscribe and Unsubscribe: which pushes a connection takes.

use super::Handler;
use crate::session::Open;
use gateway_proto::body::{OPERATIONS_MAX, OperationList};
use gateway_proto::codes::ErrorCode;
use gateway_proto::frame::Header;
use netpoll::Backend;

impl<B: Backend> Handler<B> {
    /// Operations 14 and 16.
    pub(super) fn subscribe(&mut self, open: Open, header: Header, body: &[u8], add: bool) -> Option<Open> {
        let list = match OperationList::parse(body, OPERATIONS_MAX) {
            Ok(list) => list,
            Err(error) => {
                let why = "the body is a list of integers between commas, 64 at most";
                return self.refuse(open, header, error.error_code(), why);
            }
        };
        let source = self.source_of(self.shard.sessions.of(&open));
        match self.shard.sessions.change_accepts(&open, list.iter(), add, source) {
            true => self.reply(open, header.reply(0), |_| {}),
            false => self.refuse(open, header, ErrorCode::TOO_LARGE, "too many operations are accepted"),
        }
    }
}
