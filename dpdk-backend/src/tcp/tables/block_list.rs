//! A first-in, first-out list of blocks. A bit of the block says that it is listed, so each block
//! is in it once.
//!
//! A block that is freed and used again while it is listed leaves a stale entry, which is skipped
//! because the bit is not set. A list at its capacity drops stale entries, so it never grows.

use crate::tcp::tables::control_block::Table;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::Lists;
use std::collections::VecDeque;

/// The list.
#[derive(Debug)]
pub(crate) struct BlockList {
    items: VecDeque<BlockIndex>,
    list: Lists,
}

impl BlockList {
    pub(crate) fn new(capacity: usize, list: Lists) -> BlockList {
        BlockList { items: VecDeque::with_capacity(capacity + 1), list }
    }

    /// Appends a block, unless it is listed.
    #[inline]
    pub(crate) fn push(&mut self, table: &mut Table, index: BlockIndex) {
        if table[index].test_and_set(self.list) {
            return;
        }
        if self.items.len() == self.items.capacity() {
            self.items.retain(|index| table[*index].has(self.list));
            let items = self.items.make_contiguous();
            items.sort_unstable();
            let mut last = None;
            self.items.retain(|index| last.replace(*index) != Some(*index));
        }
        self.items.push_back(index);
    }

    /// Takes the next block with a set bit, and clears the bit.
    #[inline]
    pub(crate) fn pop(&mut self, table: &mut Table) -> Option<BlockIndex> {
        while let Some(index) = self.items.pop_front() {
            if table[index].has(self.list) {
                table[index].clear(self.list);
                return Some(index);
            }
        }
        self.items.clear(); // the next entry goes to the front: the pages behind stay untouched
        None
    }

    /// Drops stale entries, and returns the memory of an empty list to the system.
    pub(crate) fn trim(&mut self, table: &Table) {
        self.items.retain(|index| table[*index].has(self.list));
        netpoll::release_queue(&mut self.items);
    }

    /// Entries, including stale ones.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_listed_once_and_stale_entries_cost_no_room() {
        let mut table = Table::new(4, 0);
        (0..4).for_each(|_| assert!(table.take_connection().is_some()));
        let mut list = BlockList::new(4, Lists::DIRTY);
        let capacity = list.items.capacity();
        for _ in 0..100 {
            for number in 0..4 {
                let index = BlockIndex::new(number);
                list.push(&mut table, index);
                list.push(&mut table, index);
                if number % 2 == 0 {
                    table.free(index);
                    assert_eq!(table.take_connection(), Some(index), "it is used again");
                }
            }
        }
        assert_eq!(list.items.capacity(), capacity);
        let mut seen: Vec<u32> = std::iter::from_fn(|| list.pop(&mut table)).map(BlockIndex::get).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 3]);
    }
}
