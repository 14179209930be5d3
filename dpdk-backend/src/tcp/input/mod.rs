//! What comes in: a segment is led to its record, checked, and changes blocks.
//!
//! ```text
//!   segment ─► flow table ─┬─► `connection`: checks ─► `acknowledge` ─► `receive`   (RFC 9293, 3.10.7.4)
//!                          ├─► SYN cache: `listen`                                  (3.10.7.2)
//!                          ├─► TIME-WAIT record                                     (6191)
//!                          └─► nothing: `cookies`, SYN to a listener, or reset      (3.10.7.1)
//! ```

pub(in crate::tcp) mod acknowledge;
pub(in crate::tcp) mod connection;
pub(in crate::tcp) mod cookies;
pub(in crate::tcp) mod dispatch;
pub(in crate::tcp) mod half_open;
pub(in crate::tcp) mod listen;
pub(in crate::tcp) mod receive;
pub(in crate::tcp) mod time_wait;
