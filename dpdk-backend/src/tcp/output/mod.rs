//! Segments that leave: `stream` (payload, retransmissions), `replies` (segments without payload).

pub(in crate::tcp) mod replies;
pub(in crate::tcp) mod stream;
