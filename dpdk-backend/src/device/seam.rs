//! The interface between the stack and devices: [`Device`], and the types that pass it.

use super::payload::Payload;
use netpoll::{Buffer, BufferPools, LentMemory, Timestamp};

/// Frames that are received and handled at once.
pub const BURST: usize = 32;
/// Receive buffers that the owner of a stack never gets: two bursts.
pub(crate) const RECEIVE_RESERVE: u32 = 2 * BURST as u32;

/// The work that a device does instead of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It fills in TCP checksums. The field holds the pseudo-header's sum.
    pub transmit_checksums: bool,
    /// Bytes of the largest payload that it cuts into segments; 0: it cuts none.
    pub segmentation_max: u32,
}

/// A received frame.
#[derive(Debug)]
pub struct Received {
    /// The frame, from its Ethernet header on.
    pub buffer: Buffer,
    /// Whether the device has verified the IP and TCP checksums.
    pub checksums_verified: bool,
}

/// The work that is left to the device for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Fill in the TCP checksum.
    pub checksum: bool,
    /// Cut the payload into segments of this size; 0: do not cut it.
    pub segment_size: u16,
    /// Bytes of the IP header, behind [`crate::wire::ethernet::HEADER_SIZE`].
    pub ip_size: u8,
    /// Bytes of the TCP header.
    pub tcp_size: u8,
}

/// A frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its headers, or all of it.
    pub header: &'a [u8],
    /// What follows them.
    pub payload: Payload<'a>,
    /// The work that is left to the device.
    pub offload: Offload,
}

impl<'a> Frame<'a> {
    /// A frame that is complete in one slice.
    pub fn whole(bytes: &'a [u8]) -> Frame<'a> {
        Frame { header: bytes, payload: Payload::EMPTY, offload: Offload::default() }
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Writes the frame into one slice, as far as it fits. Returns the bytes written.
    pub fn gather(&self, out: &mut [u8]) -> usize {
        let pieces = self.payload.map(|(buffer, range)| &buffer[range]);
        let mut size = 0;
        for part in std::iter::once(self.header).chain(pieces) {
            let count = part.len().min(out.len() - size);
            out[size..size + count].copy_from_slice(&part[..count]);
            size += count;
        }
        size
    }
}

/// The device's queue has no room for another frame now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFull;

/// A queue pair of a port, or a substitute for one.
pub trait Device {
    /// What the device supports. Does not change.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// The device's own receive memory, if it has any. Called once, before anything else. Without
    /// it frames are received in the stack's buffers.
    fn receive_memory(&mut self) -> Option<LentMemory> {
        None
    }

    /// Appends received frames, at most as many as `frames` has spare capacity. Their buffers are
    /// from the receive pool. A frame without a buffer waits or is lost.
    fn receive_burst(&mut self, now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>);

    /// Queues a frame for the next [`Device::transmit_burst`].
    ///
    /// # Errors
    /// [`DeviceFull`]; the frame may be offered again after the burst.
    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull>;

    /// Gives the queued frames to the line.
    fn transmit_burst(&mut self, now: Timestamp);

    /// Calls `tell` with each counter of the device.
    fn counters(&mut self, _tell: &mut dyn FnMut(&'static str, u64)) {}

    /// The time of the next frame that will be received without another being sent, if it is known.
    /// Devices with a clock of their own do not know it.
    fn next_arrival(&self) -> Option<Timestamp> {
        None
    }
}
