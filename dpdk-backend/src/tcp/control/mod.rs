//! What begins, ends and waits: the owner's requests and reports, opening, closing, timers.

pub(in crate::tcp) mod connect;
pub(in crate::tcp) mod end;
pub(in crate::tcp) mod open;
pub(in crate::tcp) mod owner;
pub(in crate::tcp) mod timers;
pub(in crate::tcp) mod unread;
