//! The timer wheel: one timer per connection, in two wheels of lists that run through the control
//! blocks.
//!
//! The near wheel has a resolution of 1 ms and a range of 4 s, the far one of 512 ms and 35 min. A
//! node is in one list or in none. Acknowledgements do not touch the wheel: the block keeps the
//! exact deadlines, and the node fires at the earliest deadline or before it, and is then set again
//! for the rest. A deadline in the far wheel fires up to 512 ms early and is then set in the near
//! wheel.

use crate::tcp::tables::control_block::{Table, TimerNode, UNLISTED};
use crate::tcp::tables::index::BlockIndex;
use crate::time::Now;

const NEAR_SLOTS: u32 = 4096;
const FAR_SLOTS: u32 = 4096;
const FAR_SHIFT: u32 = 9;
const WORDS: usize = (NEAR_SLOTS as usize) / 64;
const _: () = assert!(NEAR_SLOTS == FAR_SLOTS);

/// The wheel. The nodes are in the control blocks.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[BlockIndex]>,
    /// One bit per list, near and far: the list is not empty.
    used: [[u64; WORDS]; 2],
    /// The millisecond of the list that is being emptied.
    hand_ms: u32,
    armed: usize,
}

impl Wheel {
    /// Bytes of a wheel, whatever it holds.
    pub(crate) const BYTES: usize = (NEAR_SLOTS + FAR_SLOTS) as usize * 4 + 2 * WORDS * 8;

    pub(crate) fn new() -> Wheel {
        Wheel {
            heads: vec![BlockIndex::NONE; (NEAR_SLOTS + FAR_SLOTS) as usize].into_boxed_slice(),
            used: [[0; WORDS]; 2],
            hand_ms: 0,
            armed: 0,
        }
    }

    /// Timers set.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// Sets the timer to `due_ms` or earlier. A timer that fires early enough stays as it is.
    #[inline]
    pub(crate) fn arm(&mut self, table: &mut Table, index: BlockIndex, due_ms: u32) {
        let node = table[index].timer;
        if table[index].timer_slot != UNLISTED && (node.due_ms.wrapping_sub(due_ms) as i32) <= 0 {
            return;
        }
        self.cancel(table, index);
        let ahead = (due_ms.wrapping_sub(self.hand_ms) as i32).max(1) as u32;
        let due_ms = self.hand_ms.wrapping_add(ahead);
        let slot = if ahead < NEAR_SLOTS {
            due_ms % NEAR_SLOTS
        } else {
            let ahead = (ahead >> FAR_SHIFT).min(FAR_SLOTS - 1);
            NEAR_SLOTS + ((self.hand_ms >> FAR_SHIFT) + ahead) % FAR_SLOTS
        };
        self.link(table, index, slot as u16, due_ms);
    }

    fn link(&mut self, table: &mut Table, index: BlockIndex, slot: u16, due_ms: u32) {
        let next = std::mem::replace(&mut self.heads[usize::from(slot)], index);
        if next.is_some() {
            table[next].timer.previous = index;
        }
        table[index].timer = TimerNode { next, previous: BlockIndex::NONE, due_ms };
        table[index].timer_slot = slot;
        *self.word(slot) |= 1 << (slot % 64);
        self.armed += 1;
    }

    /// Cancels the timer.
    pub(crate) fn cancel(&mut self, table: &mut Table, index: BlockIndex) {
        let (node, slot) = (table[index].timer, table[index].timer_slot);
        if slot == UNLISTED {
            return;
        }
        match node.previous {
            BlockIndex::NONE => self.heads[usize::from(slot)] = node.next,
            previous => table[previous].timer.next = node.next,
        }
        if node.next.is_some() {
            table[node.next].timer.previous = node.previous;
        }
        if self.heads[usize::from(slot)] == BlockIndex::NONE {
            *self.word(slot) &= !(1 << (slot % 64));
        }
        table[index].timer = TimerNode::UNSET;
        table[index].timer_slot = UNLISTED;
        self.armed -= 1;
    }

    /// Removes and returns the next due timer. Call it until it returns `None`, or stop earlier:
    /// due timers stay due.
    pub(crate) fn expire(&mut self, table: &mut Table, now: Now) -> Option<BlockIndex> {
        loop {
            let near = self.heads[(self.hand_ms % NEAR_SLOTS) as usize];
            if near.is_some() {
                self.cancel(table, near);
                return Some(near);
            }
            let far = NEAR_SLOTS + (self.hand_ms >> FAR_SHIFT) % FAR_SLOTS;
            let far = self.heads[far as usize];
            if far.is_some() {
                self.cancel(table, far);
                return Some(far);
            }
            if now.reached(self.hand_ms.wrapping_add(1)) {
                self.hand_ms = if self.armed == 0 { now.ms } else { self.advance(now) };
            } else {
                return None;
            }
        }
    }

    /// The next millisecond with a list that is not empty, at most `now`.
    fn advance(&self, now: Now) -> u32 {
        let left = now.ms.wrapping_sub(self.hand_ms);
        let near = self.near_gap().unwrap_or(u32::MAX);
        let far = self.far_gap().unwrap_or(u32::MAX);
        self.hand_ms.wrapping_add(left.min(near).min(far).max(1))
    }

    /// The word with the bit of a list.
    fn word(&mut self, slot: u16) -> &mut u64 {
        let slot = usize::from(slot);
        &mut self.used[slot / NEAR_SLOTS as usize][slot % NEAR_SLOTS as usize / 64]
    }

    /// Milliseconds from the hand to the next near list that is not empty.
    fn near_gap(&self) -> Option<u32> {
        next_used(&self.used[0], self.hand_ms % NEAR_SLOTS)
    }

    /// Milliseconds from the hand to the beginning of the next far list that is not empty.
    fn far_gap(&self) -> Option<u32> {
        let turn = self.hand_ms >> FAR_SHIFT;
        let ahead = next_used(&self.used[1], turn % FAR_SLOTS)?;
        Some((turn.wrapping_add(ahead) << FAR_SHIFT).wrapping_sub(self.hand_ms))
    }

    /// Milliseconds until the next timer may fire, never too late. `None` when no timer is set.
    pub(crate) fn next_ms(&self, now: Now) -> Option<u32> {
        if self.armed == 0 {
            return None;
        }
        let gap = [self.near_gap(), self.far_gap()].into_iter().flatten().min().unwrap_or(1 << FAR_SHIFT);
        Some(now.until(self.hand_ms.wrapping_add(gap)))
    }
}

/// The distance from `slot` to the next list that is not empty, once around.
fn next_used(words: &[u64; WORDS], slot: u32) -> Option<u32> {
    let start = (slot + 1) % NEAR_SLOTS;
    let (first, bit) = (start as usize / 64, start % 64);
    let head = words[first] & (u64::MAX << bit);
    if head != 0 {
        return Some(1 + head.trailing_zeros() - bit);
    }
    (1..=WORDS).find_map(|ahead| {
        let word = words[(first + ahead) % WORDS];
        (word != 0).then(|| 1 + ahead as u32 * 64 + word.trailing_zeros() - bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::sim::Rng;

    const BLOCKS: [BlockIndex; 2] = [BlockIndex::new(0), BlockIndex::new(1)];

    fn at(ms: u32) -> Now {
        Now { ms, us: 0 }
    }

    fn table(count: usize) -> Table {
        let mut table = Table::new(count, 0);
        (0..count).for_each(|_| assert!(table.take_connection().is_some()));
        table
    }

    #[test]
    fn timers_fire_once_never_late_and_the_wait_is_never_too_long() {
        let mut rng = Rng::new(4);
        let (mut table, mut wheel) = (table(200), Wheel::new());
        let deadlines: Vec<u32> = (0..200).map(|_| rng.below(60_000) as u32).collect();
        for (index, due) in deadlines.iter().enumerate() {
            wheel.arm(&mut table, BlockIndex::new(index as u32), *due);
        }
        let mut fired = [false; 200];
        let mut now = 0;
        while fired.iter().any(|fired| !fired) {
            now += wheel.next_ms(at(now)).expect("something is set").max(1);
            while let Some(index) = wheel.expire(&mut table, at(now)) {
                let due = deadlines[index.get() as usize];
                if due > now {
                    wheel.arm(&mut table, index, due); // early, from the far wheel
                } else {
                    assert!(now - due <= 1, "{index:?} was due at {due} and fired at {now}");
                    assert!(!std::mem::replace(&mut fired[index.get() as usize], true));
                }
            }
        }
        assert_eq!(wheel.armed(), 0);
        assert_eq!(wheel.used, [[0; WORDS]; 2]);
    }

    #[test]
    fn an_earlier_setting_stays_and_a_later_one_is_replaced() {
        let (mut table, mut wheel) = (table(2), Wheel::new());
        wheel.arm(&mut table, BLOCKS[0], 10);
        wheel.arm(&mut table, BLOCKS[0], 50);
        assert_eq!(table[BLOCKS[0]].timer.due_ms, 10, "lazy");
        wheel.arm(&mut table, BLOCKS[0], 5);
        assert_eq!(wheel.expire(&mut table, at(4)), None);
        assert_eq!(wheel.expire(&mut table, at(5)), Some(BLOCKS[0]));
        assert_eq!(wheel.expire(&mut table, at(1000)), None);
    }

    #[test]
    fn a_long_sleep_and_the_wrap_of_the_clock_lose_nothing() {
        let (mut table, mut wheel) = (table(2), Wheel::new());
        let start = u32::MAX - 1000;
        wheel.hand_ms = start;
        wheel.arm(&mut table, BLOCKS[0], start.wrapping_add(2000));
        wheel.arm(&mut table, BLOCKS[1], start.wrapping_add(100_000));
        let end = at(start.wrapping_add(500_000));
        let first = wheel.expire(&mut table, end);
        let second = wheel.expire(&mut table, end);
        assert_eq!((first, second), (Some(BLOCKS[0]), Some(BLOCKS[1])));
        assert_eq!(wheel.expire(&mut table, end), None);
    }
}
