//! The host on its link: addresses, neighbors, and answers that need no connection.
//!
//! Answers are put in a bounded queue of control frames, which leave at the next poll before
//! anything else. Every kind of answer has a rate limit; above it there is no answer, which is
//! counted. Frames that a poll itself makes (the SYN, acknowledgement or reset of a connection)
//! never find the queue full: it is emptied in between, or the poll stops.

mod address;
mod arp;
mod duplicates;
mod frames;
mod icmp;
mod interface;
mod ndp;
mod neighbor;

pub use address::{AddressConfig, AddressWatch, InterfaceConfig};
pub(crate) use frames::{HEADER_SIZE_MAX, TcpFrame};
pub(crate) use icmp::{IcmpError, IcmpPacket};
pub(crate) use interface::{Interface, SMALL_SIZE_MAX};
