//! TIME-WAIT (RFC 9293, 3.6.1): a record of 32 bytes instead of a control block, in a ring with one
//! lifetime for all.
//!
//! A record is recognized by the 64-bit keyed hash of its tuple. The ring is a queue: the oldest
//! record expires next, and is evicted when the ring is full.

use crate::tcp::seq::before;
use crate::tcp::tables::flow_table::{FlowTable, Record};
use crate::tcp::tables::index::TimeWaitIndex;
use crate::time::Now;

/// The shortest time between two restarts of a record's lifetime, in milliseconds.
const RESTART_MIN_MS: u32 = 1000;

/// The rest of a closed connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimeWaitRecord {
    pub(crate) hash: u64,
    pub(crate) snd_nxt: u32,
    pub(crate) rcv_nxt: u32,
    /// The peer's last timestamp; counts with `has_timestamps`.
    pub(crate) ts_recent: u32,
    /// The offset of our timestamps from the clock.
    pub(crate) ts_offset: u32,
    /// The time at which it expires, in milliseconds.
    pub(crate) due_ms: u32,
    pub(crate) has_timestamps: bool,
    pub(crate) is_live: bool,
}

const _: () = assert!(size_of::<TimeWaitRecord>() == 32);

/// The ring.
#[derive(Debug)]
pub(crate) struct TimeWait {
    ring: Vec<TimeWaitRecord>,
    capacity: usize,
    /// Numbers of records ever added, and ever removed from the front. Modulo the ring's size they
    /// are positions.
    added: u64,
    removed: u64,
    live: usize,
    lifetime_ms: u32,
}

impl TimeWait {
    pub(crate) fn new(capacity: usize, lifetime_ms: u32) -> TimeWait {
        TimeWait { ring: Vec::with_capacity(capacity), capacity, added: 0, removed: 0, live: 0, lifetime_ms }
    }

    pub(crate) fn get(&self, index: TimeWaitIndex) -> &TimeWaitRecord {
        &self.ring[index.get() as usize]
    }

    /// Records that have not expired.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Adds a record in the place of `old` in the flow table. Returns whether another record was
    /// evicted.
    pub(crate) fn insert(
        &mut self,
        flows: &mut FlowTable,
        mut record: TimeWaitRecord,
        old: Record,
        now: Now,
    ) -> bool {
        if self.capacity == 0 {
            flows.remove(record.hash, old);
            return true;
        }
        let evicts = self.added - self.removed == self.capacity as u64;
        let evicted = evicts && self.ring[(self.removed % self.capacity as u64) as usize].is_live;
        if evicts {
            self.drop_oldest(flows);
        }
        (record.due_ms, record.is_live) = (now.ms.wrapping_add(self.lifetime_ms), true);
        let index = (self.added % self.capacity as u64) as usize;
        match self.ring.get_mut(index) {
            Some(place) => *place = record,
            None => self.ring.push(record),
        }
        flows.replace(record.hash, old, Record::TimeWait(TimeWaitIndex::new(index as u32)));
        self.added += 1;
        self.live += 1;
        evicted
    }

    /// RFC 9293, 3.10.7.4: a retransmitted FIN restarts the wait. The record moves to the ring's
    /// end, at most once per second: each move uses a place, and a peer that repeats its FIN must
    /// not evict all others.
    pub(crate) fn restart(&mut self, flows: &mut FlowTable, index: TimeWaitIndex, now: Now) {
        let record = self.ring[index.get() as usize];
        if now.since(record.due_ms.wrapping_sub(self.lifetime_ms)) < RESTART_MIN_MS {
            return;
        }
        self.ring[index.get() as usize].is_live = false;
        self.live -= 1;
        self.insert(flows, record, Record::TimeWait(index), now);
    }

    /// Removes a record because its tuple is used again. The caller has removed it from the flow
    /// table.
    pub(crate) fn forget(&mut self, index: TimeWaitIndex) {
        if std::mem::take(&mut self.ring[index.get() as usize].is_live) {
            self.live -= 1;
        }
    }

    fn drop_oldest(&mut self, flows: &mut FlowTable) {
        let index = (self.removed % self.capacity as u64) as usize;
        self.removed += 1;
        let record = &mut self.ring[index];
        if std::mem::take(&mut record.is_live) {
            flows.remove(record.hash, Record::TimeWait(TimeWaitIndex::new(index as u32)));
            self.live -= 1;
        }
    }

    /// Removes expired records, at most `count_max`.
    pub(crate) fn expire(&mut self, flows: &mut FlowTable, now: Now, count_max: usize) {
        for _ in 0..count_max {
            if self.added == self.removed {
                return;
            }
            let oldest = self.ring[(self.removed % self.capacity as u64) as usize];
            if oldest.is_live && !now.reached(oldest.due_ms) {
                return;
            }
            self.drop_oldest(flows);
        }
    }

    /// RFC 6191, 2: whether a SYN may reopen the connection: its timestamp is newer or, failing
    /// that, its sequence number.
    pub(crate) fn may_reopen(record: &TimeWaitRecord, sequence: u32, timestamp: Option<u32>) -> bool {
        match (record.has_timestamps, timestamp) {
            (true, Some(value)) if value != record.ts_recent => before(record.ts_recent, value),
            (true, None) => false,
            _ => before(record.rcv_nxt, sequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::tables::index::BlockIndex;

    fn at(ms: u32) -> Now {
        Now { ms, us: 0 }
    }

    const OLD: Record = Record::Connection(BlockIndex::new(9));

    fn add(ring: &mut TimeWait, flows: &mut FlowTable, hash: u64, ms: u32) -> bool {
        assert!(flows.insert(hash, OLD));
        let record = TimeWaitRecord { hash, ..TimeWaitRecord::default() };
        ring.insert(flows, record, OLD, at(ms))
    }

    #[test]
    fn records_expire_in_order_and_the_oldest_makes_room() {
        let (mut ring, mut flows) = (TimeWait::new(2, 1000), FlowTable::new(16));
        assert!(!add(&mut ring, &mut flows, 1, 0));
        assert!(!add(&mut ring, &mut flows, 2, 10));
        assert!(add(&mut ring, &mut flows, 3, 20), "the first had to go");
        assert_eq!((ring.len(), flows.len()), (2, 2));
        ring.expire(&mut flows, at(1010), 10);
        assert_eq!((ring.len(), flows.len()), (1, 1));
        let Some(Record::TimeWait(third)) = flows.find(3, |_| true) else { panic!("it is there") };
        ring.restart(&mut flows, third, at(1019));
        assert_eq!(flows.find(3, |_| true), Some(Record::TimeWait(third)), "not so soon after it came");
        ring.restart(&mut flows, third, at(1020));
        ring.expire(&mut flows, at(1025), 10);
        assert_eq!(ring.len(), 1, "it waits anew");
        ring.expire(&mut flows, at(2020), 10);
        assert_eq!((ring.len(), flows.len()), (0, 0));
    }

    #[test]
    fn only_newer_syns_reopen() {
        let record =
            TimeWaitRecord { rcv_nxt: 100, ts_recent: 50, has_timestamps: true, ..TimeWaitRecord::default() };
        assert!(TimeWait::may_reopen(&record, 5, Some(51)));
        assert!(!TimeWait::may_reopen(&record, 500, Some(49)));
        assert!(TimeWait::may_reopen(&record, 101, Some(50)));
        assert!(!TimeWait::may_reopen(&record, 500, None));
        let plain = TimeWaitRecord { has_timestamps: false, ..record };
        assert!(TimeWait::may_reopen(&plain, 101, None) && !TimeWait::may_reopen(&plain, 100, None));
    }
}
