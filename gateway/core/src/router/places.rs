//! Places for fan-outs: a push to a room is accepted only with a place at every worker that has
//! members.
//!
//! ```text
//!   home of the room: take a place at host 1, at host 2 ─ all?
//!     ├─ yes ─► DeliverRoom to each ─► a fan-out; its end returns the place
//!     └─ no ──► return those that were taken; the sender gets 503
//! ```
//!
//! So an accepted push has a fan-out at every worker that it reaches: no host drops one, and none
//! leaves its mailbox unread for lack of one. A broadcast takes a place at every worker in the same
//! way, before the control thread sends it; these places are apart from those of rooms.
//!
//! A room may take a place at a host while it has none there, or fewer than half of those that are
//! free: N rooms that take all they may leave one part in N / 2 + 1. Rooms are distinguished by
//! `COUNTS` counts, of which each room has two; what it has taken is the lower one at most. So a
//! room is only held for another by a chance of one in a million, for each pair of rooms that take
//! much.
//!
//! An eighth of a worker's places is kept for rooms of at most [`SMALL_ROOM_MEMBERS_MAX`] members:
//! what is free beyond it is all that larger rooms may take, and their share is of that. So rooms
//! with long fan-outs never leave a small room without a place.
//!
//! Every count is the places taken, by any worker, and not returned. An addition that finds the
//! last place taken is undone.

use crate::address::{Fingerprint, WorkerId};
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts by which a host's places are distinguished by room: half of them for each of a room's
/// two.
const COUNTS: usize = 2048;

/// Parts of what is free; a room with as many places as one of them gets no more.
const SHARES: u32 = 2;

/// Members of a small room at most, at all workers: its fan-out ends within one quantum.
pub const SMALL_ROOM_MEMBERS_MAX: u32 = 64;

/// One in so many of the places of rooms is kept for small ones: an eighth of all, an eighth of
/// which is for broadcasts.
const KEPT_PARTS: u32 = 7;

/// Fan-outs of a worker by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanoutSizes {
    /// To rooms.
    pub rooms: usize,
    /// To everyone.
    pub everyone: usize,
}

impl FanoutSizes {
    /// An eighth is for broadcasts; each has one at least.
    pub fn of(fanouts_max: usize) -> FanoutSizes {
        let everyone = (fanouts_max / 8).max(1);
        FanoutSizes { rooms: fanouts_max.saturating_sub(everyone).max(1), everyone }
    }

    /// All of them.
    pub fn total(self) -> usize {
        self.rooms + self.everyone
    }
}

/// The places of one worker.
#[derive(Debug)]
struct Host {
    rooms_taken: AtomicU32,
    everyone_taken: AtomicU32,
    /// Places by room; a room counts in each half, at other bits of its fingerprint.
    by_room: Box<[AtomicU32]>,
}

impl Host {
    fn new() -> Host {
        Host {
            rooms_taken: AtomicU32::new(0),
            everyone_taken: AtomicU32::new(0),
            by_room: (0..COUNTS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn counts(&self, room: Fingerprint) -> [&AtomicU32; 2] {
        let (bits, half) = (room.bits(), COUNTS / 2);
        let positions = [bits as usize % half, half + (bits >> 32) as usize % half];
        positions.map(|position| &self.by_room[position])
    }
}

/// The places of all workers of a process; all threads share it.
#[derive(Debug)]
pub struct FanoutPlaces {
    hosts: Box<[Host]>,
    rooms_max: u32,
    /// Of these, what rooms that are not small leave.
    kept: u32,
    everyone_max: u32,
}

/// Takes one of `max`; false when there is none.
fn take(taken: &AtomicU32, max: u32) -> bool {
    // The next taker of a place that a fan-out has returned must see its record free.
    let had_room = taken.fetch_add(1, Ordering::AcqRel) < max;
    if !had_room {
        give_back(taken);
    }
    had_room
}

fn give_back(taken: &AtomicU32) {
    let before = taken.fetch_sub(1, Ordering::AcqRel);
    debug_assert!(before > 0, "a place is returned once");
}

impl FanoutPlaces {
    /// Bytes that a worker's counts take.
    pub const BYTES_PER_WORKER: usize = size_of::<Host>() + COUNTS * size_of::<AtomicU32>();

    /// Places of `workers` workers.
    pub fn new(workers: usize, sizes: FanoutSizes) -> FanoutPlaces {
        let max = |count: usize| u32::try_from(count).unwrap_or(u32::MAX / 2).min(u32::MAX / 2);
        let rooms_max = max(sizes.rooms);
        FanoutPlaces {
            hosts: (0..workers).map(|_| Host::new()).collect(),
            rooms_max,
            kept: rooms_max / KEPT_PARTS,
            everyone_max: max(sizes.everyone),
        }
    }

    /// Takes a place for a push to `room`, of `members` at all workers, at each of `hosts`, or
    /// none. Returns whether it did.
    pub fn take_for_room<I: Iterator<Item = WorkerId>>(
        &self,
        room: Fingerprint,
        members: u32,
        hosts: impl Fn() -> I,
    ) -> bool {
        let kept = if members <= SMALL_ROOM_MEMBERS_MAX { 0 } else { self.kept };
        let max = self.rooms_max - kept;
        let refused = hosts().position(|host| !self.take_room(host, room, max));
        if let Some(taken) = refused {
            hosts().take(taken).for_each(|host| self.return_room(host, room));
        }
        refused.is_none()
    }

    fn take_room(&self, host: WorkerId, room: Fingerprint, max: u32) -> bool {
        let host = &self.hosts[host.index()];
        let of_room = host.counts(room);
        let free = max.saturating_sub(host.rooms_taken.load(Ordering::Relaxed));
        let held = of_room.map(|count| count.load(Ordering::Relaxed)).into_iter().min().unwrap_or(0);
        if held > 0 && held.saturating_mul(SHARES) >= free || !take(&host.rooms_taken, max) {
            return false;
        }
        of_room.into_iter().for_each(|count| _ = count.fetch_add(1, Ordering::Relaxed));
        true
    }

    /// Returns the place of a push to `room` that has been delivered at `host`, or has no member
    /// there any longer.
    pub fn return_room(&self, host: WorkerId, room: Fingerprint) {
        let host = &self.hosts[host.index()];
        host.counts(room).into_iter().for_each(|count| _ = count.fetch_sub(1, Ordering::Relaxed));
        give_back(&host.rooms_taken);
    }

    /// Takes a place for a broadcast at every worker, or none. Returns whether it did.
    pub fn take_for_everyone(&self) -> bool {
        let full = self.hosts.iter().position(|host| !take(&host.everyone_taken, self.everyone_max));
        if let Some(full) = full {
            self.hosts[..full].iter().for_each(|host| give_back(&host.everyone_taken));
        }
        full.is_none()
    }

    /// Returns the place of a broadcast that has been delivered at `host`, or could not be sent
    /// there.
    pub fn return_everyone(&self, host: WorkerId) {
        give_back(&self.hosts[host.index()].everyone_taken);
    }

    /// Places taken at `host`.
    pub fn taken(&self, host: WorkerId) -> usize {
        let host = &self.hosts[host.index()];
        let all = [&host.rooms_taken, &host.everyone_taken];
        all.into_iter().map(|taken| taken.load(Ordering::Relaxed) as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Fingerprints;

    fn room(number: usize) -> Fingerprint {
        Fingerprints::new((3, 4)).room(&format!("live://{number}"))
    }

    fn places(workers: usize, rooms: usize) -> FanoutPlaces {
        FanoutPlaces::new(workers, FanoutSizes { rooms, everyone: 2 })
    }

    const HOST: WorkerId = WorkerId(0);
    const SMALL: u32 = SMALL_ROOM_MEMBERS_MAX;

    #[test]
    fn a_push_takes_a_place_at_each_host_or_none() {
        let places = places(3, 1);
        let at = |numbers: &'static [u8]| move || numbers.iter().map(|number| WorkerId(*number));
        assert!(places.take_for_room(room(1), SMALL, at(&[1])));
        assert!(!places.take_for_room(room(2), SMALL, at(&[0, 1, 2])), "the second of them has none");
        assert_eq!([0, 1, 2].map(|number| places.taken(WorkerId(number))), [0, 1, 0]);
        places.return_room(WorkerId(1), room(1));
        assert!(places.take_for_room(room(2), SMALL, at(&[0, 1, 2])));
    }

    #[test]
    fn a_room_that_takes_all_it_may_leaves_two_thirds() {
        let places = places(1, 90);
        let taken = (0..200).filter(|_| places.take_for_room(room(1), SMALL, || [HOST].into_iter())).count();
        assert_eq!(taken, 30);
    }

    #[test]
    fn rooms_that_take_all_they_may_leave_a_place_to_another() {
        let places = places(1, 512);
        for _ in 0..64 {
            for hog in 0..64 {
                places.take_for_room(room(hog), SMALL, || [HOST].into_iter());
            }
        }
        assert!(places.taken(HOST) < 512, "{}", places.taken(HOST));
        assert!(
            places.take_for_room(room(1000), SMALL, || [HOST].into_iter()),
            "a bystander's room has none yet"
        );
    }

    #[test]
    fn large_rooms_leave_an_eighth_of_all_places_to_small_ones() {
        let sizes = FanoutSizes::of(5120);
        let places = FanoutPlaces::new(1, sizes);
        let mut taken = 0;
        // More rooms than places, and each tries again and again.
        for large in (0..2 * sizes.rooms).chain(0..2 * sizes.rooms) {
            taken += usize::from(places.take_for_room(room(large), SMALL + 1, || [HOST].into_iter()));
        }
        assert_eq!(taken, sizes.rooms - sizes.total() / 8);
        // As many small rooms have a place each, although large ones take all that is not theirs.
        let small = |number: usize| room(1_000_000 + number);
        let taken = (0..sizes.total()).filter(|number| {
            places.take_for_room(small(*number), SMALL, || [HOST].into_iter())
                && !places.take_for_room(room(*number), SMALL + 1, || [HOST].into_iter())
        });
        // Two rooms may share a count, and the second has more than its share then.
        let taken = taken.count();
        assert!(taken <= sizes.total() / 8 && taken > sizes.total() / 10, "{taken}");
    }

    #[test]
    fn a_broadcast_takes_a_place_everywhere_and_none_of_a_room() {
        let places = places(2, 1);
        assert!(places.take_for_room(room(1), SMALL, || [HOST].into_iter()));
        assert!(places.take_for_everyone() && places.take_for_everyone());
        assert!(!places.take_for_everyone());
        places.return_everyone(HOST);
        assert!(!places.take_for_everyone(), "the other worker has none");
        assert_eq!((places.taken(HOST), places.taken(WorkerId(1))), (2, 2));
    }

    #[test]
    fn threads_never_take_more_than_there_are() {
        let places = places(1, 7);
        let most = AtomicU32::new(0);
        let (inside, places) = (AtomicU32::new(0), &places);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (inside, most) = (&inside, &most);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let room = room(number * 2000 + round);
                        if places.take_for_room(room, SMALL, || [HOST].into_iter()) {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            places.return_room(HOST, room);
                        }
                    }
                });
            }
        });
        assert!((1..=7).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(places.taken(HOST), 0);
    }
}
