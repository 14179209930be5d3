//! Budgets of bytes that all HTTP connections share: of requests, and of answers that wait to be
//! taken.
//!
//! Each connection has a little of its own ([`INPUT_OWN`], [`OUTPUT_OWN`]), which is part of the
//! sum at the start. More is claimed here, all at once or not at all, and released on drop. Nothing
//! waits for a claim: a request that finds no room is answered 503, and a connection that makes no
//! progress while it holds a part is closed ([`super::admission`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of requests that a connection holds without a claim.
pub(crate) const INPUT_OWN: usize = 4 << 10;
/// Bytes of answers that a connection holds without a claim; more is not made before the peer has
/// taken some.
pub(crate) const OUTPUT_OWN: usize = 4 << 10;
/// Bytes of answers that wait to be taken, all connections together, beyond [`OUTPUT_OWN`] each.
pub(crate) const ANSWERS_MAX: usize = 2 << 20;

/// A bound on bytes, and how many are in use.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
}

/// A part of a [`Budget`], released on drop.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Budget> {
        Arc::new(Budget { max, used: AtomicUsize::new(0) })
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A part of no bytes, to grow.
    pub(crate) fn empty(self: &Arc<Budget>) -> Held {
        Held { budget: Arc::clone(self), bytes: 0 }
    }

    /// A part of so many bytes; `None` when there is no room for it.
    pub(crate) fn claim(self: &Arc<Budget>, bytes: usize) -> Option<Held> {
        let mut held = self.empty();
        held.set(bytes).then_some(held)
    }
}

impl Held {
    /// Makes it `bytes` large. Returns false, and changes nothing, when there is no room for that.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let (max, before) = (self.budget.max, self.bytes);
        let fits = |used: usize| Some(used - before + bytes).filter(|sum| *sum <= max || bytes <= before);
        let changed = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if changed {
            self.bytes = bytes;
        }
        changed
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that count while a reference to them is held.
pub(crate) struct Counted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_exceed_the_whole_and_come_back() {
        let budget = Budget::new(100);
        let mut one = budget.claim(60).unwrap();
        assert!(budget.claim(41).is_none());
        let two = budget.claim(40).unwrap();
        assert!(!one.set(61));
        assert!(one.set(10) && one.bytes() == 10);
        assert_eq!(budget.used(), 50);
        drop(two);
        assert!(one.set(100) && !one.set(101) && one.set(100));
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
