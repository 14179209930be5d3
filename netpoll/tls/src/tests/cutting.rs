use super::{drawn, raw};
use crate::alert::RecordError;
use crate::cutter::{CutError, Cutter};
use crate::fuzzing::pools;
use crate::record::{HEADER_SIZE, RECORD_SIZE_MAX};
use netpoll::sim::Rng;
use netpoll::{Buffer, BufferPools, PoolSize, PoolsConfig};

fn received(pools: &mut BufferPools, bytes: &[u8]) -> Option<Buffer> {
    let mut buffer = pools.take_receive().unwrap();
    assert_eq!(buffer.append(bytes), bytes.len());
    Some(buffer)
}

/// All records of `stream`, received in pieces of `size` bytes.
fn cut(pools: &mut BufferPools, stream: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (mut cutter, mut records) = (Cutter::default(), vec![]);
    for piece in stream.chunks(size) {
        let mut input = received(pools, piece);
        while let Some(record) = cutter.next(&mut input, pools).unwrap() {
            records.push(record.as_slice().to_vec());
        }
        assert!(input.is_none());
    }
    assert_eq!(cutter.held(), 0);
    records
}

#[test]
fn records_come_out_however_they_are_cut() {
    let mut rng = Rng::new(1);
    let sizes = [0, 1, 17, 64, 64, 250, 4091, 4092, 9000, 16_384 + 256];
    let records: Vec<Vec<u8>> = sizes.map(|size| raw(23, &drawn(&mut rng, size))).into();
    let stream = records.concat();
    let mut pools = pools();
    for size in [1, 2, 3, 5, 7, 100, 1000, 4096] {
        assert_eq!(cut(&mut pools, &stream, size), records, "in pieces of {size}");
    }
    assert!(pools.is_full());
}

#[test]
fn records_that_are_whole_stay_where_they_were_received() {
    let mut pools = pools();
    let record = raw(23, &[7; 60]);
    let mut input = received(&mut pools, &record.repeat(50));
    let first = input.as_ref().unwrap().as_slice().as_ptr();
    let mut cutter = Cutter::default();
    for index in 0..50 {
        let cut = cutter.next(&mut input, &mut pools).unwrap().unwrap();
        assert_eq!(cut.as_slice().as_ptr(), first.wrapping_add(index * record.len()));
    }
    assert!(input.is_none());
}

#[test]
fn a_length_that_is_claimed_reserves_nothing() {
    let mut pools = pools();
    let record = raw(23, &[0; RECORD_SIZE_MAX - HEADER_SIZE]);
    let mut input = received(&mut pools, &record[..6]);
    let mut cutter = Cutter::default();
    assert!(cutter.next(&mut input, &mut pools).unwrap().is_none());
    let taken: Vec<u32> = pools.block_levels().map(|level| level.count - level.free).collect();
    assert_eq!(taken, [1, 0, 0, 0]);
}

#[test]
fn a_record_that_is_too_long_is_seen_by_its_header() {
    let mut pools = pools();
    let too_long = raw(23, &[0; RECORD_SIZE_MAX - HEADER_SIZE + 1]);
    let fault = Err(CutError::Record(RecordError::TooLong));
    let mut input = received(&mut pools, &too_long[..HEADER_SIZE]);
    assert_eq!(Cutter::default().next(&mut input, &mut pools).map(|_| ()), fault);
    // Also when the header's last byte is the last that comes.
    let mut cutter = Cutter::default();
    let mut input = received(&mut pools, &too_long[..4]);
    assert!(cutter.next(&mut input, &mut pools).unwrap().is_none());
    let mut input = received(&mut pools, &too_long[4..5]);
    assert_eq!(cutter.next(&mut input, &mut pools).map(|_| ()), fault);
}

#[test]
fn without_a_block_the_input_stays() {
    let receive = PoolSize { size: 4096, count: 4 };
    let blocks = vec![PoolSize { size: 256, count: 1 }, PoolSize { size: 4096, count: 1 }];
    let mut pools = BufferPools::new(&PoolsConfig { receive, blocks, huge_pages: false }).unwrap();
    let record = raw(23, &[9; 3000]);
    let mut cutter = Cutter::default();
    let kept = [pools.take(1).unwrap(), pools.take(4096).unwrap()];
    let mut input = received(&mut pools, &record[..100]);
    let refused = cutter.next(&mut input, &mut pools).map(|_| ());
    assert_eq!((refused, input.as_ref().map(Buffer::len)), (Err(CutError::NoBlock(100)), Some(100)));
    let [small, _large] = kept;
    drop(small);
    assert!(cutter.next(&mut input, &mut pools).unwrap().is_none());
    // The part has to grow, and cannot.
    let mut input = received(&mut pools, &record[100..]);
    let refused = cutter.next(&mut input, &mut pools).map(|_| ());
    assert_eq!((refused, cutter.held()), (Err(CutError::NoBlock(record.len())), 100));
    drop(_large);
    let whole = cutter.next(&mut input, &mut pools).unwrap().unwrap();
    assert_eq!(whole.as_slice(), record);
    assert_eq!(cutter.held(), 0);
}
