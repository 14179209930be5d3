//! Receipt counts: the home that handed a message to several hosts adds up their reports.
//!
//! ```text
//!   home: open(origin, 3) ── Deliver ×3 ──► hosts ── Outcome ×3 ──► home: add ×3 ── sum ──► origin
//! ```
//!
//! Every `Deliver` is answered exactly once, also for a connection that is gone, so a record lives
//! for a round trip.

use crate::message::Origin;
use gateway_proto::codes::ErrorCode;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Sum {
    origin: Origin,
    /// Reports still due; 0 while the record is free.
    left: u32,
    /// Receivers so far; while the record is free, the next free one.
    receivers: u32,
    /// A connection had no room for the message.
    had_no_room: bool,
}

/// Outcomes that this home adds up.
#[derive(Debug)]
pub struct ReceiptCounts {
    items: Vec<Sum>,
    free: u32,
    used: usize,
}

impl ReceiptCounts {
    /// Bytes that one takes.
    pub const BYTES_PER_SUM: usize = size_of::<Sum>();

    /// Room for so many at a time.
    pub fn with_capacity(capacity: usize) -> ReceiptCounts {
        ReceiptCounts { items: Vec::with_capacity(capacity), free: NONE, used: 0 }
    }

    /// Begins a sum of `reports` (at least one) for `origin`; `None` when the table is full.
    pub fn open(&mut self, origin: Origin, reports: u32) -> Option<u32> {
        debug_assert!(reports > 0);
        let sum = Sum { origin, left: reports, receivers: 0, had_no_room: false };
        let index = if self.free != NONE {
            let index = self.free;
            self.free = self.items[index as usize].receivers;
            self.items[index as usize] = sum;
            index
        } else if self.items.len() < self.items.capacity() {
            self.items.push(sum);
            self.items.len() as u32 - 1
        } else {
            return None;
        };
        self.used += 1;
        Some(index)
    }

    /// Adds a report. The last one returns the origin and the sum; [`ErrorCode::BUSY`] where no
    /// connection received the message, and one had no room for it.
    pub fn add(
        &mut self,
        index: u32,
        report: Result<u32, ErrorCode>,
    ) -> Option<(Origin, Result<u32, ErrorCode>)> {
        let sum = self.items.get_mut(index as usize).filter(|sum| sum.left > 0)?;
        sum.left -= 1;
        sum.receivers += report.unwrap_or(0);
        sum.had_no_room |= report.is_err();
        if sum.left > 0 {
            return None;
        }
        let is_refused = sum.receivers == 0 && sum.had_no_room;
        let total = if is_refused { Err(ErrorCode::BUSY) } else { Ok(sum.receivers) };
        sum.receivers = self.free;
        let origin = sum.origin;
        self.free = index;
        self.used -= 1;
        Some((origin, total))
    }

    /// Releases the memory when no report is due.
    pub fn trim(&mut self) {
        if self.used == 0 && !self.items.is_empty() {
            self.items.clear();
            self.free = NONE;
            netpoll::release_spare(&mut self.items);
        }
    }

    /// Outcomes that are being added up.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no report is due.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Every record is in use or free, once.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self) {
        let mut free = 0;
        let mut index = self.free;
        while let Some(sum) = self.items.get(index as usize) {
            assert!(sum.left == 0, "sum {index} is free and waits");
            free += 1;
            assert!(free <= self.items.len(), "the free sums go round in circles");
            index = sum.receivers;
        }
        assert_eq!(free + self.used, self.items.len(), "sums in use and free ones");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_brings_the_sum_and_frees_the_record() {
        let mut sums = ReceiptCounts::with_capacity(2);
        let origin = |ticket| Origin::Control { ticket };
        let one = sums.open(origin(1), 2).unwrap();
        let two = sums.open(origin(2), 1).unwrap();
        assert_eq!(sums.open(origin(3), 1), None, "full");
        assert_eq!(sums.add(one, Ok(1)), None);
        assert_eq!(sums.add(two, Ok(0)), Some((origin(2), Ok(0))));
        sums.invariants();
        assert_eq!(sums.open(origin(3), 1), Some(two));
        assert_eq!(sums.add(one, Err(ErrorCode::BUSY)), Some((origin(1), Ok(1))));
        assert_eq!(sums.add(one, Ok(1)), None, "all reports have come");
        assert_eq!(sums.add(two, Err(ErrorCode::BUSY)), Some((origin(3), Err(ErrorCode::BUSY))));
        assert!(sums.is_empty());
        sums.invariants();
    }
}
