//! Received segments: each is led to its record, checked, and changes blocks.
//!
//! ```text
//!   segment ─► dispatch ─┬─► connection: checks ─► acknowledge ─► receive  (RFC 9293, 3.10.7.4)
//!                        ├─► half_open (SYN cache)                         (3.10.7.2)
//!                        ├─► time_wait (a record)                          (6191)
//!                        └─► listen: a SYN, a cookie, or a reset           (3.10.7.1)
//! ```

pub(in crate::tcp) mod acknowledge;
pub(in crate::tcp) mod connection;
pub(in crate::tcp) mod cookies;
pub(in crate::tcp) mod dispatch;
pub(in crate::tcp) mod half_open;
pub(in crate::tcp) mod listen;
pub(in crate::tcp) mod receive;
pub(in crate::tcp) mod time_wait;
