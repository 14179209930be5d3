//! Tests of blocks without pools.

use super::*;
use crate::{BufferPools, PoolSize, PoolsConfig};

/// Blocks of 64 bytes in memory that stands for a card's.
fn lent(count: usize) -> (LentMemory, Arc<Arena>) {
    let arena = Arena::map(count * 64, false).unwrap();
    // SAFETY: as many blocks fit the mapping.
    let blocks = (0..count).map(|index| unsafe { arena.base.add(index * 64) }).collect();
    let owner: Arc<dyn Any + Send + Sync> = Arc::clone(&arena) as _;
    // SAFETY: disjoint parts of a zeroed mapping, which `owner` keeps; only lent ones are touched.
    (unsafe { LentMemory::new(blocks, 64, owner) }, arena)
}

fn config() -> PoolsConfig {
    let blocks = vec![PoolSize { size: 64, count: 4 }];
    PoolsConfig { receive: PoolSize { size: 1, count: 1 }, blocks, huge_pages: false }
}

fn filled(index: u32, start: u32, size: u32) -> Filled {
    // SAFETY: no other code touches the memory of these tests.
    unsafe { Filled::new(index, start, size) }
}

#[test]
fn lent_blocks_are_claimed_held_and_lent_again() {
    let (memory, _card) = lent(4);
    let mut pools = BufferPools::over(&config(), memory.with_reserve(1)).unwrap();
    assert!(pools.is_full() && pools.take_receive().is_none() && pools.lend_receive().is_none());
    let buffer = pools.claim_receive(&filled(2, 16, 8)).unwrap();
    assert_eq!((buffer.len(), buffer.capacity(), pools.receive_level().free), (8, 48, 3));
    assert!(pools.claim_receive(&filled(2, 0, 8)).is_none(), "it is not lent");
    assert!(pools.claim_receive(&filled(1, 60, 8)).is_none(), "it is not so long");
    assert!(pools.claim_receive(&filled(4, 0, 8)).is_none(), "there is none");
    let (one, two) = (buffer.freeze(), 0..2);
    let many: Vec<_> = two.map(|_| one.clone()).collect();
    drop(one);
    pools.reclaim_receive();
    assert!(pools.lend_receive().is_none(), "the block is held");
    drop(many);
    pools.reclaim_receive();
    assert_eq!((pools.lend_receive(), pools.lend_receive()), (Some(2), None));
    assert!(pools.is_full());
}

#[test]
fn lent_memory_lives_as_long_as_a_hold() {
    let (memory, card) = lent(2);
    let mut pools = BufferPools::over(&config(), memory).unwrap();
    let held = pools.claim_receive(&filled(0, 0, 64)).unwrap();
    drop(pools);
    assert_eq!(Arc::strong_count(&card), 2, "leaked with the hold");
    drop(held);
    let (memory, card) = lent(2);
    drop(BufferPools::over(&config(), memory).unwrap());
    assert_eq!(Arc::strong_count(&card), 1);
}

#[test]
fn an_arena_of_huge_pages_begins_at_one() {
    for size in [1, HUGE_PAGE_SIZE, HUGE_PAGE_SIZE + 1] {
        let arenas = [(); 3].map(|()| Arena::map(size, true).unwrap());
        for arena in &arenas {
            assert_eq!((arena.base.addr().get() % HUGE_PAGE_SIZE, arena.size % HUGE_PAGE_SIZE), (0, 0));
            let mut blocks = Blocks::new(Arc::clone(arena), arena.size - 64, 64, 1);
            blocks.take().unwrap().as_mut_slice().fill(7); // the last bytes are there
        }
    }
}

#[test]
fn blocks_move_while_holds_are_out() {
    let mut blocks = Blocks::new(Arena::map(4096, false).unwrap(), 0, 64, 4);
    let hold = blocks.take().unwrap().freeze();
    let other = hold.clone();
    let mut moved = Box::new(blocks);
    drop(hold);
    std::thread::spawn(move || drop(other)).join().unwrap();
    moved.reclaim();
    assert_eq!(moved.free_count(), 4);
}
