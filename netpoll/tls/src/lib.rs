//! TLS 1.3 and 1.2 on netpoll's pooled buffers.
//!
//! ```text
//!   received bytes ─► Cutter ─► record
//!     ├─ before Finished: Machine (rustls) ─► bytes for the peer, at last a RecordLayer
//!     └─ after it: RecordLayer::opener ─► plaintext at its place
//!   plaintext in a block ─► RecordLayer::seal ─► record
//! ```
//!
//! * rustls does the handshake and nothing else ([`Machine`], [`Acceptor`],
//!   [`Connector`]). All that is known of
//!   rustls is in `handshake/`.
//! * [`RecordLayer`] is what a connection keeps: secrets, keys, IVs and sequence numbers, plain
//!   data of [`RecordLayer::SIZE`] bytes. It opens records where they were received and seals where
//!   the plaintext lies. It does no IO, takes time as an argument and allocates nothing.
//! * [`Lanes`] carry the steps of handshakes to threads, and the answers back.
//! * [`Cutter`] makes records of received buffers; a record in two buffers is gathered once.
//!
//! Secrets are overwritten with zeros when their owner is dropped, and no type with secrets
//! implements `Debug` by showing them. Copies that a move leaves on the stack, and the expanded
//! key of a cipher in use, are not overwritten.

#![forbid(unsafe_code)]

mod alert;
mod cipher;
mod cutter;
mod direction;
pub mod fuzzing;
mod handshake;
mod lanes;
mod layer;
mod messages;
mod rate;
mod record;
mod schedule;
mod suite;
#[cfg(test)]
mod tests;

pub use alert::{Alert, RecordError};
pub use cutter::{CutError, Cutter};
pub use handshake::{
    Acceptor, CertificateEntry, CertificateError, CertificateStore, Certificates, Connector, Established,
    HANDSHAKE_BYTES_MAX, HELLO_BYTES_MAX, HELLO_SIZE_MAX, HandshakeError, HelloScan, Machine, Peer,
    ServerSettings, SetupError, Step, TICKET_LIFETIME_S, TicketKey, TicketKeys, Ticketer, Trust,
};
pub use lanes::{Answer, HandshakeThreads, Lane, LaneCounts, Lanes, Request, SharedAcceptors, lanes};
pub use layer::{Opened, Opener, RecordLayer, SealError, Traffic};
pub use record::{Cut, HEADER_SIZE, PLAINTEXT_SIZE_MAX, RECORD_SIZE_MAX, look};
pub use suite::{Role, Suite, Version};
