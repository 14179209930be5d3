//! The push operations that connections accept, each different set kept once.
//!
//! A place is taken by the address of the connection that brought the set first. An address may
//! take another place while it has at most as many as are left: an address that brings any number
//! of sets leaves half of the places to others. A set that is there already costs no place.

use crate::sources::Source;
use gateway_proto::auth::ACCEPTS_MAX;
use gateway_proto::frame::Operation;
use netpoll::release_spare;

#[derive(Clone, Debug)]
struct Set {
    users: u32,
    count: u8,
    /// Sorted, without repetition, in the first `count` places.
    operations: [i32; ACCEPTS_MAX],
}

/// A set in [`AcceptSets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptSetId(u16);

impl AcceptSetId {
    /// The empty set: no pushes but those to rooms.
    pub const EMPTY: AcceptSetId = AcceptSetId(0);
}

/// Sets of operations, shared by all connections that accept the same. Clients of one application
/// have a handful.
#[derive(Debug)]
pub struct AcceptSets {
    /// The first is always the empty set.
    sets: Vec<Set>,
    /// Of each set in use; 0 of the others. A login looks through these and not through the sets,
    /// which are 66 times as large.
    hashes: Vec<u32>,
    /// Which address each place was taken by.
    takers: Vec<Source>,
    capacity: usize,
    /// Sets in use, the empty one counted.
    used: usize,
}

/// One of so many places is for logins alone.
const LOGIN_SHARE: usize = 4;

/// What a set that takes a place must leave.
#[derive(Clone, Copy)]
struct Spare {
    /// Places for logins.
    places: usize,
    /// As many places as this address has; `None`: any.
    of: Option<Source>,
}

impl AcceptSets {
    /// Room for `capacity` different sets.
    pub fn with_capacity(capacity: usize) -> AcceptSets {
        let mut sets = Vec::with_capacity(capacity.clamp(1, usize::from(u16::MAX)));
        sets.push(Set { users: 1, count: 0, operations: [0; ACCEPTS_MAX] });
        let capacity = sets.capacity();
        let mut hashes = Vec::with_capacity(capacity);
        hashes.push(EMPTY_HASH);
        let mut takers = Vec::with_capacity(capacity);
        takers.push(Source::default());
        AcceptSets { capacity, sets, hashes, takers, used: 1 }
    }

    /// The set of these operations, with one more user, at `source`; `None` when there is no room
    /// for another set of that.
    pub fn acquire(&mut self, operations: &[Operation], source: Source) -> Option<AcceptSetId> {
        let mut sorted = [0; ACCEPTS_MAX];
        let mut count = 0;
        for operation in operations {
            insert_sorted(&mut sorted, &mut count, operation.0);
        }
        self.acquire_sorted(&sorted, count, source, Spare { places: 0, of: Some(source) })
    }

    /// The set of `base` with `operations` added or removed, in place of `base`, which then has one
    /// user less. `None`, and nothing has changed, when a set has no room for so many operations,
    /// or when there is none for another set: some are kept for logins. A set without other users
    /// is changed in place, so a connection that changes its own again and again takes no further
    /// place.
    pub fn change(
        &mut self,
        base: AcceptSetId,
        operations: impl Iterator<Item = Operation>,
        add: bool,
        source: Source,
    ) -> Option<AcceptSetId> {
        let from = &self.sets[usize::from(base.0)];
        let (mut sorted, mut count) = (from.operations, usize::from(from.count));
        for operation in operations {
            if add {
                if !insert_sorted(&mut sorted, &mut count, operation.0) {
                    return None;
                }
            } else if let Ok(at) = sorted[..count].binary_search(&operation.0) {
                sorted.copy_within(at + 1..count, at);
                count -= 1;
            }
        }
        let is_own = base != AcceptSetId::EMPTY && self.sets[usize::from(base.0)].users == 1;
        if is_own {
            // Its place is free now, and is the new set's unless there is one like it.
            self.release(base);
            let taker = self.takers[usize::from(base.0)];
            return self.acquire_sorted(&sorted, count, taker, Spare { places: 0, of: None });
        }
        let spare = Spare { places: self.capacity / LOGIN_SHARE, of: Some(source) };
        let changed = self.acquire_sorted(&sorted, count, source, spare)?;
        self.release(base);
        Some(changed)
    }

    /// The set, with a place of `taker` if it takes one.
    fn acquire_sorted(
        &mut self,
        sorted: &[i32; ACCEPTS_MAX],
        count: usize,
        taker: Source,
        spare: Spare,
    ) -> Option<AcceptSetId> {
        if count == 0 {
            return Some(AcceptSetId::EMPTY);
        }
        let hash = hash_of(&sorted[..count]);
        let same = |set: &Set| set.operations[..usize::from(set.count)] == sorted[..count];
        let mut alike = self.hashes.iter().enumerate().filter(|(_, other)| **other == hash);
        let found = alike.find(|(index, _)| same(&self.sets[*index])).map(|(index, _)| index);
        if found.is_none() && !self.has_place(spare) {
            return None;
        }
        let vacant = || self.hashes.iter().position(|hash| *hash == 0);
        let index = found.or_else(vacant).unwrap_or(self.sets.len());
        if index == self.capacity {
            return None;
        }
        if index == self.sets.len() {
            self.sets.push(Set { users: 0, count: 0, operations: [0; ACCEPTS_MAX] });
            self.hashes.push(0);
            self.takers.push(taker);
        }
        self.hashes[index] = hash;
        let set = &mut self.sets[index];
        if set.users == 0 {
            set.operations = *sorted;
            set.count = count as u8;
            self.takers[index] = taker;
            self.used += 1;
        }
        set.users += 1;
        Some(AcceptSetId(index as u16))
    }

    /// Whether a set finds a place that leaves what it must.
    fn has_place(&self, spare: Spare) -> bool {
        let left = self.capacity - self.used;
        let is_fair = |source: Source| {
            // No address has more than are used.
            left >= self.used || {
                let places = self.takers.iter().zip(&self.hashes).skip(1);
                let taken = places.filter(|(taker, hash)| **hash != 0 && **taker == source).count();
                taken <= left
            }
        };
        left > spare.places && spare.of.is_none_or(is_fair)
    }

    /// One user less.
    pub fn release(&mut self, id: AcceptSetId) {
        if id != AcceptSetId::EMPTY {
            let set = &mut self.sets[usize::from(id.0)];
            debug_assert!(set.users > 0);
            set.users = set.users.saturating_sub(1);
            if set.users == 0 {
                self.hashes[usize::from(id.0)] = 0;
                self.used -= 1;
            }
        }
    }

    /// Whether the set has the operation.
    pub fn accepts(&self, id: AcceptSetId, operation: i32) -> bool {
        let set = &self.sets[usize::from(id.0)];
        set.operations[..usize::from(set.count)].contains(&operation)
    }

    /// Each set is sorted, without repetition and there once; `users` are as many as counted.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self, users: impl Fn(AcceptSetId) -> u32) {
        let used = self.sets.iter().enumerate().skip(1).filter(|(_, set)| set.users > 0);
        for (index, set) in used.clone() {
            let operations = |set: &Set| set.operations[..usize::from(set.count)].to_vec();
            let own = operations(set);
            assert!(!own.is_empty() && own.is_sorted_by(|a, b| a < b), "accept set {index}");
            assert_eq!(
                used.clone().filter(|(_, other)| operations(other) == own).count(),
                1,
                "accept set {index}"
            );
            assert_eq!(set.users, users(AcceptSetId(index as u16)), "users of accept set {index}");
            assert_eq!(self.hashes[index], hash_of(&own), "hash of accept set {index}");
        }
        let unused = self.sets.iter().enumerate().filter(|(_, set)| set.users == 0);
        assert!(
            unused.map(|(index, _)| self.hashes[index]).all(|hash| hash == 0)
                && self.hashes.len() == self.sets.len()
        );
        assert_eq!(used.count() + 1, self.used, "accept sets in use");
        assert!(self.sets[0].count == 0 && self.sets.len() <= self.capacity, "the empty set is the first");
    }

    /// Users of sets that have the operation.
    pub fn users_of(&self, operation: i32) -> u32 {
        let sets = self.sets[1..].iter().filter(|set| set.users > 0);
        let with =
            sets.filter(|set| set.operations[..usize::from(set.count)].binary_search(&operation).is_ok());
        with.map(|set| set.users).sum()
    }

    /// Sets in use, the empty one counted.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether no set but the empty one has users.
    pub fn is_unused(&self) -> bool {
        self.used == 1
    }

    /// Releases the memory when no set has users.
    pub fn trim(&mut self) {
        if self.sets.len() > 1 && self.is_unused() {
            self.sets.truncate(1);
            self.hashes.truncate(1);
            self.takers.truncate(1);
            release_spare(&mut self.sets);
        }
    }

    /// Operations in the set.
    pub fn size(&self, id: AcceptSetId) -> usize {
        usize::from(self.sets[usize::from(id.0)].count)
    }
}

/// Of the empty set, which is never looked for.
const EMPTY_HASH: u32 = 1;

/// FNV-1a, never 0. Sets that are made to collide cost what every search did without it: a
/// comparison each.
fn hash_of(operations: &[i32]) -> u32 {
    let step = |hash: u32, operation: &i32| (hash ^ operation.cast_unsigned()).wrapping_mul(0x0100_0193);
    operations.iter().fold(0x811c_9dc5, step).max(1)
}

/// Inserts unless it is there; false when there is no room.
fn insert_sorted(sorted: &mut [i32; ACCEPTS_MAX], count: &mut usize, operation: i32) -> bool {
    match sorted[..*count].binary_search(&operation) {
        Ok(_) => true,
        Err(_) if *count == ACCEPTS_MAX => false,
        Err(at) => {
            sorted.copy_within(at..*count, at + 1);
            sorted[at] = operation;
            *count += 1;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(list: &[i32]) -> Vec<Operation> {
        list.iter().map(|op| Operation(*op)).collect()
    }

    /// Addresses, each another one.
    fn sources() -> impl FnMut() -> Source {
        let (sources, mut last) = (crate::sources::Sources::new(8), 0);
        move || {
            last += 1;
            sources.source(std::net::Ipv4Addr::from_bits(last).into())
        }
    }

    #[test]
    fn equal_sets_are_one_set_whatever_their_order() {
        let mut next = sources();
        let mut sets = AcceptSets::with_capacity(8);
        let one = sets.acquire(&ops(&[1002, 1000, 1000]), next()).unwrap();
        assert_eq!(sets.acquire(&ops(&[1000, 1002]), next()), Some(one));
        assert!(sets.accepts(one, 1002) && !sets.accepts(one, 1001));
        assert_eq!(sets.acquire(&[], next()), Some(AcceptSetId::EMPTY));
    }

    #[test]
    fn whoever_changes_its_set_again_and_again_takes_one_place() {
        let mut next = sources();
        let mut sets = AcceptSets::with_capacity(8);
        let mut own = sets.acquire(&ops(&[1]), next()).unwrap();
        for operation in 2..60 {
            own = sets.change(own, ops(&[operation]).into_iter(), true, next()).unwrap();
            assert_eq!(sets.used(), 2);
            sets.invariants(|id| u32::from(id == own));
        }
        assert!(sets.change(own, ops(&(100..120).collect::<Vec<_>>()).into_iter(), true, next()).is_none());
        assert!(sets.accepts(own, 59), "a change that is refused changes nothing");
        // Others fill what is not for logins alone: of 8 places 2 are.
        let shared = sets.acquire(&ops(&[1000]), next()).unwrap();
        let mut held = vec![own, shared];
        for operation in 0..3 {
            let another = sets.acquire(&ops(&[1000]), next()).unwrap();
            held.push(sets.change(another, ops(&[2000 + operation]).into_iter(), true, next()).unwrap());
        }
        let another = sets.acquire(&ops(&[1000]), next()).unwrap();
        assert_eq!(
            sets.change(another, ops(&[3000]).into_iter(), true, next()),
            None,
            "the rest is for logins"
        );
        assert!(
            sets.change(held[2], ops(&[4000]).into_iter(), true, next()).is_some(),
            "its own place is its own"
        );
        assert!(sets.acquire(&ops(&[7]), next()).is_some() && sets.acquire(&ops(&[8]), next()).is_some());
        assert!(sets.acquire(&ops(&[9]), next()).is_none());
        assert!(sets.acquire(&ops(&[1000]), next()).is_some(), "one that is there costs no place");
    }

    #[test]
    fn subscribing_makes_another_set_and_releasing_makes_room() {
        let mut next = sources();
        let mut sets = AcceptSets::with_capacity(3);
        let one = sets.acquire(&ops(&[1000]), next()).unwrap();
        assert_eq!(sets.acquire(&ops(&[1000]), next()), Some(one));
        let two = sets.change(one, ops(&[1001]).into_iter(), true, next()).unwrap();
        assert!(sets.accepts(two, 1000) && sets.accepts(two, 1001) && !sets.accepts(one, 1001));
        assert_eq!(sets.acquire(&ops(&[5]), next()), None, "full");
        sets.release(one);
        let three = sets.change(two, ops(&[1000, 7]).into_iter(), false, next()).unwrap();
        assert!(sets.accepts(three, 1001) && sets.size(three) == 1);
        assert_eq!(sets.change(three, ops(&[1001]).into_iter(), false, next()), Some(AcceptSetId::EMPTY));
        assert!(sets.is_unused());
    }

    #[test]
    fn thousands_come_and_go_and_each_set_is_there_once() {
        let mut next = sources();
        let mut sets = AcceptSets::with_capacity(64);
        let mut held: Vec<(u32, AcceptSetId)> = Vec::new();
        let mut state = 7_u32;
        for _ in 0..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wanted = state >> 8 & 0x7f;
            if state >> 30 == 0 && !held.is_empty() {
                sets.release(held.swap_remove(wanted as usize % held.len()).1);
            } else if let Some(id) = sets.acquire(&ops(&[wanted as i32 + 1, 1000]), next()) {
                let known = held.iter().find(|(other, _)| *other == wanted);
                assert!(known.is_none_or(|(_, other)| *other == id));
                held.push((wanted, id));
            } else {
                assert_eq!(sets.used(), 64);
                held.drain(..).for_each(|(_, id)| sets.release(id));
            }
            sets.invariants(|id| held.iter().filter(|(_, other)| *other == id).count() as u32);
        }
    }

    #[test]
    fn a_set_has_64_operations_at_most() {
        let mut next = sources();
        let mut sets = AcceptSets::with_capacity(8);
        let full = sets.acquire(&ops(&(0..64).collect::<Vec<_>>()), next()).unwrap();
        assert_eq!(sets.change(full, ops(&[64]).into_iter(), true, next()), None);
        assert_eq!(sets.change(full, ops(&[63]).into_iter(), true, next()), Some(full));
    }

    #[test]
    fn an_address_has_no_more_places_than_it_leaves() {
        let mut next = sources();
        let mut sets = AcceptSets::with_capacity(65);
        let greedy = [next(), next(), next()];
        let mut taken = [0; 3];
        let mut wanted = 100;
        for _ in 0..100 {
            for (source, taken) in greedy.iter().zip(&mut taken) {
                wanted += 1;
                *taken += usize::from(sets.acquire(&ops(&[wanted]), *source).is_some());
            }
        }
        assert_eq!(taken, [17, 16, 16], "three that take all they may leave a quarter");
        let known = sets.acquire(&ops(&[101]), greedy[0]);
        assert!(known.is_some(), "a set that is there costs no place");
        let honest: Vec<_> =
            (1..=10).map(|operation| sets.acquire(&ops(&[operation]), next()).unwrap()).collect();
        assert_eq!(sets.acquire(&ops(&[999]), greedy[1]), None);
        // A set that was changed in its place is still its taker's.
        let changed = sets.change(honest[0], ops(&[11]).into_iter(), true, greedy[1]).unwrap();
        assert_eq!((changed, sets.used()), (honest[0], 60));
        sets.release(changed);
        assert!(sets.acquire(&ops(&[1]), next()).is_some());
    }
}
