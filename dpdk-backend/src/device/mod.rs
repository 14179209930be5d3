//! Devices that move frames: a port, an in-memory link, and layers around either.
//!
//! A received frame is a [`netpoll::Buffer`]: on a port its block is the mbuf's data room. A frame
//! to send is a header, written for each transmission, and a payload by reference. What a device
//! does not support (checksums, segmentation, several pieces) the stack has done before.

mod capture;
mod impair;
mod loopback;
mod payload;
mod seam;
mod siblings;
mod syn_flood;

pub use capture::{Capture, CaptureRing, SNAP_SIZE_MIN, pcap};
pub use impair::{Impair, ImpairConfig};
pub use loopback::Loopback;
pub use payload::Payload;
pub(crate) use seam::RECEIVE_RESERVE;
pub use seam::{BURST, Capabilities, Device, DeviceFull, Frame, Offload, Received};
pub use siblings::{Sibling, siblings};
pub use syn_flood::{FloodSwitch, SynFlood};
