//! The gateway's wire protocol, without IO.
//!
//! Bytes in, values out, and back. The crate owns no memory, reads no clock and knows no socket:
//! every function works in buffers of its caller, so one implementation serves each backend, the
//! load generator, and the fuzzer.
//!
//! ```text
//!   bytes ──┬────────────── TCP ───────────────┐
//!           └─ websocket::handshake, Decoder ──┤
//!                                              ▼
//!                                frame::Header::peek          16-byte header, both bounds
//!                                              │ operation
//!                               ┌──────────────┴─────────────┐
//!                        auth::AuthRequest              body::*     one type an operation
//! ```
//!
//! * [`frame`]: the 16-byte header of goim (`api/protocol`), and the operations.
//! * [`body`]: the bodies of the operations; each type can hold only what may be on the wire.
//! * [`auth`]: the JSON body of the first frame.
//! * [`codes`]: why a connection closes, why an operation is refused.
//! * [`preface`]: what other protocols begin with.
//! * [`websocket`]: RFC 6455, for both ends.
//!
//! No function panics, recurses or loops beyond its input, whatever that input is. An error is a
//! small `Copy` enum named by operation; each has a `label()` for metrics.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod auth;
pub mod body;
mod bytes;
pub mod codes;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod preface;
#[cfg(test)]
mod vectors;
pub mod websocket;
