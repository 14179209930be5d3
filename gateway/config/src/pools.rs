//! Pools of blocks by size.

use netpoll::PoolSize;

/// Size of the largest block: a whole frame with both headers, or a message that is one, and what
/// may come beside it.
pub fn largest_block(frame_body_size_max: u32) -> u32 {
    (frame_body_size_max + 256).next_multiple_of(4096)
}

/// Block pools of rising size for `connections`, of which `tokens_max` wait for the verifier at a
/// time, in three quarters of a pool; the largest holds a whole frame with both headers.
pub fn blocks(frame_body_size_max: u32, connections: usize, tokens_max: usize) -> Vec<PoolSize> {
    let largest = largest_block(frame_body_size_max);
    let count = |per: usize, min: usize, max: usize| (connections / per).clamp(min, max) as u32;
    let sizes = [
        PoolSize { size: 256, count: count(4, 1024, 16 << 10) },
        PoolSize { size: 1024, count: count(16, 512, 8 << 10) + (tokens_max * 4).div_ceil(3) as u32 },
        PoolSize { size: 4096, count: count(32, 512, 4 << 10) },
        PoolSize { size: 16 << 10, count: count(64, 128, 512) },
    ];
    let mut pools: Vec<PoolSize> = sizes.into_iter().filter(|pool| pool.size < largest).collect();
    pools.push(PoolSize { size: largest, count: count(256, 32, 128) });
    pools
}
