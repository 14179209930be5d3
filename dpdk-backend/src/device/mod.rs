//! What moves frames: a port, an in-memory link, and layers around either.
//!
//! A frame that came in is a [`netpoll::Buffer`]: on a port its block is the mbuf's data room. A
//! frame that leaves is a header, made anew for each transmission, and a payload by reference; what
//! the device can't do (checksums, cutting into segments, several pieces) the stack has done
//! before.

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
