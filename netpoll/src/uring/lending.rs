//! How many receive buffers the kernel is lent.
//!
//! The kernel takes lent buffers in the order in which it got them, so all of them go round, and
//! each becomes resident however few are in use at a time. Buffers that stay in the pool are reused
//! from its warm end. So the kernel is lent few at first, one more for each receive that found
//! none, and fewer again when less than half was in use at a time for long.
//!
//! ```text
//!   32 ── a receive found none, the pool has some: one more ──► … ──► the ring's size
//!    ◄──── 4096 polls that used less than half: a quarter of the surplus goes ─────┘
//! ```
//!
//! The kernel's buffers cannot be taken back: it is lent fewer by not replacing those that it uses
//! up.

/// At least so many buffers are lent, as far as the ring and the pool have them.
const LENT_MIN: usize = 32;

/// Polls with bytes between two reviews.
const POLLS_PER_REVIEW: u32 = 4096;

/// The number of buffers to lend. See the module's text.
#[derive(Debug)]
pub(super) struct Lending {
    /// Buffers that the kernel should have.
    wanted: usize,
    min: usize,
    max: usize,
    /// Buffers that the kernel had after the last poll began.
    lent: usize,
    /// At most so many buffers were used up by one poll since the last review.
    used_max: usize,
    polls: u32,
}

impl Lending {
    /// The state for a ring with room for `max` buffers.
    pub(super) fn new(max: usize) -> Lending {
        let min = LENT_MIN.min(max);
        Lending { wanted: min, min, max, lent: 0, used_max: 0, polls: 0 }
    }

    /// Buffers that the kernel should have.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Lends one more: a receive found no buffer, and the pool has some.
    pub(super) fn grow(&mut self) {
        self.wanted = self.max.min(self.wanted + 1);
        self.used_max = self.wanted;
    }

    /// Notes that the kernel has been lent what it should have, or all that there is: `lent`
    /// buffers.
    pub(super) fn replenished(&mut self, lent: usize) {
        self.lent = lent;
    }

    /// Reviews how much was used: `left` buffers are left of those lent, and used ones may be among
    /// `unseen` completions. Returns whether fewer are lent from here on.
    pub(super) fn review(&mut self, left: usize, unseen: usize) -> bool {
        let used = self.lent.saturating_sub(left) + unseen;
        if used == 0 {
            return false;
        }
        self.used_max = self.used_max.max(used);
        self.polls += 1;
        if self.polls < POLLS_PER_REVIEW {
            return false;
        }
        self.polls = 0;
        let enough = self.min.max(2 * std::mem::take(&mut self.used_max));
        let surplus = self.wanted.saturating_sub(enough);
        self.wanted -= surplus.div_ceil(4);
        surplus > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls up to the next review, each using up `used`.
    fn while_using(lending: &mut Lending, used: usize) -> bool {
        let polls = (0..POLLS_PER_REVIEW).map(|_| {
            lending.replenished(lending.wanted());
            lending.review(lending.wanted() - used, 0)
        });
        polls.fold(false, |fell, falls| fell | falls)
    }

    #[test]
    fn it_grows_by_need_up_to_the_ring() {
        let mut lending = Lending::new(64);
        assert_eq!(lending.wanted(), 32);
        (0..10).for_each(|_| lending.grow());
        assert_eq!(lending.wanted(), 42);
        (0..100).for_each(|_| lending.grow());
        assert_eq!(lending.wanted(), 64);
        assert_eq!(Lending::new(2).wanted(), 2, "a ring smaller than the least");
    }

    #[test]
    fn it_falls_slowly_to_twice_what_is_used() {
        let mut lending = Lending::new(256);
        (0..256).for_each(|_| lending.grow());
        assert!(!while_using(&mut lending, 128), "half is in use");
        assert!(while_using(&mut lending, 50));
        assert_eq!(lending.wanted(), 256 - 156 / 4);
        while while_using(&mut lending, 50) {}
        assert_eq!(lending.wanted(), 100);
        while while_using(&mut lending, 1) {}
        assert_eq!(lending.wanted(), 32);
    }

    #[test]
    fn polls_that_bring_nothing_say_nothing() {
        let mut lending = Lending::new(256);
        (0..256).for_each(|_| lending.grow());
        lending.replenished(256);
        assert!((0..10 * POLLS_PER_REVIEW).all(|_| !lending.review(256, 0)));
        assert_eq!(lending.wanted(), 256);
        // What lies in the completion queue counts as used: the batch was too small to tell.
        assert!((0..10 * POLLS_PER_REVIEW).all(|_| !lending.review(256, 200)));
    }
}
