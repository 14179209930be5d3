//! One lazily re-armed timer for each connection.
//!
//! A hashed wheel (Varghese & Lauck, 1987, scheme 6): `SLOTS` lists, one a tick, and a hand that
//! visits a list a tick. A timer is a node in a parallel array, addressed by the connection's
//! index: 12 bytes each, no allocation, O(1) to set and to cancel.
//!
//! Traffic does not touch the wheel. A session notes when bytes of its peer last arrived. When its
//! timer fires, the peer was silent for the whole time, or the session sets the timer again for the
//! rest. A deadline beyond the horizon fires early and is set again, by the same rule.

use crate::Timestamp;
use std::time::Duration;

const SLOTS: usize = 8192;
const NONE: u32 = u32::MAX;
const UNSET: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    previous: u32,
    /// The slot that the node is listed in, or `UNSET`.
    slot: u32,
}

const _: () = assert!(size_of::<Node>() == 12);

/// Timers for indexes below a fixed capacity, one each.
///
/// Invariant: node `i` is in exactly the list of `nodes[i].slot`, or in none when that is `UNSET`.
#[derive(Debug)]
pub struct TimerWheel {
    nodes: Vec<Node>,
    heads: Box<[u32]>,
    tick: Duration,
    /// Ticks passed: the hand stands at slot `hand % SLOTS`, whose list is being emptied.
    hand: u64,
    armed: usize,
}

impl TimerWheel {
    /// Bytes that one timer takes.
    pub const BYTES_PER_TIMER: usize = size_of::<Node>();

    /// A wheel for indexes below `capacity`, which turns by one slot every `tick`.
    pub fn new(capacity: usize, tick: Duration) -> TimerWheel {
        assert!(tick > Duration::ZERO && capacity < NONE as usize);
        let heads = vec![NONE; SLOTS].into_boxed_slice();
        TimerWheel { nodes: Vec::with_capacity(capacity), heads, tick, hand: 0, armed: 0 }
    }

    /// Returns the memory of the timers to the system when none is set.
    pub fn trim(&mut self) {
        if self.armed == 0 {
            self.nodes.clear();
            crate::release_spare(&mut self.nodes);
        }
    }

    /// The longest time that a timer can be set for; beyond it fires early.
    pub fn horizon(&self) -> Duration {
        self.tick * (SLOTS as u32 - 1)
    }

    /// Whether the timer of `index` is set.
    pub fn is_set(&self, index: usize) -> bool {
        self.nodes.get(index).is_some_and(|node| node.slot != UNSET)
    }

    /// Number of timers set.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// Sets the timer of `index` to fire at the first tick after `deadline`, in place of an earlier
    /// setting.
    ///
    /// # Panics
    /// If `index` is not below the capacity.
    pub fn set(&mut self, index: usize, deadline: Timestamp) {
        self.cancel(index);
        while self.nodes.len() <= index {
            assert!(self.nodes.len() < self.nodes.capacity(), "timer {index} over the wheel's capacity");
            self.nodes.push(Node { next: NONE, previous: NONE, slot: UNSET });
        }
        let due = deadline.as_nanos() / self.tick.as_nanos() as u64 + 1;
        let due = due.clamp(self.hand + 1, self.hand + SLOTS as u64 - 1);
        let slot = (due % SLOTS as u64) as usize;
        let next = std::mem::replace(&mut self.heads[slot], index as u32);
        if next != NONE {
            self.nodes[next as usize].previous = index as u32;
        }
        self.nodes[index] = Node { next, previous: NONE, slot: slot as u32 };
        self.armed += 1;
    }

    /// Cancels the timer of `index`; does nothing when it is not set.
    pub fn cancel(&mut self, index: usize) {
        let Some(node) = self.nodes.get(index).copied().filter(|node| node.slot != UNSET) else { return };
        match node.previous {
            NONE => self.heads[node.slot as usize] = node.next,
            previous => self.nodes[previous as usize].next = node.next,
        }
        if node.next != NONE {
            self.nodes[node.next as usize].previous = node.previous;
        }
        self.nodes[index].slot = UNSET;
        self.armed -= 1;
    }

    /// The next index whose timer is due at `now`. Call it until it returns `None`, or stop
    /// earlier: what is due stays due.
    pub fn expire(&mut self, now: Timestamp) -> Option<usize> {
        let target = now.as_nanos() / self.tick.as_nanos() as u64;
        loop {
            let index = self.heads[(self.hand % SLOTS as u64) as usize];
            if index != NONE {
                self.cancel(index as usize);
                return Some(index as usize);
            }
            if self.hand >= target {
                return None;
            }
            // With no timer set, the hand jumps.
            self.hand = if self.armed == 0 { target } else { self.hand + 1 };
        }
    }

    /// How long until the next timer may fire: never more than the truth, at most `within` from
    /// `now`.
    pub fn next_expiry(&self, now: Timestamp, within: Duration) -> Duration {
        if self.armed == 0 {
            return within;
        }
        let tick = self.tick.as_nanos() as u64;
        let ticks = (within.as_nanos() as u64).div_ceil(tick).min(SLOTS as u64);
        let first =
            (0..=ticks).find(|ahead| self.heads[((self.hand + ahead) % SLOTS as u64) as usize] != NONE);
        let Some(ahead) = first else { return within };
        Timestamp::from_nanos((self.hand + ahead) * tick).since(now).min(within)
    }

    /// How far the hand is behind `now`, in whole ticks: zero after [`TimerWheel::expire`] has
    /// returned `None`.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let behind = (now.as_nanos() / self.tick.as_nanos() as u64).saturating_sub(self.hand);
        self.tick * u32::try_from(behind).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn fired(wheel: &mut TimerWheel, now: Timestamp) -> Vec<usize> {
        let mut all: Vec<_> = std::iter::from_fn(|| wheel.expire(now)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn timers_fire_once_never_early_and_at_most_a_tick_late() {
        let mut wheel = TimerWheel::new(100, Duration::from_millis(10));
        for index in 0..100 {
            wheel.set(index, ms(index as u64 * 7));
        }
        let mut seen = vec![];
        for now in 0..1000 {
            for index in fired(&mut wheel, ms(now)) {
                let deadline = index as u64 * 7;
                assert!(now >= deadline && now <= deadline + 20, "timer {index} fired at {now}");
                seen.push(index);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert_eq!(wheel.armed(), 0);
    }

    #[test]
    fn setting_again_replaces_and_cancelling_removes() {
        let mut wheel = TimerWheel::new(3, Duration::from_millis(1));
        (0..3).for_each(|index| wheel.set(index, ms(5)));
        wheel.set(1, ms(50));
        wheel.cancel(2);
        wheel.cancel(2);
        assert_eq!(fired(&mut wheel, ms(10)), [0]);
        assert_eq!(fired(&mut wheel, ms(60)), [1]);
    }

    #[test]
    fn beyond_the_horizon_fires_early_and_a_long_sleep_catches_up() {
        let mut wheel = TimerWheel::new(1, Duration::from_millis(1));
        wheel.set(0, ms(1_000_000));
        let early = wheel.horizon();
        assert_eq!(fired(&mut wheel, Timestamp::ZERO + early), [0]);
        wheel.set(0, Timestamp::ZERO + early + Duration::from_millis(3));
        assert_eq!(fired(&mut wheel, ms(100_000_000)), [0]);
        assert!(wheel.lag(ms(100_000_000)) < Duration::from_millis(1));
    }

    #[test]
    fn a_trimmed_wheel_goes_on() {
        let mut wheel = TimerWheel::new(5000, Duration::from_millis(10));
        for round in 0..3_u64 {
            let start = round * 1000;
            (0..5000).for_each(|index| wheel.set(index, ms(start + 500)));
            wheel.cancel(7);
            wheel.trim();
            assert_eq!(wheel.armed(), 4999);
            assert_eq!(fired(&mut wheel, ms(start + 600)).len(), 4999);
            wheel.trim();
            wheel.set(4999, ms(start + 700));
            assert_eq!(fired(&mut wheel, ms(start + 800)), [4999]);
            wheel.trim();
            wheel.cancel(3);
        }
    }

    #[test]
    fn the_next_expiry_is_never_late() {
        let mut wheel = TimerWheel::new(2, Duration::from_millis(10));
        let within = Duration::from_secs(1);
        assert_eq!(wheel.next_expiry(ms(0), within), within);
        wheel.set(0, ms(255));
        let wait = wheel.next_expiry(ms(0), within);
        assert_eq!(wait, Duration::from_millis(260));
        assert_eq!(fired(&mut wheel, ms(0) + wait), [0]);
    }

    #[test]
    fn what_is_due_stays_due_when_expiry_is_cut_short() {
        let mut wheel = TimerWheel::new(10, Duration::from_millis(1));
        (0..10).for_each(|index| wheel.set(index, ms(5)));
        assert!(wheel.expire(ms(100)).is_some());
        wheel.set(9, ms(200));
        wheel.cancel(9);
        let rest = fired(&mut wheel, ms(100)).len();
        assert!(rest == 9 || rest == 8, "{rest}");
    }
}
