//! Who holds the HTTP server's connections, and who has to go when one more comes.
//!
//! ```text
//!   accept ─► fewer than connections_max? ─ yes ─► take a seat
//!                     │ no
//!                     ├─► somebody without a request under way ─► the one that has waited longest goes
//!                     └─► all are being answered ─► a spare seat: health and metrics only, everything else is told "busy"
//! ```
//!
//! So a probe gets its answer whoever holds the connections: silent ones, readers that do not read, or as many requests as
//! there are connections. What holds a spare seat is answered at once, hence a spare seat can always be taken back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Connections beyond `control.connections_max`, for when all of those are being answered.
pub(super) const SPARE_SEATS: usize = 8;

/// Who has sent nothing whole, or taken nothing of an answer, for this long goes before an idle connection does.
const STALE: Duration = Duration::from_secs(1);

/// A connection's place. Given up when it is dropped.
pub(super) struct Seat {
    number: u64,
    room: Arc<Room>,
    /// Whether only health and metrics are served here.
    pub(super) is_spare: bool,
    /// Requests whose handlers run.
    under_way: AtomicU32,
    /// Whether a whole request head has come.
    is_proven: AtomicBool,
    /// Whether the peer's socket took nothing when an answer was last written.
    is_blocked: AtomicBool,
    /// When something last moved, in milliseconds since the room was opened.
    moved_ms: AtomicU64,
    /// Wakes the connection's task to end it.
    go: Notify,
}

/// All places.
pub(super) struct Room {
    opened: Instant,
    seats_max: usize,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<Seat>>,
    /// Of these, the spare ones.
    spare: usize,
}

impl Room {
    pub(super) fn new(seats_max: usize) -> Arc<Room> {
        Arc::new(Room { opened: Instant::now(), seats_max, seats: Mutex::default() })
    }

    /// A place for one more, and whether somebody goes for it; `None` when even the spare ones are being answered.
    pub(super) fn take(self: &Arc<Room>) -> Option<(Taken, bool)> {
        let now = self.now_ms();
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = seats.taken.len() - seats.spare >= self.seats_max;
        let mut evicted = false;
        if is_full {
            let idle = seats.taken.values().filter(|seat| seat.under_way.load(Ordering::Relaxed) == 0);
            // Out of the table at once, so that nobody is chosen twice; its task ends as soon as it runs.
            if let Some(number) = idle.min_by_key(|seat| seat.worth(now)).map(|seat| seat.number) {
                seats.leave(number).inspect(|seat| seat.go.notify_one());
                evicted = true;
            }
        }
        let is_spare = seats.taken.len() - seats.spare >= self.seats_max;
        if is_spare && seats.spare >= SPARE_SEATS {
            return None;
        }
        seats.spare += usize::from(is_spare);
        seats.next += 1;
        let seat = Arc::new(Seat {
            number: seats.next,
            room: Arc::clone(self),
            is_spare,
            under_way: AtomicU32::new(0),
            is_proven: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            moved_ms: AtomicU64::new(now),
            go: Notify::new(),
        });
        seats.taken.insert(seat.number, Arc::clone(&seat));
        Some((Taken(seat), evicted))
    }

    fn now_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }
}

impl Seats {
    fn leave(&mut self, number: u64) -> Option<Arc<Seat>> {
        let seat = self.taken.remove(&number)?;
        self.spare -= usize::from(seat.is_spare);
        Some(seat)
    }
}

impl Seat {
    /// Who goes first has least: stale ones before idle ones, and of each kind the one that has waited longest.
    fn worth(&self, now_ms: u64) -> (bool, u64) {
        let moved = self.moved_ms.load(Ordering::Relaxed);
        let stands = !self.is_proven.load(Ordering::Relaxed) || self.is_blocked.load(Ordering::Relaxed);
        let is_stale = stands && now_ms.saturating_sub(moved) >= STALE.as_millis() as u64;
        (!is_stale, moved)
    }

    fn moved(&self) {
        self.moved_ms.store(self.room.now_ms(), Ordering::Relaxed);
    }

    /// Notes whether the peer takes what it is sent.
    pub(super) fn wrote(&self, taken: bool) {
        if taken {
            self.moved();
        }
        self.is_blocked.store(!taken, Ordering::Relaxed);
    }

    /// A request is being answered for as long as this lives.
    pub(super) fn answer(self: &Arc<Seat>) -> Answering {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.is_proven.store(true, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Ends when the place is needed for somebody else.
    pub(super) async fn evicted(&self) {
        self.go.notified().await;
    }
}

/// A place that is taken for as long as this lives.
pub(super) struct Taken(pub(super) Arc<Seat>);

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = self.0.room.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.leave(self.0.number);
    }
}

/// See [`Seat::answer`].
pub(super) struct Answering(Arc<Seat>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.moved();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(room: &Arc<Room>) -> (Taken, bool) {
        room.take().unwrap_or_else(|| panic!("no place"))
    }

    #[test]
    fn the_longest_idle_one_goes_and_nobody_who_is_being_answered() {
        let room = Room::new(2);
        let (busy, idle) = (take(&room).0, take(&room).0);
        let answering = busy.0.answer();
        let (third, evicted) = take(&room);
        assert!(evicted && !third.0.is_spare);
        // The one that went gives up nothing a second time.
        drop(idle);
        assert_eq!(room.seats.lock().unwrap().taken.len(), 2);
        let _also = third.0.answer();
        let (spare, evicted) = take(&room);
        assert!(!evicted && spare.0.is_spare);
        drop(answering);
        let (fifth, evicted) = take(&room);
        assert!(evicted, "whoever has waited longest: the first one, just answered, or the spare one");
        drop((busy, third, spare, fifth));
        let seats = room.seats.lock().unwrap();
        assert_eq!((seats.taken.len(), seats.spare), (0, 0));
    }

    #[test]
    fn spare_places_have_an_end_too() {
        let room = Room::new(1);
        let first = take(&room).0;
        let _answering = first.0.answer();
        let under_way = (0..SPARE_SEATS).map(|_| {
            let spare = take(&room).0;
            (spare.0.answer(), spare)
        });
        let (under_way, _spare): (Vec<_>, Vec<_>) = under_way.unzip();
        assert!(room.take().is_none());
        drop(under_way);
        assert!(take(&room).1);
    }

    #[test]
    fn who_stands_still_goes_before_who_is_idle() {
        let room = Room::new(3);
        let (idle, blocked, fresh) = (take(&room).0, take(&room).0, take(&room).0);
        drop(idle.0.answer());
        drop(blocked.0.answer());
        idle.0.moved_ms.store(0, Ordering::Relaxed);
        blocked.0.wrote(false);
        blocked.0.moved_ms.store(1, Ordering::Relaxed);
        fresh.0.moved_ms.store(4990, Ordering::Relaxed);
        let mut order = [&idle.0, &blocked.0, &fresh.0];
        order.sort_by_key(|seat| seat.worth(5000));
        assert_eq!(order.map(|seat| seat.number), [blocked.0.number, idle.0.number, fresh.0.number]);
    }
}
