//! The host on its link: addresses, neighbours, and the answers that need no connection.
//!
//! What has to be said in answer to a frame is put in a bounded queue of control frames, which
//! leave at the next poll before anything else. Every kind of answer has a rate; the answer to a
//! storm is silence, counted. What a poll itself makes (the SYN, acknowledgement or reset of a
//! connection) never finds the queue full: it is emptied in between, or the poll stops.

mod address;
mod arp;
mod duplicates;
mod frames;
mod icmp;
mod interface;
mod ndp;
mod neighbour;

pub use address::{AddressConfig, AddressWatch, InterfaceConfig};
pub(crate) use frames::{HEADER_SIZE_MAX, TcpFrame};
pub(crate) use icmp::{IcmpError, IcmpPacket};
pub(crate) use interface::{Interface, SMALL_SIZE_MAX};
