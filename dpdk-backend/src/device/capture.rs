//! A rolling capture: the last frames of a queue, for the analysis of a fault.
//!
//! ```text
//!   queue's thread ── remember (never waits) ──► ring ◄── pcap (locks for a copy) ── reader
//! ```
//!
//! The ring's memory is reserved at once. A frame costs its thread a copy of the kept bytes. While
//! the ring is being read, frames pass without being kept, and are counted: the thread that moves
//! frames never waits.

use super::loopback::FRAME_SIZE_MAX;
use super::seam::{Capabilities, Device, DeviceFull, Frame, Received};
use netpoll::{BufferPools, LentMemory, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a pcap file's header, and of the header of each frame in it.
const FILE_HEADER_SIZE: usize = 24;
const RECORD_HEADER_SIZE: usize = 16;
/// The fewest bytes of a frame that are kept: the headers of Ethernet and IP and most of TCP's.
pub const SNAP_SIZE_MIN: usize = 64;

/// A frame in a ring.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Nanoseconds since 1970.
    at: u64,
    /// Bytes of the frame, and bytes of it that are kept.
    size: u32,
    kept: u32,
}

/// Invariant: frame `n` of all frames so far is in place `n % slots.len()`.
#[derive(Debug)]
struct Ring {
    slots: Vec<Slot>,
    bytes: Vec<u8>,
    snap_size: usize,
    count: u64,
    /// The time at which the queue's clock was zero, in nanoseconds since 1970.
    started: u64,
}

impl Ring {
    fn remember(&mut self, at: Timestamp, frame: &Frame<'_>) {
        let place = (self.count % self.slots.len() as u64) as usize;
        let start = place * self.snap_size;
        let kept = frame.gather(&mut self.bytes[start..start + self.snap_size]);
        let at = self.started.saturating_add(at.as_nanos());
        self.slots[place] = Slot { at, size: frame.size() as u32, kept: kept as u32 };
        self.count += 1;
    }

    /// The numbers of the frames in the ring.
    fn numbers(&self) -> std::ops::Range<u64> {
        self.count.saturating_sub(self.slots.len() as u64)..self.count
    }

    fn frame(&self, number: u64) -> (Slot, &[u8]) {
        let place = (number % self.slots.len() as u64) as usize;
        let start = place * self.snap_size;
        let slot = self.slots[place];
        (slot, &self.bytes[start..start + slot.kept as usize])
    }
}

/// The last frames of one queue. Clones share them.
#[derive(Clone, Debug)]
pub struct CaptureRing(Arc<Mutex<Ring>>);

impl CaptureRing {
    /// For the last `frames_max` frames, at least one; `snap_size` bytes of each ([`SNAP_SIZE_MIN`]
    /// to 9216).
    pub fn new(frames_max: usize, snap_size: usize) -> CaptureRing {
        let (frames_max, snap_size) = (frames_max.max(1), snap_size.clamp(SNAP_SIZE_MIN, FRAME_SIZE_MAX));
        let slots = vec![Slot::default(); frames_max];
        let bytes = vec![0; frames_max * snap_size];
        CaptureRing(Arc::new(Mutex::new(Ring { slots, bytes, snap_size, count: 0, started: 0 })))
    }

    /// Bytes that such a ring reserves. A file of it is no larger, except for the file's header.
    pub const fn memory(frames_max: usize, snap_size: usize) -> usize {
        frames_max * (snap_size + size_of::<Slot>())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const _: () = assert!(size_of::<Slot>() >= RECORD_HEADER_SIZE, "a file is no larger than its ring");

/// The frames of `rings` as one pcap file (nanosecond times, Ethernet), by time. The queues keep no
/// frames while they are copied, about a millisecond for some thousand frames.
pub fn pcap(rings: &[CaptureRing]) -> Vec<u8> {
    let rings: Vec<MutexGuard<'_, Ring>> = rings.iter().map(CaptureRing::lock).collect();
    let snap_size = rings.iter().map(|ring| ring.snap_size).max().unwrap_or(SNAP_SIZE_MIN);
    let kept = |ring: &MutexGuard<'_, Ring>| -> usize {
        ring.numbers().map(|number| RECORD_HEADER_SIZE + ring.frame(number).1.len()).sum()
    };
    let mut out = Vec::with_capacity(FILE_HEADER_SIZE + rings.iter().map(kept).sum::<usize>());
    let mut write = |words: &[u32]| words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    // Magic of nanosecond files, version 2.4, no zone, no accuracy, snap size, LINKTYPE_ETHERNET.
    write(&[0xa1b2_3c4d, 4 << 16 | 2, 0, 0, snap_size as u32, 1]);
    let mut next: Vec<std::ops::Range<u64>> = rings.iter().map(|ring| ring.numbers()).collect();
    let oldest = |next: &[std::ops::Range<u64>]| {
        let heads = next.iter().enumerate().filter(|(_, left)| !left.is_empty());
        heads.min_by_key(|(queue, left)| rings[*queue].frame(left.start).0.at).map(|(queue, _)| queue)
    };
    while let Some(queue) = oldest(&next) {
        let number = next[queue].start;
        next[queue].start += 1;
        let (Slot { at, size, kept }, bytes) = rings[queue].frame(number);
        let (seconds, nanos) = (at / 1_000_000_000, at % 1_000_000_000);
        for word in [seconds as u32, nanos as u32, kept, size] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(bytes);
    }
    out
}

/// A device that keeps its last frames in a ring, if it has one.
#[derive(Debug)]
pub struct Capture<D> {
    inner: D,
    ring: Option<CaptureRing>,
    /// Frames that passed while the ring was being read.
    missed: u64,
}

impl<D: Device> Capture<D> {
    /// Over `inner`. `started` is the time at which the device's clock was zero, in nanoseconds
    /// since 1970.
    pub fn new(inner: D, ring: Option<CaptureRing>, started: u64) -> Capture<D> {
        if let Some(ring) = &ring {
            ring.lock().started = started;
        }
        Capture { inner, ring, missed: 0 }
    }

    /// The device itself.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The device itself.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Keeps frames, unless the ring is being read.
    fn remember<'a>(&mut self, at: Timestamp, frames: impl ExactSizeIterator<Item = Frame<'a>>) {
        let Some(ring) = self.ring.as_ref().filter(|_| frames.len() > 0) else { return };
        match ring.0.try_lock() {
            Ok(mut ring) => frames.for_each(|frame| ring.remember(at, &frame)),
            Err(_) => self.missed += frames.len() as u64,
        }
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
        self.remember(now, frames[before..].iter().map(|frame| Frame::whole(frame.buffer.as_slice())));
    }

    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        self.inner.transmit(now, frame)?;
        self.remember(now, std::iter::once(*frame));
        Ok(())
    }

    fn transmit_burst(&mut self, now: Timestamp) {
        self.inner.transmit_burst(now);
    }

    fn counters(&mut self, tell: &mut dyn FnMut(&'static str, u64)) {
        if self.ring.is_some() {
            tell("capture_missed", self.missed);
        }
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

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    /// Frames of a file: when, how long, what was kept.
    fn frames(mut file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
        let word =
            |bytes: &[u8], place: usize| u32::from_le_bytes(bytes[4 * place..][..4].try_into().unwrap());
        assert_eq!((word(file, 0), word(file, 5)), (0xa1b2_3c4d, 1));
        file = &file[FILE_HEADER_SIZE..];
        let mut all = vec![];
        while !file.is_empty() {
            let (time, kept) =
                (u64::from(word(file, 0)) * 1_000_000_000 + u64::from(word(file, 1)), word(file, 2));
            let (record, rest) = file.split_at(RECORD_HEADER_SIZE + kept as usize);
            all.push((time, word(record, 3), record[RECORD_HEADER_SIZE..].to_vec()));
            file = rest;
        }
        all
    }

    #[test]
    fn the_last_frames_are_written_as_pcap() {
        let (a, _b) = Loopback::pair(8);
        let ring = CaptureRing::new(2, 64);
        let mut capture = Capture::new(a, Some(ring.clone()), 1_700_000_000_000_000_000);
        assert_eq!(pcap(std::slice::from_ref(&ring)).len(), FILE_HEADER_SIZE);
        for number in 0..3_u8 {
            capture.transmit(at(1_500_000_000 + u64::from(number)), &Frame::whole(&[number; 100])).unwrap();
        }
        let file = pcap(&[ring]);
        assert_eq!(file.len(), FILE_HEADER_SIZE + 2 * (RECORD_HEADER_SIZE + 64));
        assert!(file.len() <= FILE_HEADER_SIZE + CaptureRing::memory(2, 64));
        assert_eq!(file[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        let expected: Vec<_> = (1..3)
            .map(|number| (1_700_000_001_500_000_000 + u64::from(number), 100, vec![number; 64]))
            .collect();
        assert_eq!(frames(&file), expected, "the oldest had to go");
    }

    #[test]
    fn frames_of_several_queues_are_in_the_order_of_time() {
        let rings = [CaptureRing::new(4, 64), CaptureRing::new(4, 64)];
        let (a, b) = Loopback::pair(8);
        // The second queue's clock began a microsecond later.
        let mut queues =
            [Capture::new(a, Some(rings[0].clone()), 0), Capture::new(b, Some(rings[1].clone()), 1000)];
        for (queue, time) in [(0, 10), (0, 2000), (1, 0), (1, 500), (1, 1500)] {
            queues[queue].transmit(at(time), &Frame::whole(&[queue as u8; 60])).unwrap();
        }
        let order: Vec<(u64, u8)> =
            frames(&pcap(&rings)).iter().map(|(time, _, bytes)| (*time, bytes[0])).collect();
        assert_eq!(order, [(10, 0), (1000, 1), (1500, 1), (2000, 0), (2500, 1)]);
    }

    #[test]
    fn who_reads_keeps_nobody_waiting() {
        let (a, _b) = Loopback::pair(8);
        let ring = CaptureRing::new(2, 64);
        let mut capture = Capture::new(a, Some(ring.clone()), 0);
        let reading = ring.lock();
        capture.transmit(at(1), &Frame::whole(&[1; 60])).unwrap();
        drop(reading);
        capture.transmit(at(2), &Frame::whole(&[2; 60])).unwrap();
        let mut told = vec![];
        capture.counters(&mut |name, count| told.push((name, count)));
        assert_eq!((told[0], frames(&pcap(&[ring])).len()), (("capture_missed", 1), 1));
    }
}
