//! Pools of packet buffers.

use super::eal::{Eal, last_error};
use dpdk_sys as sys;
use netpoll::LentMemory;
use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Buffers in the cache of a thread, so that it does not ask the pool for each.
const CACHE: u32 = 128;
/// Any memory node.
const ANY_SOCKET: i32 = -1;

/// Names are unique in a process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A pool of packet buffers; freed when this is dropped.
#[derive(Debug)]
pub(super) struct Pool {
    raw: NonNull<sys::rte_mempool>,
    room: u32,
}

// SAFETY: a pool of DPDK's may be used by any number of threads.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of `count` buffers for frames of `room` bytes, and those in caches of threads.
    ///
    /// # Errors
    /// Those of DPDK, usually that its memory is used up.
    pub(super) fn new(_eal: Eal, count: u32, room: u32) -> Result<Pool, String> {
        let name = format!("gateway_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: a constant.
        let headroom = u32::from(unsafe { sys::shim_headroom });
        let size =
            u16::try_from(headroom + room).map_err(|_| format!("frames of {room} bytes are too large"))?;
        // SAFETY: a constant.
        let private = unsafe { sys::shim_private_size };
        let count = Pool::count(count);
        // SAFETY: DPDK runs, as `_eal` proves; the name is a C string, which is copied.
        let raw =
            unsafe { sys::rte_pktmbuf_pool_create(name.as_ptr(), count, CACHE, private, size, ANY_SOCKET) };
        NonNull::new(raw).map(|raw| Pool { raw, room }).ok_or_else(last_error)
    }

    /// Buffers of a pool in which `count` can be used at the same time.
    pub(super) const fn count(count: u32) -> u32 {
        // A cache may hold one and a half times its size.
        count + CACHE + CACHE / 2
    }

    /// Bytes of a pool for `count` frames of `room` bytes.
    pub(super) const fn bytes(count: u32, room: u32) -> usize {
        // Header of the object, the buffer's descriptor, private space, headroom; whole cache
        // lines, spread over channels.
        (Pool::count(count) as usize) * ((64 + 128 + 8 + 128 + room as usize).next_multiple_of(64) + 64)
    }

    pub(super) fn raw(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }

    /// Bytes of a frame that one buffer holds.
    pub(super) fn room(&self) -> usize {
        self.room as usize
    }

    /// A buffer, or `None` when all are taken.
    pub(super) fn take(&self) -> Option<NonNull<sys::rte_mbuf>> {
        // SAFETY: the pool lives.
        NonNull::new(unsafe { sys::shim_mbuf_alloc(self.raw()) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: nothing uses it any more: ports and lent memory hold it by `Arc`.
        unsafe { sys::rte_mempool_free(self.raw()) };
    }
}

/// A pool that a queue receives into. Its buffers are numbered.
#[derive(Debug)]
pub(super) struct ReceivePool {
    pub(super) pool: Pool,
    packets: Vec<*mut sys::rte_mbuf>,
}

// SAFETY: the pointers lead to the pool's buffers; the holder of a buffer alone touches it.
unsafe impl Send for ReceivePool {}
// SAFETY: as above; `&ReceivePool` gives out pointers only.
unsafe impl Sync for ReceivePool {}

impl ReceivePool {
    /// A pool with `count` frames of `room` bytes for the stack, beside the `reserve` that the card
    /// keeps.
    ///
    /// # Errors
    /// Those of DPDK.
    pub(super) fn new(
        eal: Eal,
        count: u32,
        reserve: u32,
        room: u32,
    ) -> Result<(Arc<ReceivePool>, LentMemory), String> {
        let pool = Pool::new(eal, count + reserve, room)?;
        let total = Pool::count(count + reserve);
        let mut packets = vec![std::ptr::null_mut(); total as usize];
        let mut memory = vec![std::ptr::null_mut(); total as usize];
        // SAFETY: both tables have `total` places; nothing uses the pool yet.
        let seen = unsafe { sys::shim_number(pool.raw(), packets.as_mut_ptr(), memory.as_mut_ptr(), total) };
        let blocks: Option<Vec<NonNull<u8>>> =
            memory.into_iter().map(|start| NonNull::new(start.cast())).collect();
        let Some(blocks) = blocks.filter(|_| seen == total) else {
            return Err(format!("a pool of {total} buffers has {seen}"));
        };
        // SAFETY: a constant.
        let size = u32::from(unsafe { sys::shim_headroom }) + room;
        let owner = Arc::new(ReceivePool { pool, packets });
        // SAFETY: data rooms of the pool's buffers: disjoint, mapped and zeroed by the system,
        // valid until the pool is freed, which the last clone of `owner` does. `Filled` gives them
        // to the queue one by one.
        let memory = unsafe { LentMemory::new(blocks, size, Arc::clone(&owner) as _) };
        Ok((owner, memory.with_reserve(total - count)))
    }

    /// The buffer with this number.
    pub(super) fn packet(&self, index: u32) -> Option<*mut sys::rte_mbuf> {
        self.packets.get(index as usize).copied()
    }
}
