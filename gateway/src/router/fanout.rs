//! Fan-outs, cut into slices: one message to many receivers never holds a turn up.
//!
//! Each target (a room, or everyone) has a queue of fan-outs, served in order; the targets take turns, a quantum of
//! deliveries each. So a broadcast to everyone delays a small room by quanta, not by itself, and messages to one
//! room keep their order.

use super::rooms::{RoomIndex, Rooms};
use crate::worker::message::{Exclude, Push};
use netpoll::Timestamp;
use std::collections::VecDeque;

const NONE: u32 = u32::MAX;

/// Deliveries for one target before the next has its turn.
const QUANTUM: usize = 128;

/// Parts of what is left of the fan-outs; a room that has one of them has its share.
const ROOM_SHARES: usize = 4;

/// Whom a fan-out is for.
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
    push: Option<Push>,
    exclude: Exclude,
    /// Deliveries a second at most; 0: as fast as it goes.
    rate: u32,
    started: Timestamp,
    delivered: u64,
    next: u32,
}

/// The fan-outs of one worker.
#[derive(Debug)]
pub struct Fanouts {
    items: Vec<Fanout>,
    free: u32,
    used: usize,
    /// Targets with fan-outs, each once.
    ring: VecDeque<Target>,
    everyone: (u32, u32),
    /// Next session to visit for everyone.
    everyone_cursor: usize,
}

/// One delivery to make.
#[derive(Debug)]
pub struct Delivery<'f> {
    /// Table index of the receiving connection.
    pub session: u32,
    /// What.
    pub push: &'f Push,
    /// Whom not.
    pub exclude: Exclude,
    /// Only to sessions whose accept set has the operation.
    pub filtered: bool,
}

impl Fanouts {
    /// Bytes that a fan-out takes.
    pub const BYTES_PER_FANOUT: usize = size_of::<Fanout>() + size_of::<Target>();

    /// Room for `capacity` fan-outs at a time.
    pub fn with_capacity(capacity: usize) -> Fanouts {
        Fanouts {
            items: Vec::with_capacity(capacity),
            free: NONE,
            used: 0,
            ring: VecDeque::with_capacity(capacity + 1),
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

    /// Gives the memory back when there are none.
    pub fn trim(&mut self) {
        if self.used == 0 && !self.items.is_empty() {
            self.items.clear();
            self.free = NONE;
            netpoll::release_spare(&mut self.items);
            netpoll::release_queue(&mut self.ring);
        }
    }

    /// How many a room may have that has no more than its share. It shrinks with what is left, so that rooms to which much is
    /// said leave some to others.
    pub fn share(&self) -> u32 {
        (((self.items.capacity() - self.used) / ROOM_SHARES) as u32).max(1)
    }

    /// Whether there is room for another.
    pub fn has_room(&self) -> bool {
        self.used < self.items.capacity()
    }

    /// Every fan-out is in the list of its target (`rooms` has the heads of the rooms' lists) or free, once; the targets
    /// with a list take turns.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self, rooms: impl Iterator<Item = u32>) {
        let heads: Vec<u32> =
            rooms.chain([self.everyone.0].into_iter().filter(|head| *head != NONE)).collect();
        assert_eq!(heads.len(), self.ring.len(), "targets with fan-outs, and those that take turns");
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

    /// Forgets all rates: nobody is there to be spared.
    pub fn hurry(&mut self) {
        self.items.iter_mut().for_each(|item| item.rate = 0);
    }

    /// Queues a fan-out behind the earlier ones of its target.
    ///
    /// # Errors
    /// The push itself when there is no room.
    pub fn push(
        &mut self,
        rooms: &mut Rooms,
        target: Target,
        (push, exclude): (Push, Exclude),
        rate: u32,
        now: Timestamp,
    ) -> Result<(), Push> {
        if !self.has_room() {
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
        if let Target::Room(room) = target {
            rooms.count_queued(room, true);
        }
        let ends = match target {
            Target::Room(room) => rooms.fanouts(room),
            Target::Everyone => &mut self.everyone,
        };
        if ends.0 == NONE {
            *ends = (index, index);
            self.begin(rooms, target);
            self.ring.push_back(target);
        } else {
            self.items[ends.1 as usize].next = index;
            ends.1 = index;
        }
        Ok(())
    }

    fn begin(&mut self, rooms: &mut Rooms, target: Target) {
        match target {
            Target::Room(room) => rooms.begin_visit(room),
            Target::Everyone => self.everyone_cursor = 0,
        }
    }

    /// Makes at most `count` deliveries, `sessions` being the number of table slots in use. Returns how many it made.
    pub fn run(
        &mut self,
        rooms: &mut Rooms,
        (sessions, now): (usize, Timestamp),
        count: usize,
        mut deliver: impl FnMut(Delivery<'_>),
    ) -> usize {
        let mut made = 0;
        // A target limited by its rate makes nothing: after a whole round of those there is nothing to do now.
        let mut idle_round = 0;
        while made < count && idle_round < self.ring.len() {
            let Some(target) = self.ring.pop_front() else { break };
            let before = made;
            let quantum = QUANTUM.min(count - made);
            let more = self.serve(rooms, target, (sessions, now), quantum, &mut made, &mut deliver);
            if more {
                self.ring.push_back(target);
            } else if let Target::Room(room) = target {
                rooms.fanouts_done(room);
            }
            idle_round = if made == before && more { idle_round + 1 } else { 0 };
        }
        made
    }

    /// Serves one target; false when it has no more fan-outs.
    fn serve(
        &mut self,
        rooms: &mut Rooms,
        target: Target,
        (sessions, now): (usize, Timestamp),
        quantum: usize,
        made: &mut usize,
        deliver: &mut impl FnMut(Delivery<'_>),
    ) -> bool {
        let end = *made + quantum;
        loop {
            let head = self.head(rooms, target);
            if head == NONE {
                return false;
            }
            let end = end.min(*made + self.allowance(head, now));
            while *made < end {
                let Some(session) = self.next_session(rooms, target, sessions) else {
                    self.finish_head(rooms, target);
                    break;
                };
                let item = &mut self.items[head as usize];
                item.delivered += 1;
                *made += 1;
                if let Some(push) = &item.push {
                    let filtered = target == Target::Everyone;
                    deliver(Delivery { session, push, exclude: item.exclude, filtered });
                }
            }
            if *made >= end && self.head(rooms, target) == head {
                return true;
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

    fn head(&mut self, rooms: &mut Rooms, target: Target) -> u32 {
        match target {
            Target::Room(room) => rooms.fanouts(room).0,
            Target::Everyone => self.everyone.0,
        }
    }

    fn next_session(&mut self, rooms: &mut Rooms, target: Target, sessions: usize) -> Option<u32> {
        match target {
            Target::Room(room) => rooms.visit(room),
            Target::Everyone => {
                let session = self.everyone_cursor;
                self.everyone_cursor += 1;
                (session < sessions).then_some(session as u32)
            }
        }
    }

    fn finish_head(&mut self, rooms: &mut Rooms, target: Target) {
        if let Target::Room(room) = target {
            rooms.count_queued(room, false);
        }
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
        self.begin(rooms, target);
    }
}
