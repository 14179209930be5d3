//! The pools' promises: exclusive pieces, counted references, every block back at the end.

use super::*;
use std::sync::mpsc;

fn pools() -> BufferPools {
    BufferPools::new(&PoolsConfig {
        receive: PoolSize { size: 2048, count: 8 },
        blocks: vec![PoolSize { size: 64, count: 4 }, PoolSize { size: 512, count: 2 }],
        huge_pages: false,
    })
    .unwrap()
}

#[test]
fn a_split_buffer_has_two_writers_and_one_block() {
    let mut pools = pools();
    let mut tail = pools.take_receive().unwrap();
    assert_eq!(tail.append(b"headbody"), 8);
    let mut head = tail.split_to(4);
    head.as_mut_slice().make_ascii_uppercase();
    tail.as_mut_slice()[0] = b'B';
    assert_eq!((head.as_slice(), tail.as_slice()), (&b"HEAD"[..], &b"Body"[..]));
    assert_eq!(pools.receive_level().free, 7);
    drop(tail);
    assert_eq!(pools.receive_level().free, 7, "one piece still holds the block");
    drop(head);
    assert!(pools.is_full());
}

#[test]
fn neighbors_join_and_strangers_do_not() {
    let mut pools = pools();
    let mut buffer = pools.take_receive().unwrap();
    buffer.append(b"abcdef");
    let mut first = buffer.split_to(2).freeze();
    let second = buffer.split_to(2).freeze();
    let third = buffer.freeze();
    let third = first.try_join(third).unwrap_err();
    first.try_join(second).unwrap();
    first.try_join(third).unwrap();
    assert_eq!(&*first, b"abcdef");
    let mut other = pools.copy(b"x").unwrap().freeze();
    assert!(other.try_join(first.clone()).is_err());
    first.advance(2);
    assert_eq!(&*first.slice(1, 3), b"de");
    drop((first, other));
    assert!(pools.is_full());
}

#[test]
fn freezing_leaves_the_spare_room_behind() {
    let mut pools = pools();
    let mut buffer = pools.take(10).unwrap();
    buffer.append(b"hi");
    let shared = buffer.freeze();
    assert_eq!((&*shared, shared.block_size()), (&b"hi"[..], 64));
}

#[test]
fn an_exhausted_pool_says_none_and_counts_it() {
    let mut pools = pools();
    let held: Vec<_> = (0..8).map(|_| pools.take_receive().unwrap()).collect();
    assert!(pools.take_receive().is_none());
    assert_eq!(pools.receive_level().exhausted, 1);
    drop(held);
    assert!(pools.take_receive().is_some());
    // A request that the small pool cannot serve any more takes a larger block.
    let small: Vec<_> = (0..4).map(|_| pools.take(64).unwrap()).collect();
    assert_eq!(pools.take(64).unwrap().capacity(), 512);
    assert!(pools.take(513).is_none());
    drop(small);
}

#[test]
fn small_waiting_bytes_leave_the_large_block() {
    let mut pools = pools();
    let mut buffer = pools.take_receive().unwrap();
    buffer.append(&[7; 40]);
    let (kept, copied) = pools.retain(buffer.freeze(), 512);
    assert!(copied && kept.block_size() == 64);
    let mut buffer = pools.take_receive().unwrap();
    buffer.append(&[7; 600]);
    let (kept, copied) = pools.retain(buffer.freeze(), 512);
    assert!(!copied && kept.block_size() == 2048);
}

#[test]
fn a_reserve_is_never_the_owners() {
    let config = PoolsConfig {
        receive: PoolSize { size: 64, count: 24 },
        blocks: vec![PoolSize { size: 64, count: 1 }],
        huge_pages: false,
    };
    let mut pools = BufferPools::new(&config).unwrap();
    pools.reserve_receive(16);
    let mut held: Vec<_> = (0..7).map(|_| pools.take_receive().unwrap()).collect();
    assert!(pools.receive_is_low(), "one of eight is left, and sixteen that do not count");
    pools.receive_refused();
    assert_eq!((pools.receive_level().exhausted, pools.short().is_empty()), (0, true));
    held.push(pools.take_receive().unwrap());
    assert!(!pools.short().is_empty());
    pools.receive_refused();
    assert_eq!(pools.receive_level().exhausted, 1, "refused while none of the owner's was free");
    held.truncate(4);
    assert!(pools.short().is_empty() && !pools.receive_is_low());
}

#[test]
fn a_low_receive_pool_copies_whatever_fits() {
    let mut pools = pools();
    let _held: Vec<_> = (0..6).map(|_| pools.take_receive().unwrap()).collect();
    let mut buffer = pools.take_receive().unwrap();
    buffer.append(&[7; 100]);
    let (kept, copied) = pools.retain(buffer.freeze(), 10);
    assert!(copied && kept.block_size() == 512);
}

#[test]
fn what_waits_leaves_receive_buffers_while_half_are_taken_for_blocks_as_large() {
    let mut pools = BufferPools::new(&PoolsConfig {
        receive: PoolSize { size: 512, count: 8 },
        blocks: vec![PoolSize { size: 64, count: 4 }, PoolSize { size: 512, count: 4 }],
        huge_pages: false,
    })
    .unwrap();
    let full = |pools: &mut BufferPools| {
        let mut buffer = pools.take_receive().unwrap();
        buffer.append(&[7; 512]);
        buffer.freeze()
    };
    let mut held: Vec<_> = (0..3).map(|_| pools.take_receive().unwrap()).collect();
    let waiting = full(&mut pools);
    let (waiting, copied) = pools.retain_waiting(waiting, 10);
    assert!(!copied && !pools.is_scarce(&waiting), "half are free");
    held.push(pools.take_receive().unwrap());
    assert!(pools.is_scarce(&waiting), "fewer than half");
    assert!(!pools.retain(waiting.clone(), 10).1, "what is in flight is not waiting");
    let mut kept = vec![];
    for is_left in [true, true, true, true, false] {
        let waiting = full(&mut pools);
        let (piece, copied) = pools.retain_waiting(waiting, 10);
        assert_eq!((copied, pools.is_shared_of(&piece, PoolSet::RECEIVE)), (is_left, !is_left));
        assert_eq!(piece[..], [7; 512]);
        kept.push(piece);
    }
}

#[test]
fn only_a_sole_hold_appends_and_only_within_its_block() {
    let mut pools = pools();
    let mut last = pools.copy(b"one").unwrap().freeze();
    let other = last.slice(0, 1);
    assert!(!last.try_append(b"two"), "another hold");
    drop(other);
    assert!(last.try_append(b"two") && !last.try_append(&[0; 60]), "64 bytes in all");
    last.advance(1);
    assert!(last.try_append(&[b'x'; 58]) && !last.try_append(b"y"));
    assert!(last.starts_with(b"netwoxx") && last.len() == 63);
    let spare = pools.take(64).unwrap();
    let mut head = { spare }.split_to(0).freeze();
    assert!(head.try_append(b"the other part of the block is gone"));
}

#[test]
fn answers_that_wait_share_a_block_of_their_queue() {
    let mut pools = pools();
    let answer = pools.copy(&[1; 30]).unwrap().freeze();
    let (mut last, copied) = pools.retain_answer(answer.clone(), 100, 300);
    assert!(copied && last.block_size() == 512, "room for as much again");
    for count in 2..=17 {
        assert!(pools.append_waiting(&mut last, &answer, 100), "{count}");
        assert_eq!(last.len(), 30 * count);
    }
    assert!(!pools.append_waiting(&mut last, &answer, 100), "it is full");
    assert!(!pools.append_waiting(&mut last, &answer, 10), "it is no small one");
    let mut received = pools.take_receive().unwrap().freeze();
    assert!(!pools.append_waiting(&mut received, &answer, 100), "a receive buffer is no place to wait");
}

#[test]
fn a_block_is_scarce_below_a_part_of_its_pool_or_when_its_owner_asks() {
    let (mut pools, mut others) = (pools(), pools());
    let waiting = pools.take_receive().unwrap().freeze();
    let mut held: Vec<_> = (0..3).map(|_| pools.take_receive().unwrap()).collect();
    assert!(!pools.is_scarce(&waiting) && pools.scarce().is_empty(), "half are free");
    held.push(pools.take_receive().unwrap());
    assert!(pools.is_scarce(&waiting) && pools.scarce() == PoolSet::RECEIVE && !pools.receive_is_dry());
    held.extend((0..3).map(|_| pools.take_receive().unwrap()));
    assert!(pools.receive_is_dry() && !pools.is_scarce(&pools_block(&mut others)));
    held.truncate(3);
    assert!(!pools.is_scarce(&waiting), "what came back is looked for");
    let block = pools.take(64).unwrap().freeze();
    let small: Vec<_> = (0..3).map(|_| pools.take(64).unwrap()).collect();
    assert!(pools.is_scarce(&block) && !pools.is_scarce(&waiting), "each pool for itself");
    drop(small);
    assert!(!pools.is_scarce(&block));
    let (foreign, another) = (others.take_receive().unwrap().freeze(), pools_block(&mut others));
    let mut asked = [None; ASKED_MAX];
    asked[3] = Some(foreign.pool());
    pools.set_asked(asked);
    assert!(pools.is_scarce(&foreign) && !pools.is_scarce(&another));
    pools.set_asked([None; ASKED_MAX]);
    assert!(!pools.is_scarce(&foreign));
}

fn pools_block(pools: &mut BufferPools) -> SharedBuffer {
    pools.take(64).unwrap().freeze()
}

#[test]
fn references_may_be_dropped_by_other_threads() {
    let mut pools = pools();
    let (sender, receiver) = mpsc::channel::<SharedBuffer>();
    let thread = std::thread::spawn(move || receiver.iter().map(|shared| shared[0] as usize).sum::<usize>());
    let mut sent = 0;
    for round in 0..20_000_usize {
        let Some(mut buffer) = pools.take_receive() else { continue };
        buffer.append(&[(round % 251) as u8; 3]);
        let shared = buffer.freeze();
        for _ in 0..3 {
            sent += round % 251;
            sender.send(shared.clone()).unwrap();
        }
    }
    drop(sender);
    assert_eq!(thread.join().unwrap(), sent);
    assert!(pools.is_full());
}

#[test]
fn trimming_keeps_what_is_held_and_forgets_the_rest() {
    let mut pools = BufferPools::new(&PoolsConfig {
        receive: PoolSize { size: 16 << 10, count: 32 },
        blocks: vec![PoolSize { size: 64, count: 4 }, PoolSize { size: 512, count: 100 }],
        huge_pages: false,
    })
    .unwrap();
    let fill = |mut buffer: Buffer, byte: u8| {
        let len = buffer.capacity();
        buffer.spare_mut().fill(byte);
        buffer.set_len(len);
        buffer
    };
    for round in 1..=3 {
        let mut held: Vec<_> = (0..20).map(|_| fill(pools.take_receive().unwrap(), round)).collect();
        let small: Vec<_> = (0..50).map(|_| fill(pools.take(500).unwrap(), round)).collect();
        held.retain(|_| pools.receive_level().free.is_multiple_of(2) || round == 2);
        held.truncate(9);
        drop(small);
        pools.trim();
        assert!(held.iter().all(|buffer| buffer.as_slice().iter().all(|byte| *byte == round)));
        let level = pools.receive_level();
        assert_eq!(level.free as usize, 32 - held.len());
        assert!(level.touched as usize >= held.len());
        assert!(pools.block_levels().all(|level| level.touched == 0), "nothing of these pools is held");
        // All blocks can be taken, each once, and those of the trimmed ones are zeros.
        let rest: Vec<_> = std::iter::from_fn(|| pools.take_receive()).map(|one| fill(one, 9)).collect();
        assert_eq!(rest.len(), 32 - held.len());
        assert!(held.iter().all(|buffer| buffer.as_slice().iter().all(|byte| *byte == round)));
        drop((rest, held));
        pools.trim();
        assert!(pools.is_full() && pools.receive_level().touched == 0);
        let mut one = pools.take_receive().unwrap();
        assert!(one.spare_mut().iter().all(|byte| *byte == 0), "a page that went back begins with zeros");
        one.append(b"kept");
        one.release();
        assert_eq!(one.as_slice(), b"kept", "filled bytes stay");
    }
}

#[test]
fn bytes_that_outlive_their_turn_leave_half_of_the_receive_buffers() {
    let size = |size, count| PoolSize { size, count };
    let mut pools = BufferPools::new(&PoolsConfig {
        receive: size(16 << 10, 32),
        blocks: vec![size(512, 16), size(16 << 10, 16)],
        huge_pages: false,
    })
    .unwrap();
    let mut kept = vec![];
    let mut refused = 0;
    for _ in 0..100 {
        let mut received = pools.take_receive().expect("half of them are left");
        received.append(&[7; 300]);
        match pools.to_wait(received) {
            Ok(waits) => kept.push(waits),
            Err(_) => refused += 1,
        }
    }
    let copies = kept.iter().filter(|one| one.block_size() == 512).count();
    assert_eq!((copies, kept.len() - copies, refused), (16, 16, 68));
    assert!(kept.iter().all(|one| one.as_slice() == [7; 300]));
    // Bytes that lie in a block already leave a 64th of its pool.
    let mut blocks: Vec<_> = (0..16).map(|_| pools.take(1000).unwrap()).collect();
    let last = blocks.pop().unwrap();
    let last = pools.to_wait(last).expect_err("the pool is empty");
    blocks.truncate(8);
    assert!(pools.to_wait(last).is_ok());
}

#[test]
fn what_waits_for_slow_peers_leaves_blocks_to_bytes_that_outlive_their_turn() {
    let size = |size, count| PoolSize { size, count };
    let mut pools = BufferPools::new(&PoolsConfig {
        receive: size(16 << 10, 32),
        blocks: vec![size(512, 16)],
        huge_pages: false,
    })
    .unwrap();
    let received = |pools: &mut BufferPools| {
        let mut buffer = pools.take_receive().unwrap();
        buffer.append(&[7; 300]);
        buffer
    };
    let mut waiting = vec![];
    loop {
        let piece = received(&mut pools).freeze();
        let (kept, copied) = pools.retain_waiting(piece, 512);
        waiting.push(kept);
        if !copied {
            break;
        }
    }
    let _held: Vec<_> = (0..20).map(|_| pools.take_receive().unwrap()).collect();
    let token = received(&mut pools);
    assert_eq!(pools.to_wait(token).expect("a block").block_size(), 512, "a login has its part");
}

#[test]
fn buffers_may_outlive_their_pools() {
    let mut pools = pools();
    let mut buffer = pools.take_receive().unwrap();
    buffer.append(b"still here");
    let shared = buffer.freeze();
    drop(pools);
    assert_eq!(&*shared, b"still here");
}

#[test]
fn impossible_pools_are_refused() {
    let pool = |size, count| PoolSize { size, count };
    for (receive, blocks) in [
        (pool(0, 1), vec![pool(64, 1)]),
        (pool(64, 1), vec![]),
        (pool(64, 1), vec![pool(64, 1), pool(64, 1)]),
    ] {
        assert!(BufferPools::new(&PoolsConfig { receive, blocks, huge_pages: false }).is_err());
    }
}
