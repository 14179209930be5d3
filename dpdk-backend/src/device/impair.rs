//! A bad line: delay, reordering, duplicates, losses and flipped bits, drawn from a seed.
//!
//! It wraps a device and changes what that sends. Frames on their way are in a store of fixed size,
//! sorted by their due time. A full store loses frames, as a router does.

use super::loopback::FRAME_SIZE_MAX;
use super::seam::{Device, DeviceFull, Frame, Received};
use crate::wire::ethernet;
use netpoll::sim::Rng;
use netpoll::{BufferPools, FixedSlab, LentMemory, Slot, Timestamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// The faults of a line. Probabilities are per frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImpairConfig {
    /// Probability that a frame is lost.
    pub drop: f64,
    /// Probability that it is delivered twice.
    pub duplicate: f64,
    /// Probability that one of its bits is flipped.
    pub corrupt: f64,
    /// Probability that it takes up to `reorder_delay` longer than others.
    pub reorder: f64,
    /// The shortest delay.
    pub delay: Duration,
    /// Added to `delay` at random, without changing the order.
    pub jitter: Duration,
    /// The longest additional delay of a reordered frame.
    pub reorder_delay: Duration,
    /// Frames on the way at most.
    pub frames_max: usize,
}

impl ImpairConfig {
    /// A perfect line of the given delay.
    pub fn calm(delay: Duration) -> ImpairConfig {
        ImpairConfig {
            drop: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            delay,
            jitter: Duration::ZERO,
            reorder_delay: Duration::ZERO,
            frames_max: 1024,
        }
    }

    /// A line with drawn faults: from none to a fifth of all frames lost.
    pub fn drawn(rng: &mut Rng) -> ImpairConfig {
        let mut odds = |most: f64| {
            let share = [0.0, 0.0, 0.1, 0.3, 1.0][rng.below(5)];
            most * share
        };
        let (drop, duplicate, corrupt, reorder) = (odds(0.2), odds(0.1), odds(0.05), odds(0.3));
        let ms = |rng: &mut Rng, most: usize| Duration::from_micros(rng.below(most * 1000 + 1) as u64);
        ImpairConfig {
            drop,
            duplicate,
            corrupt,
            reorder,
            delay: ms(rng, 50),
            jitter: ms(rng, 10),
            reorder_delay: ms(rng, 60),
            frames_max: 1024,
        }
    }
}

/// A device behind a bad line.
#[derive(Debug)]
pub struct Impair<D> {
    inner: D,
    config: ImpairConfig,
    rng: Rng,
    /// The size of each frame on its way.
    sizes: FixedSlab<usize>,
    /// [`FRAME_SIZE_MAX`] bytes for each slot of `sizes`.
    bytes: Vec<u8>,
    /// Due time, order of arrival, index of the slot.
    due: BinaryHeap<Reverse<(Timestamp, u64, u32)>>,
    count: u64,
    last_due: Timestamp,
    lost: u64,
}

impl<D: Device> Impair<D> {
    /// Puts `inner` behind a line with the faults of `config`, drawn from `seed`.
    pub fn new(inner: D, config: ImpairConfig, seed: u64) -> Impair<D> {
        Impair {
            inner,
            config,
            rng: Rng::new(seed),
            bytes: vec![0; config.frames_max * FRAME_SIZE_MAX],
            sizes: FixedSlab::new(config.frames_max),
            due: BinaryHeap::with_capacity(config.frames_max),
            count: 0,
            last_due: Timestamp::ZERO,
            lost: 0,
        }
    }

    /// The device behind the line.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Changes the faults from now on.
    pub fn set_config(&mut self, config: ImpairConfig) {
        self.config = ImpairConfig { frames_max: self.config.frames_max, ..config };
    }

    /// Frames on their way.
    pub fn on_the_way(&self) -> usize {
        self.due.len()
    }

    /// Frames lost, for any reason.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn enqueue(&mut self, now: Timestamp, frame: &Frame<'_>) {
        let Ok(slot) = self.sizes.insert(0) else {
            self.lost += 1;
            return;
        };
        let place = &mut self.bytes[slot.index() as usize * FRAME_SIZE_MAX..][..FRAME_SIZE_MAX];
        let size = frame.gather(place);
        self.sizes[slot] = size;
        // The line's own checksum detects what the line breaks. Errors that get through happened in
        // a router, behind the Ethernet header, and ARP passes no router.
        let start = ethernet::HEADER_SIZE;
        let is_routed = ethernet::Packet::new_checked(&place[..size])
            .is_ok_and(|frame| size > start && frame.ether_type() != ethernet::ARP);
        if is_routed && self.rng.chance(self.config.corrupt) {
            let bit = self.rng.below((size - start) * 8);
            place[start + bit / 8] ^= 1 << (bit % 8);
        }
        let random = |rng: &mut Rng, most: Duration| {
            Duration::from_nanos(if most.is_zero() { 0 } else { rng.below(most.as_nanos() as usize) as u64 })
        };
        let due = if self.rng.chance(self.config.reorder) {
            now + self.config.delay + random(&mut self.rng, self.config.reorder_delay)
        } else {
            let due =
                (now + self.config.delay + random(&mut self.rng, self.config.jitter)).max(self.last_due);
            self.last_due = due;
            due
        };
        self.due.push(Reverse((due, self.count, slot.index())));
        self.count += 1;
    }

    fn deliver(&mut self, now: Timestamp) {
        while let Some(Reverse((due, _, index))) = self.due.peek().copied() {
            if due > now {
                return;
            }
            let slot = Slot::new(index);
            let start = index as usize * FRAME_SIZE_MAX;
            let frame = Frame::whole(&self.bytes[start..start + self.sizes[slot]]);
            if self.inner.transmit(now, &frame).is_err() {
                return;
            }
            self.due.pop();
            self.sizes.release(slot);
        }
    }
}

impl<D: Device> Device for Impair<D> {
    fn receive_memory(&mut self) -> Option<LentMemory> {
        self.inner.receive_memory()
    }

    fn receive_burst(&mut self, now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        self.inner.receive_burst(now, pools, frames);
    }

    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        if self.rng.chance(self.config.drop) {
            self.lost += 1;
            return Ok(());
        }
        self.enqueue(now, frame);
        if self.rng.chance(self.config.duplicate) {
            self.enqueue(now, frame);
        }
        Ok(())
    }

    fn transmit_burst(&mut self, now: Timestamp) {
        self.deliver(now);
        self.inner.transmit_burst(now);
    }

    fn counters(&mut self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.inner.counters(tell);
    }

    fn next_arrival(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((due, _, _))| *due)
    }
}
