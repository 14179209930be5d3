//! A rolling capture: the last frames that passed, to be written as a pcap file when something went wrong.

use super::loopback::FRAME_SIZE_MAX;
use super::{Capabilities, Device, DeviceFull, Frame, Received};
use netpoll::{BufferPools, LentMemory, Timestamp};
use std::io::{self, Write};

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came in.
    In,
    /// It left.
    Out,
}

#[derive(Clone, Debug)]
struct Slot {
    at: Timestamp,
    direction: Direction,
    /// Bytes of the frame, and how many of them are kept.
    size: usize,
    kept: usize,
}

/// A device whose last frames are remembered.
#[derive(Debug)]
pub struct Capture<D> {
    inner: D,
    slots: Vec<Slot>,
    bytes: Vec<u8>,
    snap_size: usize,
    count: u64,
    is_on: bool,
}

impl<D: Device> Capture<D> {
    /// Remembers the last `frames_max` frames, `snap_size` bytes of each; switched on.
    pub fn new(inner: D, frames_max: usize, snap_size: usize) -> Capture<D> {
        let snap_size = snap_size.clamp(64, FRAME_SIZE_MAX);
        let slot = Slot { at: Timestamp::ZERO, direction: Direction::In, size: 0, kept: 0 };
        let frames_max = frames_max.max(1);
        Capture {
            inner,
            slots: vec![slot; frames_max],
            bytes: vec![0; frames_max * snap_size],
            snap_size,
            count: 0,
            is_on: true,
        }
    }

    /// Switches the capture on or off; what was captured stays.
    pub fn set_on(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// The device itself.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The device itself.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// The frames, oldest first: when, which way, how long it was, what was kept of it.
    pub fn frames(&self) -> impl Iterator<Item = (Timestamp, Direction, usize, &[u8])> {
        let total = self.slots.len() as u64;
        (self.count.saturating_sub(total)..self.count).map(move |number| {
            let place = (number % total) as usize;
            let slot = &self.slots[place];
            let start = place * self.snap_size;
            (slot.at, slot.direction, slot.size, &self.bytes[start..start + slot.kept])
        })
    }

    /// Writes them in the pcap format (nanosecond times, Ethernet).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_pcap(&self, out: &mut impl Write) -> io::Result<()> {
        // Magic of nanosecond files, version 2.4, no zone, no accuracy, snap size, LINKTYPE_ETHERNET.
        for word in [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, self.snap_size as u32, 1] {
            out.write_all(&word.to_le_bytes())?;
        }
        for (at, _, size, kept) in self.frames() {
            let nanos = at.as_nanos();
            for word in [nanos / 1_000_000_000, nanos % 1_000_000_000, kept.len() as u64, size as u64] {
                out.write_all(&(word as u32).to_le_bytes())?;
            }
            out.write_all(kept)?;
        }
        Ok(())
    }

    fn remember(&mut self, at: Timestamp, direction: Direction, frame: &Frame<'_>) {
        let place = (self.count % self.slots.len() as u64) as usize;
        let start = place * self.snap_size;
        let kept = frame.gather(&mut self.bytes[start..start + self.snap_size]);
        self.slots[place] = Slot { at, direction, size: frame.size(), kept };
        self.count += 1;
    }
}

impl<D: Device> Device for Capture<D> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive_memory(&mut self) -> Option<LentMemory> {
        self.inner.receive_memory()
    }

    fn receive_burst(&mut self, now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        let before = frames.len();
        self.inner.receive_burst(now, pools, frames);
        if self.is_on {
            for frame in &frames[before..] {
                self.remember(now, Direction::In, &Frame::whole(frame.buffer.as_slice()));
            }
        }
    }

    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        self.inner.transmit(now, frame)?;
        if self.is_on {
            self.remember(now, Direction::Out, frame);
        }
        Ok(())
    }

    fn transmit_burst(&mut self, now: Timestamp) {
        self.inner.transmit_burst(now);
    }

    fn counters(&mut self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.inner.counters(tell);
    }

    fn next_arrival(&self) -> Option<Timestamp> {
        self.inner.next_arrival()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loopback;
    use super::*;

    #[test]
    fn the_last_frames_are_written_as_pcap() {
        let (a, _b) = Loopback::pair(8);
        let mut capture = Capture::new(a, 2, 64);
        for number in 0..3_u8 {
            let now = Timestamp::from_nanos(1_500_000_000 + u64::from(number));
            capture.transmit(now, &Frame::whole(&[number; 100])).unwrap();
        }
        let mut file = vec![];
        capture.write_pcap(&mut file).unwrap();
        assert_eq!(file.len(), 24 + 2 * (16 + 64));
        assert_eq!(file[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        assert_eq!(file[24..40], [1, 0, 0, 0, 1, 0x65, 0xcd, 0x1d, 64, 0, 0, 0, 100, 0, 0, 0]);
        assert_eq!(file[40], 1, "the oldest had to go");
    }
}
