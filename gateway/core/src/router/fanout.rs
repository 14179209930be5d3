//! Fan-outs, cut into slices: one message to many receivers never delays a turn.
//!
//! Each target (a room, or everyone) has a queue of fan-outs, served in order; the targets take
//! turns, a quantum of deliveries each. Small rooms and all other targets stand in a line each, and
//! either line has half of a slice, and what the other leaves. So messages to one room keep their
//! order, and a small room waits for no large one, however many of those there are.

use super::places::{FanoutPlaces, FanoutSizes, SMALL_ROOM_MEMBERS_MAX};
use super::rooms::{HostedRooms, RoomIndex};
use crate::address::WorkerId;
use crate::message::{EncodedPush, Exclude};
use netpoll::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;

const NONE: u32 = u32::MAX;

/// Result of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done, with or without success.
    Done,
    /// It is to be made again in a later turn; nothing is delivered before it.
    Again,
}

/// Deliveries for one target before the next has its turn.
const QUANTUM: usize = 128;

/// Target of a fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The local members of a room.
    Room(RoomIndex),
    /// All local sessions.
    Everyone,
}

#[derive(Debug)]
struct Fanout {
    /// `None` while the record is free.
    push: Option<EncodedPush>,
    exclude: Exclude,
    /// Most deliveries a second; 0: no limit.
    rate: u32,
    started: Timestamp,
    delivered: u64,
    next: u32,
}

/// Where a target with fan-outs waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// HostedRooms that were small when their first fan-out came.
    Small,
    /// Other rooms, and everyone.
    Large,
}

impl Line {
    fn of(rooms: &HostedRooms, target: Target) -> Line {
        match target {
            Target::Room(room) if rooms.total(room) <= SMALL_ROOM_MEMBERS_MAX => Line::Small,
            _ => Line::Large,
        }
    }

    const fn other(self) -> Line {
        match self {
            Line::Small => Line::Large,
            Line::Large => Line::Small,
        }
    }
}

/// The fan-outs of one worker.
///
/// The sender of a push to many takes a place for it first ([`FanoutPlaces`]), so there is a record
/// for each that arrives.
#[derive(Debug)]
pub struct Fanouts {
    places: Arc<FanoutPlaces>,
    me: WorkerId,
    items: Vec<Fanout>,
    free: u32,
    used: usize,
    /// Targets with fan-outs, each once: those of each [`Line`].
    lines: [VecDeque<Target>; 2],
    /// The line that is served first: that of a delivery to be made again, else the small rooms'.
    first: Line,
    everyone: (u32, u32),
    /// Next session to visit for everyone.
    everyone_cursor: usize,
}

/// How far a target was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// It has no more fan-outs.
    All,
    /// It has more.
    More,
    /// A delivery of its first fan-out is to be made again.
    Again,
}

/// One delivery to make.
#[derive(Debug)]
pub struct Delivery<'f> {
    /// Table index of the receiving connection.
    pub session: u32,
    /// The message.
    pub push: &'f EncodedPush,
    /// Connection to skip.
    pub exclude: Exclude,
    /// Only to sessions with the operation in their accept set.
    pub filtered: bool,
}

impl Fanouts {
    /// Bytes that a fan-out takes.
    pub const BYTES_PER_FANOUT: usize = size_of::<Fanout>() + 2 * size_of::<Target>();

    /// Room for as many fan-outs of worker `me` as there are places.
    pub fn with_capacity(sizes: FanoutSizes, me: WorkerId, places: Arc<FanoutPlaces>) -> Fanouts {
        let capacity = sizes.total();
        Fanouts {
            places,
            me,
            items: Vec::with_capacity(capacity),
            free: NONE,
            used: 0,
            lines: [VecDeque::with_capacity(capacity + 1), VecDeque::with_capacity(capacity + 1)],
            first: Line::Small,
            everyone: (NONE, NONE),
            everyone_cursor: 0,
        }
    }

    /// Fan-outs waiting or under way.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Releases the memory when there are none.
    pub fn trim(&mut self) {
        if self.used == 0 && !self.items.is_empty() {
            self.items.clear();
            self.free = NONE;
            netpoll::release_spare(&mut self.items);
            self.lines.iter_mut().for_each(netpoll::release_queue);
        }
    }

    /// Every fan-out is in the list of its target (`rooms` has the heads of the rooms' lists) or
    /// free, once; the targets with a list take turns.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self, rooms: impl Iterator<Item = u32>) {
        let heads: Vec<u32> =
            rooms.chain([self.everyone.0].into_iter().filter(|head| *head != NONE)).collect();
        let waiting: usize = self.lines.iter().map(VecDeque::len).sum();
        assert_eq!(heads.len(), waiting, "targets with fan-outs, and those that take turns");
        let count = |head: u32, in_use: bool| {
            let (mut index, mut count) = (head, 0);
            while let Some(item) = self.items.get(index as usize) {
                assert_eq!(item.push.is_some(), in_use, "fan-out {index}");
                count += 1;
                assert!(count <= self.items.len(), "a list of fan-outs goes round in circles");
                index = item.next;
            }
            count
        };
        let used: usize = heads.into_iter().map(|head| count(head, true)).sum();
        assert_eq!(used, self.used, "fan-outs in use");
        assert_eq!(used + count(self.free, false), self.items.len(), "fan-outs in use and free ones");
    }

    /// Forgets all rates: without receivers they bound nothing.
    pub fn hurry(&mut self) {
        self.items.iter_mut().for_each(|item| item.rate = 0);
    }

    /// Queues a fan-out behind the earlier ones of its target.
    ///
    /// # Errors
    /// The push itself when all records are in use.
    pub fn push(
        &mut self,
        rooms: &mut HostedRooms,
        target: Target,
        (push, exclude): (EncodedPush, Exclude),
        rate: u32,
        now: Timestamp,
    ) -> Result<(), EncodedPush> {
        if self.used == self.items.capacity() {
            return Err(push);
        }
        let item = Fanout { push: Some(push), exclude, rate, started: now, delivered: 0, next: NONE };
        let index = if self.free != NONE {
            let index = self.free;
            self.free = self.items[index as usize].next;
            self.items[index as usize] = item;
            index
        } else {
            self.items.push(item);
            self.items.len() as u32 - 1
        };
        self.used += 1;
        let ends = match target {
            Target::Room(room) => rooms.fanouts(room),
            Target::Everyone => &mut self.everyone,
        };
        if ends.0 == NONE {
            *ends = (index, index);
            self.begin(rooms, target);
            self.lines[Line::of(rooms, target) as usize].push_back(target);
        } else {
            self.items[ends.1 as usize].next = index;
            ends.1 = index;
        }
        Ok(())
    }

    fn begin(&mut self, rooms: &mut HostedRooms, target: Target) {
        match target {
            Target::Room(room) => rooms.begin_visit(room),
            Target::Everyone => self.everyone_cursor = 0,
        }
    }

    /// Makes at most `count` deliveries, `sessions` being the number of table slots in use; fewer
    /// when one is to be made again, which the first of them never is. Returns how many it made.
    pub fn run(
        &mut self,
        rooms: &mut HostedRooms,
        position: (usize, Timestamp),
        count: usize,
        mut deliver: impl FnMut(Delivery<'_>) -> Progress,
    ) -> usize {
        let mut made = 0;
        let first = std::mem::replace(&mut self.first, Line::Small);
        for (line, until) in [(first, count.div_ceil(2)), (first.other(), count), (first, count)] {
            if !self.run_line(rooms, line, position, until, &mut made, &mut deliver) {
                self.first = line;
                break;
            }
        }
        made
    }

    /// Serves one line until so many deliveries are made; false when one is to be made again.
    fn run_line(
        &mut self,
        rooms: &mut HostedRooms,
        line: Line,
        position: (usize, Timestamp),
        until: usize,
        made: &mut usize,
        deliver: &mut impl FnMut(Delivery<'_>) -> Progress,
    ) -> bool {
        let line = line as usize;
        // A target limited by its rate makes nothing: after a whole round of those there is nothing
        // to do now.
        let mut idle_round = 0;
        while *made < until && idle_round < self.lines[line].len() {
            let Some(target) = self.lines[line].pop_front() else { break };
            let before = *made;
            let quantum = QUANTUM.min(until - *made);
            let served = self.serve(rooms, target, position, quantum, made, deliver);
            match (served, target) {
                (Served::More, _) => self.lines[line].push_back(target),
                (Served::Again, _) => {
                    self.lines[line].push_front(target);
                    return false;
                }
                (Served::All, Target::Room(room)) => rooms.fanouts_done(room),
                (Served::All, Target::Everyone) => {}
            }
            idle_round = if *made == before && served == Served::More { idle_round + 1 } else { 0 };
        }
        true
    }

    /// Serves one target.
    fn serve(
        &mut self,
        rooms: &mut HostedRooms,
        target: Target,
        (sessions, now): (usize, Timestamp),
        quantum: usize,
        made: &mut usize,
        deliver: &mut impl FnMut(Delivery<'_>) -> Progress,
    ) -> Served {
        let end = *made + quantum;
        loop {
            let head = self.head(rooms, target);
            if head == NONE {
                return Served::All;
            }
            let end = end.min(*made + self.allowance(head, now));
            while *made < end {
                let before = self.cursor(rooms, target);
                let Some(session) = self.next_session(rooms, target, sessions) else {
                    self.finish_head(rooms, target);
                    break;
                };
                let item = &mut self.items[head as usize];
                if let Some(push) = &item.push {
                    let filtered = target == Target::Everyone;
                    let delivery = Delivery { session, push, exclude: item.exclude, filtered };
                    if deliver(delivery) == Progress::Again {
                        self.go_back(rooms, target, before);
                        return Served::Again;
                    }
                }
                item.delivered += 1;
                *made += 1;
            }
            if *made >= end && self.head(rooms, target) == head {
                return Served::More;
            }
        }
    }

    /// Deliveries that the fan-out's rate allows by now.
    fn allowance(&self, index: u32, now: Timestamp) -> usize {
        let item = &self.items[index as usize];
        if item.rate == 0 {
            return usize::MAX >> 1;
        }
        let due = now.since(item.started).as_secs_f64() * f64::from(item.rate) + 1.0;
        (due as u64).saturating_sub(item.delivered) as usize
    }

    fn head(&mut self, rooms: &mut HostedRooms, target: Target) -> u32 {
        match target {
            Target::Room(room) => rooms.fanouts(room).0,
            Target::Everyone => self.everyone.0,
        }
    }

    fn cursor(&self, rooms: &HostedRooms, target: Target) -> usize {
        match target {
            Target::Room(room) => rooms.cursor(room) as usize,
            Target::Everyone => self.everyone_cursor,
        }
    }

    fn go_back(&mut self, rooms: &mut HostedRooms, target: Target, cursor: usize) {
        match target {
            Target::Room(room) => rooms.set_cursor(room, cursor as u32),
            Target::Everyone => self.everyone_cursor = cursor,
        }
    }

    fn next_session(&mut self, rooms: &mut HostedRooms, target: Target, sessions: usize) -> Option<u32> {
        match target {
            Target::Room(room) => rooms.visit(room),
            Target::Everyone => {
                let session = self.everyone_cursor;
                self.everyone_cursor += 1;
                (session < sessions).then_some(session as u32)
            }
        }
    }

    fn finish_head(&mut self, rooms: &mut HostedRooms, target: Target) {
        let ends = match target {
            Target::Room(room) => rooms.fanouts(room),
            Target::Everyone => &mut self.everyone,
        };
        let index = ends.0;
        let item = &mut self.items[index as usize];
        ends.0 = item.next;
        if ends.0 == NONE {
            ends.1 = NONE;
        }
        item.push = None;
        item.next = self.free;
        self.free = index;
        self.used -= 1;
        match target {
            Target::Room(room) => self.places.return_room(self.me, rooms.name(room)),
            Target::Everyone => self.places.return_everyone(self.me),
        }
        self.begin(rooms, target);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rooms::{JoinLimit, RoomSizes, SessionRooms};
    use super::*;
    use crate::address::{Fingerprint, Fingerprints};
    use crate::message::MessageClass;
    use crate::session::text::TextStore;
    use gateway_proto::frame::Operation;
    use netpoll::{BackendConfig, BufferPools};
    use std::ops::Range;

    const ME: WorkerId = WorkerId(0);

    struct World {
        rooms: HostedRooms,
        texts: TextStore,
        places: Arc<FanoutPlaces>,
        fanouts: Fanouts,
        push: EncodedPush,
        name: Fingerprint,
    }

    /// A room with `members` members.
    fn world(members: u32) -> World {
        let name = Fingerprints::new((1, 2)).room("live://1");
        let sizes = FanoutSizes::of(64);
        let places = Arc::new(FanoutPlaces::new(1, sizes));
        let fanouts = Fanouts::with_capacity(sizes, ME, Arc::clone(&places));
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let bodies: [&[u8]; 1] = [b"hello"];
        let block = pools.take(EncodedPush::encoded_size(&bodies).unwrap()).unwrap();
        let push = EncodedPush::encode(block, MessageClass::Room, Operation(1000), &bodies);
        let (rooms, texts) =
            (HostedRooms::with_capacity(RoomSizes::of(64, 1), 1024), TextStore::with_capacity(256, 0, 64));
        let mut world = World { rooms, texts, places, fanouts, push, name };
        world.enter("live://1", 0..members);
        world
    }

    impl World {
        fn enter(&mut self, key: &str, sessions: Range<u32>) -> RoomIndex {
            let name = Fingerprints::new((1, 2)).room(key);
            for session in sessions {
                let limit = JoinLimit { rooms_max: 8, leaving: 0, sharers: 1 };
                let mut own = SessionRooms::EMPTY;
                self.rooms.join(&mut self.texts, (name, key), session, &mut own, limit).unwrap();
            }
            self.rooms.find(name).unwrap()
        }

        fn push_to(&mut self, room: RoomIndex) {
            let (name, members) = (self.rooms.name(room), self.rooms.total(room));
            assert!(self.places.take_for_room(name, members, || [ME].into_iter()));
            let push = (self.push.clone(), Exclude::default());
            self.fanouts.push(&mut self.rooms, Target::Room(room), push, 0, Timestamp::ZERO).unwrap();
        }

        /// The sessions that a slice of `count` delivers to.
        fn slice(&mut self, count: usize) -> Vec<u32> {
            let mut received = vec![];
            let position = (1024, Timestamp::ZERO);
            let made = self.fanouts.run(&mut self.rooms, position, count, |delivery| {
                received.push(delivery.session);
                Progress::Done
            });
            assert_eq!(made, received.len());
            self.fanouts.invariants(self.rooms.fanout_heads());
            received
        }
    }

    #[test]
    fn a_small_room_waits_for_no_large_one_and_takes_half_of_a_slice_at_most() {
        let mut world = world(4);
        let large: Vec<RoomIndex> =
            (0..10).map(|room| world.enter(&format!("large://{room}"), 100..165)).collect();
        for room in large.into_iter().chain([world.rooms.find(world.name).unwrap()]) {
            (0..2).for_each(|_| world.push_to(room));
        }
        let received = world.slice(32);
        let small = received.iter().filter(|session| **session < 4).count();
        assert_eq!((small, received.len()), (8, 32), "both of its messages, and then the large ones");

        // Small rooms that never end leave the other half to the large ones.
        let many: Vec<RoomIndex> =
            (0..10).map(|room| world.enter(&format!("small://{room}"), 0..4)).collect();
        many.iter().for_each(|room| (0..2).for_each(|_| world.push_to(*room)));
        let received = world.slice(32);
        assert_eq!(received.iter().filter(|session| **session < 4).count(), 16);
        // And either has all where the other has nothing left.
        while !world.fanouts.is_empty() {
            assert!(world.slice(32).len() == 32 || world.fanouts.is_empty());
        }
        assert_eq!(world.places.taken(ME), 0);
    }

    #[test]
    fn a_delivery_that_is_put_off_is_made_in_a_later_turn_and_none_before_it() {
        for everyone in [false, true] {
            let mut world = world(4);
            let room = world.rooms.find(world.name).unwrap();
            let (target, taken) = match everyone {
                true => (Target::Everyone, world.places.take_for_everyone()),
                false => (Target::Room(room), world.places.take_for_room(world.name, 4, || [ME].into_iter())),
            };
            assert!(taken);
            let push = (world.push.clone(), Exclude::default());
            world.fanouts.push(&mut world.rooms, target, push, 0, Timestamp::ZERO).unwrap();
            let mut received = vec![];
            let mut turns = vec![];
            while !world.fanouts.is_empty() {
                let mut first = true;
                let position = (4, Timestamp::ZERO);
                let made = world.fanouts.run(&mut world.rooms, position, 32, |delivery| {
                    if !std::mem::take(&mut first) && received.len() < 3 {
                        return Progress::Again;
                    }
                    received.push(delivery.session);
                    Progress::Done
                });
                turns.push(made);
                world.fanouts.invariants(world.rooms.fanout_heads());
            }
            assert_eq!(turns, [1, 1, 2], "everyone: {everyone}");
            received.sort_unstable();
            assert_eq!(received, [0, 1, 2, 3], "everyone: {everyone}");
            assert_eq!(world.places.taken(ME), 0);
        }
    }
}
