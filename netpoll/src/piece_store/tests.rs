use super::*;
use crate::BackendConfig;

#[test]
fn a_list_is_cut_anywhere_and_the_account_stays_right() {
    for cut in 0..9_usize {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let (mut store, mut list) = (PieceStore::new(1, 8), PieceList::new());
        let mut places = vec![];
        for part in ["ab", "cdef", "ghi"] {
            let buffer = pools.copy(part.as_bytes()).unwrap().freeze();
            let at = store.push(&mut list, buffer, Priority::Reply, Ok).unwrap();
            places.extend((0..part.len() as u32).map(|offset| (at.index, at.offset + offset)));
        }
        let (index, size) = places[cut];
        store.truncate(&mut list, index, size);
        let left: Vec<u8> = store.iter(&list).flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(left, b"abcdefghi"[..cut]);
        let pieces = [0, 1, 1, 2, 2, 2, 2, 3, 3][cut];
        assert_eq!((store.count(&list), store.used()), (pieces, pieces));
        assert_eq!(store.shares().used(), pieces.saturating_sub(1));
        // What is pushed then is behind the cut.
        let more = pools.copy(b"x").unwrap().freeze();
        let at = store.push(&mut list, more, Priority::Reply, Ok).unwrap();
        assert_eq!(store.next(at.index), PieceList::NONE);
        assert_eq!(store.iter(&list).map(|piece| piece.len()).sum::<usize>(), cut + 1);
        store.clear(&mut list);
        assert!(store.used() == 0 && store.shares().used() == 0 && pools.is_full());
    }
}

#[test]
fn a_block_counts_once_however_many_pieces_lie_in_it() {
    let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
    let (mut store, mut list) = (PieceStore::new(1, 100), PieceList::new());
    let blocks = [b"abcdefghij"; 3].map(|bytes| pools.copy(bytes).unwrap().freeze());
    // No two pieces are neighbors, and the blocks take turns.
    for start in [0, 2, 4, 6, 8] {
        for block in &blocks {
            let piece = block.slice(start, start + 1);
            store.push(&mut list, piece, Priority::Reply, Ok).unwrap();
        }
    }
    assert_eq!(store.count(&list), 15);
    assert_eq!(store.block_bytes(&list, |_| true), 3 * 256);
    assert_eq!(store.block_bytes(&list, |piece| piece.block() == blocks[1].block()), 256);
    assert_eq!(store.block_bytes(&list, |_| false), 0);
    store.clear(&mut list);
    // As many pieces as a short list has, and one more.
    for pieces in [SHORT_LIST, SHORT_LIST + 1] {
        for piece in 0..pieces {
            let block = &blocks[piece % 2];
            store.push(&mut list, block.slice(0, 1), Priority::Reply, Ok).unwrap();
        }
        assert_eq!((store.count(&list), store.block_bytes(&list, |_| true)), (pieces, 2 * 256));
        store.clear(&mut list);
    }
}

#[test]
fn a_piece_that_may_not_stay_leaves_the_account_as_it_was() {
    let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
    let (mut store, mut list) = (PieceStore::new(1, 8), PieceList::new());
    let one = pools.copy(b"one").unwrap().freeze();
    store.push(&mut list, one.clone(), Priority::Push, Ok).unwrap();
    let refused = store.push(&mut list, one, Priority::Push, Err);
    assert!(matches!(refused, Err((Refusal::Queue, buffer)) if *buffer == *b"one"));
    assert_eq!((store.count(&list), store.used(), store.shares().used()), (1, 1, 0));
    store.clear(&mut list);
}

/// Pushes pieces of a byte each until one is refused; returns how many the queue holds, and why it
/// is not one more.
fn fill(
    pools: &mut BufferPools,
    pieces: &mut PieceStore,
    queue: &mut PieceList,
    priority: Priority,
) -> (usize, Refusal) {
    let buffer = pools.copy(b"xy").unwrap().freeze();
    loop {
        // One byte of two, so that no two are neighbors.
        if let Err((refusal, _)) = pieces.push(queue, buffer.slice(0, 1), priority, Ok) {
            return (pieces.count(queue), refusal);
        }
    }
}

#[test]
fn an_empty_queue_takes_a_piece_whatever_others_hold() {
    let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
    let mut pieces = PieceStore::new(100, 1000);
    let mut queues: Vec<PieceList> = (0..100).map(|_| PieceList::new()).collect();
    for _ in 0..100 {
        for queue in &mut queues[..20] {
            fill(&mut pools, &mut pieces, queue, Priority::Reply);
        }
    }
    assert!(pieces.shares().used() > 900, "{}", pieces.shares().used());
    for queue in &mut queues[20..] {
        let one = pools.copy(b"x").unwrap().freeze();
        pieces.push(queue, one, Priority::Droppable, Ok).unwrap();
    }
    queues.iter_mut().for_each(|queue| pieces.clear(queue));
    assert_eq!((pieces.used(), pieces.shares().used()), (0, 0));
}

#[test]
fn queues_that_take_all_they_may_leave_a_part_to_others_and_have_the_same() {
    for hogs in [1, 4, 20, 100] {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let mut pieces = PieceStore::new(hogs, 80_000);
        let mut queues: Vec<PieceList> = (0..hogs).map(|_| PieceList::new()).collect();
        let buffer = pools.copy(b"xy").unwrap().freeze();
        let mut taken = true;
        while taken {
            taken = false;
            for queue in &mut queues {
                taken |= pieces.push(queue, buffer.slice(0, 1), Priority::Push, Ok).is_ok();
            }
        }
        let counts: Vec<usize> = queues.iter().map(|queue| pieces.count(queue)).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 2, "{least} to {most}");
        // 70 000 are for pushes: N queues with a quarter of the rest each leave 1 part in 1 + N /
        // 4.
        let left = 70_000 * 4 / (4 + hogs);
        let free = pieces.shares().max() - pieces.shares().used() - 10_000;
        assert!(free.abs_diff(left) <= hogs + 4, "{hogs} hogs leave {free}, not {left}");
    }
}

#[test]
fn pushes_leave_an_eighth_to_replies_and_the_blame_is_where_it_belongs() {
    let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
    let mut pieces = PieceStore::new(12, 8000);
    let mut hogs: Vec<PieceList> = (0..10).map(|_| PieceList::new()).collect();
    for _ in 0..100 {
        for hog in &mut hogs {
            let (count, refusal) = fill(&mut pools, &mut pieces, hog, Priority::Push);
            assert!(count > 150 && refusal == Refusal::Queue);
        }
    }
    let mut replies = PieceList::new();
    let (count, refusal) = fill(&mut pools, &mut pieces, &mut replies, Priority::Reply);
    assert!(count > 300 && refusal == Refusal::Queue, "{count}");
    // A store that replies of others have used up is not the fault of a queue that holds one.
    let mut small = PieceStore::new(3, 100);
    let mut queues = [PieceList::new(), PieceList::new(), PieceList::new()];
    let first = fill(&mut pools, &mut small, &mut queues[0], Priority::Reply);
    assert_eq!(first, (65, Refusal::Queue));
    let second = fill(&mut pools, &mut small, &mut queues[1], Priority::Reply);
    assert_eq!(second, (37, Refusal::Store), "36 of the shared part were left");
    let third = fill(&mut pools, &mut small, &mut queues[2], Priority::Reply);
    assert_eq!(third, (1, Refusal::Store));
}
