//! The seam between the stack and what moves frames: [`Device`], and what passes it.

use super::payload::Payload;
use netpoll::{Buffer, BufferPools, LentMemory, Timestamp};

/// Frames that are received, and handled, at once.
pub const BURST: usize = 32;
/// Receive buffers that the owner of a stack never gets: two bursts.
pub(crate) const RECEIVE_RESERVE: u32 = 2 * BURST as u32;

/// What a device takes off the processor's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It fills in TCP checksums; the field holds the pseudo-header's sum.
    pub transmit_checksums: bool,
    /// It cuts payloads of up to so many bytes into segments; 0: it does not.
    pub segmentation_max: u32,
}

/// A frame that came in.
#[derive(Debug)]
pub struct Received {
    /// The frame, from its Ethernet header on.
    pub buffer: Buffer,
    /// The device has checked the IP and TCP checksums and found them right.
    pub checksums_verified: bool,
}

/// What a device still has to do to a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Fill in the TCP checksum.
    pub checksum: bool,
    /// Cut the payload into segments of this size; 0: leave it whole.
    pub segment_size: u16,
    /// Bytes of the IP header, behind [`crate::wire::ethernet::HEADER_SIZE`].
    pub ip_size: u8,
    /// Bytes of the TCP header.
    pub tcp_size: u8,
}

/// A frame that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its headers, or all of it.
    pub header: &'a [u8],
    /// What follows them.
    pub payload: Payload<'a>,
    /// What is left to do.
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

    /// Writes the frame into one slice, as far as that reaches; returns how many bytes it wrote.
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

/// A queue pair of a port, or what stands for one.
pub trait Device {
    /// What it does by itself. Does not change.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// The memory that frames come in by, where that is the device's own. Asked for once, before
    /// anything else; without it frames come in by the stack's own buffers.
    fn receive_memory(&mut self) -> Option<LentMemory> {
        None
    }

    /// Appends frames that came in, no more than `frames` has spare capacity; buffers come from the
    /// receive pool. What finds no buffer waits or is lost, as devices do.
    fn receive_burst(&mut self, now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>);

    /// Queues a frame for the next [`Device::transmit_burst`].
    ///
    /// # Errors
    /// [`DeviceFull`]; the frame may be offered again after the burst.
    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull>;

    /// Hands what was queued to the line.
    fn transmit_burst(&mut self, now: Timestamp);

    /// Tells what the device counts by itself.
    fn counters(&mut self, _tell: &mut dyn FnMut(&'static str, u64)) {}

    /// When it will have something without anybody sending, if it knows; devices with a clock of
    /// their own don't.
    fn next_arrival(&self) -> Option<Timestamp> {
        None
    }
}
