//! Half-open connections (RFC 4987, 3.3): 64 bytes each until the handshake is complete, bounded in
//! all and for each network.
//!
//! ```text
//!   SYN ─► list 0 ─ 1 s ─► list 1 ─ 2 s ─► list 2 … ─► given up  (one FIFO per retry, no wheel)
//!   ACK ─► control block, or the list of those that wait to be accepted
//! ```
//!
//! A waiting entry has completed its handshake, but the owner does not accept, or has no room. Its
//! data is refused with a window of zero, so that it stays this small. The window opens when it is
//! accepted.

use crate::time::Now;
use crate::wire::flow::Tuple;
use crate::wire::{Ip, Mac};
use netpoll::{FixedSlab, Slot};

/// Counters of networks; several share one when there are more.
const NETWORKS: usize = 4096;
/// The most retries; each has a list.
const RETRIES: usize = 8;
/// The list of entries that wait to be accepted.
const WAITING: u8 = RETRIES as u8;
const LISTS: usize = RETRIES + 1;

/// Options that both hosts speak: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreed(u8);

impl Agreed {
    /// Timestamps (RFC 7323).
    pub(crate) const TIMESTAMPS: Agreed = Agreed(1);
    /// Selective acknowledgements (RFC 2018).
    pub(crate) const SACK: Agreed = Agreed(2);
    /// Window scaling (RFC 7323).
    pub(crate) const SCALE: Agreed = Agreed(4);

    /// The options with a true condition.
    pub(crate) fn on(options: [(Agreed, bool); 3]) -> Agreed {
        Agreed(
            options.iter().filter(|(_, is_agreed)| *is_agreed).fold(0, |bits, (option, _)| bits | option.0),
        )
    }

    pub(crate) fn has(self, option: Agreed) -> bool {
        self.0 & option.0 != 0
    }
}

/// The result of a handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handshake {
    /// The peer's initial sequence number, and ours.
    pub(crate) irs: u32,
    pub(crate) iss: u32,
    /// The peer's last timestamp.
    pub(crate) ts_recent: u32,
    /// The peer's MSS.
    pub(crate) mss: u16,
    /// The peer's window in its last segment, as on the wire.
    pub(crate) window: u16,
    /// The peer's window scale; counts with [`Agreed::SCALE`].
    pub(crate) scale: u8,
    pub(crate) agreed: Agreed,
}

/// A half-open connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfOpen {
    pub(crate) remote: Ip,
    pub(crate) local_index: u8,
    pub(crate) listener: u8,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    pub(crate) handshake: Handshake,
    /// The time of the next SYN-ACK, in milliseconds.
    pub(crate) due_ms: u32,
    next: Slot<HalfOpen>,
    previous: Slot<HalfOpen>,
    pub(crate) mac: Mac,
    /// SYN-ACKs sent again, or [`WAITING`].
    list: u8,
    /// Whether a SYN-ACK was sent more than once.
    pub(crate) retransmitted: bool,
}

const _: () = assert!(size_of::<HalfOpen>() <= 64);

impl HalfOpen {
    pub(crate) fn tuple(&self, local: Ip) -> Tuple {
        Tuple { remote: self.remote, local, remote_port: self.remote_port, local_port: self.local_port }
    }

    /// Whether the handshake is complete.
    pub(crate) fn is_waiting(&self) -> bool {
        self.list == WAITING
    }

    /// A new entry. The cache sets the rest.
    pub(crate) fn new(tuple: &Tuple, local_index: u8, listener: u8, mac: Mac) -> HalfOpen {
        HalfOpen {
            remote: tuple.remote,
            local_index,
            listener,
            remote_port: tuple.remote_port,
            local_port: tuple.local_port,
            handshake: Handshake::default(),
            due_ms: 0,
            next: Slot::NONE,
            previous: Slot::NONE,
            mac,
            list: 0,
            retransmitted: false,
        }
    }
}

/// The cache.
#[derive(Debug)]
pub(crate) struct SynCache {
    entries: FixedSlab<HalfOpen>,
    waiting: usize,
    heads: [Slot<HalfOpen>; LISTS],
    tails: [Slot<HalfOpen>; LISTS],
    networks: Vec<u16>,
    per_network_max: u16,
    retries_max: u8,
}

/// A due entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send the SYN-ACK again.
    Retransmit(Slot<HalfOpen>),
    /// Give up; the entry is still there.
    GiveUp(Slot<HalfOpen>),
}

impl SynCache {
    pub(crate) fn new(capacity: usize, per_network_max: u16, retries_max: u8) -> SynCache {
        SynCache {
            entries: FixedSlab::new(capacity),
            waiting: 0,
            heads: [Slot::NONE; LISTS],
            tails: [Slot::NONE; LISTS],
            networks: vec![0; NETWORKS],
            per_network_max,
            retries_max: retries_max.min(RETRIES as u8 - 1),
        }
    }

    pub(crate) fn get(&self, index: Slot<HalfOpen>) -> &HalfOpen {
        &self.entries[index]
    }

    pub(crate) fn get_mut(&mut self, index: Slot<HalfOpen>) -> &mut HalfOpen {
        &mut self.entries[index]
    }

    /// Entries, including those that wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries that wait to be accepted.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds an entry, for a SYN-ACK that is sent now. `network` is the number of its network.
    /// `None` when there is no room.
    pub(crate) fn insert(&mut self, entry: HalfOpen, network: u64, now: Now) -> Option<Slot<HalfOpen>> {
        let share = &mut self.networks[network as usize % NETWORKS];
        if *share >= self.per_network_max {
            return None;
        }
        let index = self.entries.insert(entry).ok()?;
        *share += 1;
        self.entries[index].due_ms = now.ms.wrapping_add(1000);
        self.append(index, 0);
        Some(index)
    }

    /// Removes an entry and returns it.
    pub(crate) fn remove(&mut self, index: Slot<HalfOpen>, network: u64) -> HalfOpen {
        self.unlink(index);
        let share = &mut self.networks[network as usize % NETWORKS];
        *share = share.saturating_sub(1);
        self.entries.release(index);
        self.entries[index]
    }

    /// Notes that the handshake is complete, and that the connection can not be accepted yet.
    pub(crate) fn mark_waiting(&mut self, index: Slot<HalfOpen>) {
        if !self.entries[index].is_waiting() {
            self.unlink(index);
            self.append(index, WAITING);
        }
    }

    /// The entry that has waited longest.
    pub(crate) fn first_waiting(&self) -> Option<Slot<HalfOpen>> {
        Some(self.heads[usize::from(WAITING)]).filter(|index| index.is_some())
    }

    /// The next due entry. Call it until it returns `None`.
    pub(crate) fn expire(&mut self, now: Now) -> Option<Due> {
        for list in 0..RETRIES {
            let index = self.heads[list];
            if !self.entries.get(index).is_some_and(|entry| now.reached(entry.due_ms)) {
                continue;
            }
            if list as u8 >= self.retries_max {
                return Some(Due::GiveUp(index));
            }
            self.unlink(index);
            let entry = &mut self.entries[index];
            // RFC 6298, 5.5: 1 s, 2 s, 4 s …
            entry.due_ms = now.ms.wrapping_add(1000 << (list + 1));
            entry.retransmitted = true;
            self.append(index, list as u8 + 1);
            return Some(Due::Retransmit(index));
        }
        None
    }

    /// Milliseconds until the next entry is due.
    pub(crate) fn next_due(&self, now: Now) -> Option<u32> {
        let due = |head: &Slot<HalfOpen>| self.entries.get(*head).map(|entry| now.until(entry.due_ms));
        self.heads[..RETRIES].iter().filter_map(due).min()
    }

    fn append(&mut self, index: Slot<HalfOpen>, list: u8) {
        let place = usize::from(list);
        let tail = std::mem::replace(&mut self.tails[place], index);
        match self.entries.get_mut(tail) {
            Some(last) => last.next = index,
            None => self.heads[place] = index,
        }
        let entry = &mut self.entries[index];
        (entry.next, entry.previous, entry.list) = (Slot::NONE, tail, list);
        self.waiting += usize::from(list == WAITING);
    }

    fn unlink(&mut self, index: Slot<HalfOpen>) {
        let entry = self.entries[index];
        let place = usize::from(entry.list);
        match self.entries.get_mut(entry.previous) {
            Some(previous) => previous.next = entry.next,
            None => self.heads[place] = entry.next,
        }
        match self.entries.get_mut(entry.next) {
            Some(next) => next.previous = entry.previous,
            None => self.tails[place] = entry.previous,
        }
        self.waiting -= usize::from(entry.list == WAITING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: u8) -> HalfOpen {
        let tuple = Tuple {
            remote: Ip::from_v4([10, 0, 0, host]),
            local: Ip::UNSPECIFIED,
            remote_port: 1,
            local_port: 2,
        };
        HalfOpen::new(&tuple, 0, 0, Mac::BROADCAST)
    }

    fn at(ms: u32) -> Now {
        Now { ms, us: 0 }
    }

    #[test]
    fn retries_double_and_end() {
        let mut cache = SynCache::new(4, 10, 2);
        let index = cache.insert(entry(1), 7, at(0)).unwrap();
        assert_eq!(cache.expire(at(999)), None);
        assert_eq!(cache.next_due(at(999)), Some(1));
        assert_eq!(cache.expire(at(1000)), Some(Due::Retransmit(index)));
        assert_eq!(cache.expire(at(2999)), None);
        assert_eq!(cache.expire(at(3000)), Some(Due::Retransmit(index)));
        assert_eq!(cache.expire(at(7000)), Some(Due::GiveUp(index)));
        cache.remove(index, 7);
        assert_eq!((cache.len(), cache.expire(at(90_000))), (0, None));
    }

    #[test]
    fn both_bounds_hold() {
        let mut cache = SynCache::new(3, 2, 5);
        assert!(cache.insert(entry(1), 1, at(0)).is_some());
        let second = cache.insert(entry(2), 1, at(0)).unwrap();
        assert!(cache.insert(entry(3), 1, at(0)).is_none(), "the network has its share");
        assert!(cache.insert(entry(4), 2, at(0)).is_some());
        assert!(cache.insert(entry(5), 3, at(0)).is_none(), "the cache is full");
        cache.remove(second, 1);
        assert!(cache.insert(entry(3), 1, at(0)).is_some());
    }

    #[test]
    fn those_that_wait_are_served_in_order_and_never_given_up() {
        let mut cache = SynCache::new(3, 9, 5);
        let all: Vec<_> = (0..3).map(|host| cache.insert(entry(host), 1, at(0)).unwrap()).collect();
        [all[2], all[0], all[2]].into_iter().for_each(|index| cache.mark_waiting(index));
        assert_eq!((cache.waiting(), cache.first_waiting()), (2, Some(all[2])));
        cache.remove(all[2], 1);
        assert_eq!((cache.waiting(), cache.first_waiting()), (1, Some(all[0])));
        assert_eq!(cache.expire(at(100_000)), Some(Due::Retransmit(all[1])));
        assert!(cache.get(all[0]).is_waiting());
    }
}
