//! A worker that stood still: stopped by a signal or a debugger, frozen with its cgroup, in a
//! machine that was paused, or without a processor for too long.
//!
//! Then all timers are due at once, while what clients sent meanwhile waits in the sockets. So a
//! turn that begins late goes on reading first, until a poll brings little, and only then lets
//! timers fire. And time in which the worker stood still counts for no client: a WebSocket client
//! can't log in before its upgrade is answered, and a peer's window may have been full.

use netpoll::Timestamp;
use std::time::Duration;

/// A turn that begins so much later than it was to begin is late.
const LATE: Duration = Duration::from_millis(100);
/// For how long reading comes first at most: a worker that is always behind has timers, too.
const READING_MAX: Duration = Duration::from_secs(5);
/// The longest pause in this time is the one that counts.
const MEMORY: Duration = Duration::from_secs(10);

/// How late turns are.
#[derive(Debug)]
pub(crate) struct Lateness {
    /// When the next turn was to begin at the latest.
    due: Timestamp,
    /// Timers wait until then at most: what has come is read first.
    reading: Option<Timestamp>,
    /// The longest pause of late: its end, and how long it was.
    ended: Timestamp,
    length: Duration,
}

impl Lateness {
    pub(crate) fn new(now: Timestamp) -> Lateness {
        Lateness { due: now, reading: None, ended: now, length: Duration::ZERO }
    }

    /// The next turn begins by `due`.
    pub(crate) fn expect(&mut self, due: Timestamp) {
        self.due = self.due.max(due);
    }

    /// A turn begins; by how much it is late, if it is.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Option<Duration> {
        let late = now.since(std::mem::replace(&mut self.due, now));
        if late < LATE {
            return None;
        }
        self.reading.get_or_insert(now + READING_MAX);
        if late >= self.length || now.since(self.ended) > MEMORY {
            (self.ended, self.length) = (now, late);
        }
        Some(late)
    }

    /// Whether timers may fire, after a poll at `now` that was late or not, and brought little or
    /// not.
    pub(crate) fn has_read(&mut self, now: Timestamp, is_late: bool, little: bool) -> bool {
        if self.reading.is_some_and(|until| now < until && (is_late || !little)) {
            return false;
        }
        self.reading = None;
        true
    }

    /// Whether the next poll is not to wait.
    pub(crate) fn reads_first(&self) -> bool {
        self.reading.is_some()
    }

    /// How much of the time since then counts for no client.
    pub(crate) fn stood_still(&self, since: Timestamp) -> Duration {
        if since < self.ended { self.length } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(ms)
    }

    /// A turn at `now`: by how much it is late, and whether timers may fire.
    fn turn(lateness: &mut Lateness, now: Timestamp, little: bool) -> (Option<u64>, bool) {
        let late = lateness.begin(now);
        let fires = lateness.has_read(now, late.is_some(), little);
        (late.map(|late| late.as_millis() as u64), fires)
    }

    #[test]
    fn after_a_pause_reading_comes_first() {
        let mut lateness = Lateness::new(ms(0));
        lateness.expect(ms(250));
        assert_eq!(turn(&mut lateness, ms(300), true), (None, true));
        lateness.expect(ms(550));
        assert_eq!(turn(&mut lateness, ms(30_550), true), (Some(30_000), false), "it was interrupted");
        assert!(lateness.reads_first());
        assert_eq!(turn(&mut lateness, ms(30_551), false), (None, false), "there is more");
        assert_eq!(turn(&mut lateness, ms(30_552), true), (None, true));
        assert!(!lateness.reads_first());
        assert_eq!(lateness.stood_still(ms(400)), Duration::from_secs(30));
        assert_eq!(lateness.stood_still(ms(30_551)), Duration::ZERO);
    }

    #[test]
    fn who_is_always_late_has_timers_too() {
        let mut lateness = Lateness::new(ms(0));
        let fired = (1..=100).filter(|turn| self::turn(&mut lateness, ms(turn * 200), false).1).count();
        assert!((3..=4).contains(&fired), "{fired} in 20 s");
        assert_eq!(
            lateness.stood_still(ms(0)),
            Duration::from_millis(200),
            "and time goes on for silent clients"
        );
    }

    #[test]
    fn a_short_pause_does_not_hide_a_long_one() {
        let mut lateness = Lateness::new(ms(0));
        turn(&mut lateness, ms(30_000), true);
        turn(&mut lateness, ms(30_150), true);
        assert_eq!(lateness.stood_still(ms(0)), Duration::from_secs(30));
        turn(&mut lateness, ms(50_000), true);
        assert_eq!(lateness.stood_still(ms(40_000)), Duration::from_millis(19_850));
    }
}
