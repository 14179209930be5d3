//! A shared buffer's count, and the way of a block back to its pool from another thread.
//!
//! Each model but the last fails when something in `netpoll/src/buffer/arena.rs` is weakened; the
//! comments say what.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use netpoll_loom::{BufferPools, PoolSize, PoolsConfig, SharedBuffer, explore, try_append};

/// Pools with one block of each kind: a second take gets the block that has come back.
fn pools(count: u32) -> BufferPools {
    let one = PoolSize { size: 64, count };
    BufferPools::new(&PoolsConfig { receive: one, blocks: vec![one], huge_pages: false }).unwrap()
}

fn shared(pools: &mut BufferPools, text: &[u8]) -> SharedBuffer {
    pools.copy(text).unwrap().freeze()
}

/// The owner writes to a block again only after every holder has read it for the last time,
/// whichever drops last. Fails with a `fetch_sub` that is not both Acquire and Release, and with a
/// returned block's exchange or `reclaim`'s swap at `Relaxed`.
#[test]
fn a_block_is_written_again_only_after_its_last_reader() {
    explore(3, || {
        let mut pools = pools(1);
        let mine = shared(&mut pools, b"first");
        let theirs = mine.clone();
        let reader = thread::spawn(move || {
            assert_eq!(&theirs[..], b"first");
        });
        assert_eq!(&mine[..], b"first");
        drop(mine);
        // None while the reader still holds it.
        if let Some(mut again) = pools.take(5) {
            again.append(b"again");
        }
        reader.join().unwrap();
        assert!(pools.copy(b"at last").is_some(), "the block has come back");
        assert!(pools.is_full());
    });
}

/// The last two holds of one block are dropped at once on two threads that have never synchronized
/// with its pool's owner: the block comes back once. Fails with `fetch_sub` split into a load and a
/// store, or at `Relaxed`, and with `load(Relaxed)` of a sole hold.
#[test]
fn two_last_holds_that_go_at_once_return_the_block_once() {
    explore(3, || {
        let mut pools = pools(1);
        let first = shared(&mut pools, b"text");
        let second = first.clone();
        let threads = [first, second].map(|hold| {
            thread::spawn(move || {
                assert_eq!(&hold[..], b"text");
            })
        });
        let early = pools.copy(b"early");
        drop(early);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(pools.is_full());
        let taken = pools.take(1).unwrap();
        assert!(pools.take(1).is_none(), "the block came back twice");
        drop(taken);
    });
}

/// Blocks that come back at once from two threads while the owner empties the stack: none is lost,
/// none comes twice. Fails when the exchange in `Hold::drop` becomes a load and a store, or
/// `Relaxed`.
#[test]
fn blocks_that_come_back_at_once_are_all_there() {
    explore(3, || {
        let mut pools = pools(2);
        let both = [shared(&mut pools, b"a"), shared(&mut pools, b"b")];
        let threads = both.map(|hold| thread::spawn(move || drop(hold)));
        let early = pools.copy(b"c");
        drop(early);
        for thread in threads {
            thread.join().unwrap();
        }
        let taken = [pools.copy(b"d").unwrap(), pools.copy(b"e").unwrap()];
        assert!(pools.take(1).is_none());
        drop(taken);
        assert!(pools.is_full());
    });
}

/// The owner returns a part of a block without the detour over the stack, which it may only when it
/// is the last part. Fails when `Blocks::give_back` does not check that, and when it checks with
/// `Relaxed`: the other part's last read is then not before the block's next write.
///
/// loom looks for another order at the last access of an atomic only. Here that is the reader's own
/// load in `Hold::drop`, so it would never drop the other part before the owner looks. The flag
/// makes it do so: `Relaxed`, it orders nothing by itself.
#[test]
fn a_part_that_is_given_back_at_once_was_the_last_of_its_block() {
    explore(3, || {
        let mut pools = pools(1);
        let mut mine = pools.take_receive().unwrap();
        mine.append(b"ab");
        let theirs = mine.split_to(1);
        let gone = Arc::new(AtomicBool::new(false));
        let reader_gone = Arc::clone(&gone);
        let reader = thread::spawn(move || {
            assert_eq!(theirs.as_slice(), b"a");
            drop(theirs);
            reader_gone.store(true, Ordering::Relaxed);
        });
        gone.load(Ordering::Relaxed);
        pools.give_back(mine);
        if let Some(mut again) = pools.take_receive() {
            again.append(b"again");
        }
        reader.join().unwrap();
        assert!(pools.is_full());
    });
}

/// Bytes are copied behind a range only when the rest of its block has been read for the last time.
/// Fails when `try_append` does not look at the holds, and when it looks with `Relaxed`. The flag
/// is there for the reason above.
#[test]
fn bytes_are_appended_only_behind_the_last_reader() {
    explore(3, || {
        let mut pools = pools(1);
        let mut buffer = pools.copy(b"mineother").unwrap();
        let mut mine = buffer.split_to(4).freeze();
        let theirs = buffer.freeze();
        let gone = Arc::new(AtomicBool::new(false));
        let reader_gone = Arc::clone(&gone);
        let reader = thread::spawn(move || {
            assert_eq!(&theirs[..], b"other");
            drop(theirs);
            reader_gone.store(true, Ordering::Relaxed);
        });
        gone.load(Ordering::Relaxed);
        let early = try_append(&mut mine, b", mine");
        reader.join().unwrap();
        assert!(try_append(&mut mine, b"!"), "it is the only hold now");
        assert_eq!(&mine[..], if early { &b"mine, mine!"[..] } else { b"mine!" });
        drop(mine);
        assert!(pools.is_full());
    });
}

/// The owner is dropped while another thread still holds a block: the memory stays as long as it
/// must.
#[test]
fn a_hold_outlives_its_pools() {
    explore(3, || {
        let mut pools = pools(1);
        let hold = shared(&mut pools, b"text");
        let reader = thread::spawn(move || {
            assert_eq!(&hold[..], b"text");
        });
        drop(pools);
        reader.join().unwrap();
    });
}
