//! Handshakes by rustls, and everything that is known of rustls.
//!
//! ```text
//!   bytes ─► HelloScan: whole ClientHello? ─► Acceptor::begin ─► Machine::step ─► More: bytes for
//!                                                                   ▲    │         the peer
//!                                                                   └────┤
//!                                                                        ├─► Done(Established)
//!                                                                        └─► Failed, with an alert
//! ```
//!
//! No object of rustls exists before the ClientHello is whole. A machine is fed one record at a
//! time: rustls then stops exactly behind Finished, and what follows is the record layer's.
//!
//! Where the keys come from: in TLS 1.3 the traffic secrets are caught in the key log (`capture`),
//! for only a secret can follow a KeyUpdate; in TLS 1.2 keys and IVs are extracted. Sequence
//! numbers are extracted in both.

mod capture;
mod certificates;
mod failure;
mod hello;
mod machine;
mod settings;
mod tickets;

pub use certificates::{CertificateEntry, CertificateError, CertificateStore, Certificates};
pub use failure::HandshakeError;
pub use hello::{HELLO_BYTES_MAX, HELLO_SIZE_MAX, HelloScan};
pub use machine::{Established, HANDSHAKE_BYTES_MAX, Machine, Peer, Step};
pub use settings::{Acceptor, Connector, ServerSettings, SetupError, Trust};
pub use tickets::{TICKET_LIFETIME_S, TicketKey, TicketKeys, Ticketer};
