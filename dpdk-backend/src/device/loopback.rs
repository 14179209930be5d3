//! Two ends of a cable in memory. Frames are copied into a ring of fixed size, as a network card
//! does with DMA.
//!
//! A full ring drops new frames (tail drop), as a switch does. A pool without a buffer leaves
//! frames in the ring.

use super::seam::{Capabilities, Device, DeviceFull, Frame, Received};
use crate::wire::tcp::{self, Flags};
use crate::wire::{ethernet, ipv4, ipv6};
use netpoll::{BufferPools, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of the largest frame that the cable carries.
pub(super) const FRAME_SIZE_MAX: usize = 9216;

/// Frames in order, in memory reserved at once.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
    first: usize,
    count: usize,
    dropped: u64,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Ring {
        Ring {
            bytes: vec![0; capacity * FRAME_SIZE_MAX],
            sizes: vec![0; capacity],
            first: 0,
            count: 0,
            dropped: 0,
        }
    }

    /// Fills a place for a frame, unless the ring is full.
    pub(super) fn push(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        if self.count == self.sizes.len() {
            self.dropped += 1;
            return;
        }
        let place = (self.first + self.count) % self.sizes.len();
        let start = place * FRAME_SIZE_MAX;
        self.sizes[place] = fill(&mut self.bytes[start..start + FRAME_SIZE_MAX]);
        self.count += 1;
    }

    pub(super) fn front(&self) -> Option<&[u8]> {
        let start = self.first * FRAME_SIZE_MAX;
        (self.count > 0).then(|| &self.bytes[start..start + self.sizes[self.first]])
    }

    pub(super) fn pop(&mut self) {
        self.first = (self.first + 1) % self.sizes.len();
        self.count -= 1;
    }
}

/// One end.
#[derive(Debug)]
pub struct Loopback {
    incoming: Arc<Mutex<Ring>>,
    outgoing: Arc<Mutex<Ring>>,
    capabilities: Capabilities,
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loopback {
    /// Both ends of a cable that holds `capacity` frames each way.
    pub fn pair(capacity: usize) -> (Loopback, Loopback) {
        let rings = [(); 2].map(|()| Arc::new(Mutex::new(Ring::new(capacity.max(1)))));
        let [a, b] = rings;
        let end = |incoming: &Arc<Mutex<Ring>>, outgoing: &Arc<Mutex<Ring>>| Loopback {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            capabilities: Capabilities::default(),
        };
        (end(&a, &b), end(&b, &a))
    }

    /// The same end, which now fills in checksums and cuts segments, as cards do.
    #[must_use]
    pub fn with_offloads(mut self, segmentation_max: u32) -> Loopback {
        let segmentation_max = segmentation_max.min(FRAME_SIZE_MAX as u32 - 256);
        self.capabilities = Capabilities { transmit_checksums: true, segmentation_max };
        self
    }

    /// Frames on their way to this end.
    pub fn waiting(&self) -> usize {
        lock(&self.incoming).count
    }

    /// Frames to this end that found the ring full.
    pub fn dropped(&self) -> u64 {
        lock(&self.incoming).dropped
    }
}

impl Device for Loopback {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive_burst(&mut self, _now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        let mut ring = lock(&self.incoming);
        while frames.len() < frames.capacity() {
            let Some(frame) = ring.front() else { return };
            let Some(mut buffer) = pools.take_receive() else { return };
            buffer.append(frame);
            ring.pop();
            frames.push(Received { buffer, checksums_verified: false });
        }
    }

    fn transmit(&mut self, _now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        let mut ring = lock(&self.outgoing);
        if frame.offload.segment_size == 0 {
            ring.push(|out| {
                let size = frame.gather(out);
                if frame.offload.checksum {
                    finish_checksum(&mut out[..size], usize::from(frame.offload.ip_size));
                }
                size
            });
            return Ok(());
        }
        let mut whole = [0; FRAME_SIZE_MAX];
        let size = frame.gather(&mut whole);
        for_each_segment(&whole[..size], frame, |fill| ring.push(fill));
        Ok(())
    }

    fn transmit_burst(&mut self, _now: Timestamp) {}
}

/// Completes the TCP checksum of a frame with the pseudo-header's sum in its field.
fn finish_checksum(frame: &mut [u8], ip_size: usize) {
    let segment = frame.get_mut(ethernet::HEADER_SIZE + ip_size..).unwrap_or_default();
    if let Ok(mut segment) = tcp::Packet::new_checked(segment) {
        segment.complete_checksum();
    }
}

/// Cuts a large frame as a card does: increases sequence numbers, and keeps FIN and PSH for the
/// last segment.
fn for_each_segment(
    whole: &[u8],
    frame: &Frame<'_>,
    mut push: impl FnMut(&mut dyn FnMut(&mut [u8]) -> usize),
) {
    let (ip_size, tcp_size) = (usize::from(frame.offload.ip_size), usize::from(frame.offload.tcp_size));
    let header_size = ethernet::HEADER_SIZE + ip_size + tcp_size;
    let Some((header, payload)) = whole.split_at_checked(header_size) else { return };
    let size_max = usize::from(frame.offload.segment_size);
    // The pseudo-header's sum in the field covers the whole length. Each segment has its own.
    let whole_size = (tcp_size + payload.len()) as u16;
    for (number, part) in payload.chunks(size_max).enumerate() {
        let offset = number * size_max;
        let is_last = offset + part.len() == payload.len();
        push(&mut |out| {
            let size = header_size + part.len();
            out[..header_size].copy_from_slice(header);
            out[header_size..size].copy_from_slice(part);
            let (ip, segment) = out[ethernet::HEADER_SIZE..size].split_at_mut(ip_size);
            let segment_size = segment.len() as u16;
            if let Ok(mut packet) = ipv4::Packet::new_checked(&mut *ip) {
                packet.set_payload_size(segment_size);
            } else if let Ok(mut packet) = ipv6::Packet::new_checked(ip) {
                packet.set_payload_size(segment_size);
            }
            if let Ok(mut segment) = tcp::Packet::new_checked(segment) {
                segment.set_sequence(segment.sequence().wrapping_add(offset as u32));
                if !is_last {
                    segment.set_flags(segment.flags().without(Flags::FIN.with(Flags::PSH)));
                }
                segment.change_pseudo_length(whole_size, segment_size);
                segment.complete_checksum();
            }
            size
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::BackendConfig;

    #[test]
    fn frames_arrive_in_order_and_wait_for_buffers() {
        let (mut a, mut b) = Loopback::pair(4);
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        for number in 0..5_u8 {
            a.transmit(Timestamp::ZERO, &Frame::whole(&[number; 60])).unwrap();
        }
        assert_eq!((b.waiting(), b.dropped()), (4, 1));
        let mut frames = Vec::with_capacity(2);
        b.receive_burst(Timestamp::ZERO, &mut pools, &mut frames);
        let firsts: Vec<u8> = frames.iter().map(|frame| frame.buffer.as_slice()[0]).collect();
        assert_eq!(firsts, [0, 1]);
        assert_eq!(b.waiting(), 2);
    }
}
