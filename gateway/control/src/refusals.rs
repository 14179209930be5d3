//! Journal of refused calls, with a bound per second.

use super::http::Caller;
use super::journal::Journal;
use serde_json::json;

/// Refusals a second that are journaled one by one at most; further ones are counted in one line.
const REFUSALS_PER_SECOND: u32 = 10;
/// Bytes of a path that are journaled at most.
const PATH_SIZE_MAX: usize = 200;

/// Journals refused calls, with a bound: a refused caller has no key, and must not fill the disk.
#[derive(Debug, Default)]
pub(super) struct Refusals(std::sync::Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Option<std::time::Instant>,
    written: u32,
    suppressed: u64,
}

impl Refusals {
    pub(super) fn record(&self, journal: &Journal, caller: Caller, path: &str, code: &str) {
        if !journal.is_on() {
            return;
        }
        let (is_written, suppressed) = self.count(std::time::Instant::now());
        if suppressed > 0 {
            journal.record("admin_refused_more", json!({ "count": suppressed }));
        }
        if is_written {
            let fields = json!({ "caller": caller.text(), "path": cut(path), "code": code });
            journal.record("admin_refused", fields);
        }
    }

    /// Writes down how many were not written one by one, once their second is over.
    pub(super) fn write_suppressed(&self, journal: &Journal) {
        let mut second = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_over = second.began.is_some_and(|began| began.elapsed().as_secs() >= 1);
        if is_over && second.suppressed > 0 {
            let count = std::mem::take(&mut second.suppressed);
            journal.record("admin_refused_more", json!({ "count": count }));
        }
    }

    /// Whether this one is written, and how many of the second before were not.
    fn count(&self, now: std::time::Instant) -> (bool, u64) {
        let mut second = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_new = second.began.is_none_or(|began| now.duration_since(began).as_secs() >= 1);
        let suppressed = if is_new {
            let before = second.suppressed;
            *second = Second { began: Some(now), written: 0, suppressed: 0 };
            before
        } else {
            0
        };
        let is_written = second.written < REFUSALS_PER_SECOND;
        second.written += u32::from(is_written);
        second.suppressed += u64::from(!is_written);
        (is_written, suppressed)
    }
}

/// The front of a text that a caller chose, for the journal.
pub(super) fn cut(text: &str) -> &str {
    let end = (0..=PATH_SIZE_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn refusals_are_written_one_by_one_up_to_a_rate() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let written = (0..1000).filter(|_| refusals.count(start).0).count();
        assert_eq!(written, REFUSALS_PER_SECOND as usize);
        assert_eq!(refusals.count(start + Duration::from_secs(1)), (true, 990));
        assert_eq!(refusals.count(start + Duration::from_secs(3)), (true, 0));
    }
    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("/short"), "/short");
        assert_eq!(cut(&"é".repeat(101)).len(), 200);
        assert_eq!(cut(&format!("a{}", "é".repeat(101))).len(), 199);
    }
}
