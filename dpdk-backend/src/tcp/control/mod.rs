//! The life of connections: requests and reports of the owner (`owner`, `unread`), opening (`open`,
//! `connect`), closing (`end`), `timers`.

pub(in crate::tcp) mod connect;
pub(in crate::tcp) mod end;
pub(in crate::tcp) mod open;
pub(in crate::tcp) mod owner;
pub(in crate::tcp) mod timers;
pub(in crate::tcp) mod unread;
