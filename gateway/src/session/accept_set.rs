//! The push operations that connections accept, each different set kept once.

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

/// Sets of operations, shared by all connections that accept the same. Clients of one application have a handful.
#[derive(Debug)]
pub struct AcceptSets {
    /// The first is the empty set, for ever.
    sets: Vec<Set>,
    capacity: usize,
}

impl AcceptSets {
    /// Room for `capacity` different sets.
    pub fn with_capacity(capacity: usize) -> AcceptSets {
        let mut sets = Vec::with_capacity(capacity.clamp(1, usize::from(u16::MAX)));
        sets.push(Set { users: 1, count: 0, operations: [0; ACCEPTS_MAX] });
        AcceptSets { capacity: sets.capacity(), sets }
    }

    /// The set of these operations, with one more user; `None` when there is no room for another set.
    pub fn acquire(&mut self, operations: &[Operation]) -> Option<AcceptSetId> {
        let mut sorted = [0; ACCEPTS_MAX];
        let mut count = 0;
        for operation in operations {
            insert_sorted(&mut sorted, &mut count, operation.0);
        }
        self.acquire_sorted(&sorted, count)
    }

    /// The set of `base` with `operations` added or taken away, with one more user; `base` keeps its own.
    pub fn acquire_changed(
        &mut self,
        base: AcceptSetId,
        operations: impl Iterator<Item = Operation>,
        add: bool,
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
        self.acquire_sorted(&sorted, count)
    }

    fn acquire_sorted(&mut self, sorted: &[i32; ACCEPTS_MAX], count: usize) -> Option<AcceptSetId> {
        if count == 0 {
            return Some(AcceptSetId::EMPTY);
        }
        let same = |set: &Set| set.operations[..usize::from(set.count)] == sorted[..count];
        let found = self.sets.iter().position(|set| set.users > 0 && same(set));
        let index =
            found.or_else(|| self.sets.iter().position(|set| set.users == 0)).unwrap_or(self.sets.len());
        if index == self.capacity {
            return None;
        }
        if index == self.sets.len() {
            self.sets.push(Set { users: 0, count: 0, operations: [0; ACCEPTS_MAX] });
        }
        let set = &mut self.sets[index];
        if set.users == 0 {
            set.operations = *sorted;
            set.count = count as u8;
        }
        set.users += 1;
        Some(AcceptSetId(index as u16))
    }

    /// One user less.
    pub fn release(&mut self, id: AcceptSetId) {
        if id != AcceptSetId::EMPTY {
            let set = &mut self.sets[usize::from(id.0)];
            debug_assert!(set.users > 0);
            set.users = set.users.saturating_sub(1);
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
        }
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
        1 + self.sets[1..].iter().filter(|set| set.users > 0).count()
    }

    /// Whether nobody uses a set but the empty one.
    pub fn is_unused(&self) -> bool {
        self.sets[1..].iter().all(|set| set.users == 0)
    }

    /// Gives the memory back when nobody uses a set.
    pub fn trim(&mut self) {
        if self.sets.len() > 1 && self.is_unused() {
            self.sets.truncate(1);
            release_spare(&mut self.sets);
        }
    }

    /// Operations in the set.
    pub fn size(&self, id: AcceptSetId) -> usize {
        usize::from(self.sets[usize::from(id.0)].count)
    }
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

    #[test]
    fn equal_sets_are_one_set_whatever_their_order() {
        let mut sets = AcceptSets::with_capacity(8);
        let one = sets.acquire(&ops(&[1002, 1000, 1000])).unwrap();
        assert_eq!(sets.acquire(&ops(&[1000, 1002])), Some(one));
        assert!(sets.accepts(one, 1002) && !sets.accepts(one, 1001));
        assert_eq!(sets.acquire(&[]), Some(AcceptSetId::EMPTY));
    }

    #[test]
    fn subscribing_makes_another_set_and_releasing_makes_room() {
        let mut sets = AcceptSets::with_capacity(3);
        let one = sets.acquire(&ops(&[1000])).unwrap();
        let two = sets.acquire_changed(one, ops(&[1001]).into_iter(), true).unwrap();
        assert!(sets.accepts(two, 1000) && sets.accepts(two, 1001) && !sets.accepts(one, 1001));
        assert_eq!(sets.acquire(&ops(&[5])), None, "full");
        sets.release(one);
        let three = sets.acquire_changed(two, ops(&[1000, 7]).into_iter(), false).unwrap();
        assert!(sets.accepts(three, 1001) && sets.size(three) == 1);
    }

    #[test]
    fn a_set_has_64_operations_at_most() {
        let mut sets = AcceptSets::with_capacity(8);
        let full = sets.acquire(&ops(&(0..64).collect::<Vec<_>>())).unwrap();
        assert_eq!(sets.acquire_changed(full, ops(&[64]).into_iter(), true), None);
        assert_eq!(sets.acquire_changed(full, ops(&[63]).into_iter(), true), Some(full));
    }
}
