//! Receive buffers lent to the kernel: a provided-buffer ring over pooled buffers.
//!
//! The kernel takes entries from the head as bytes arrive and names the buffer by its id in the
//! completion; this side writes entries behind the tail and publishes the tail. The buffers
//! themselves are [`Buffer`]s kept here by id, so no other code can hold them while the kernel may
//! write.
#![allow(unsafe_code)]

use crate::Buffer;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// One entry, as `struct io_uring_buf` in linux/io_uring.h lays it out. The last field of the first
/// entry is the ring's tail.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    len: u32,
    id: u16,
    tail: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// At most so many entries are accepted by the kernel.
pub(super) const ENTRIES_MAX: u32 = 32_768;

/// The ring and the buffers in it.
pub(super) struct ReceiveRing {
    entries: NonNull<Entry>,
    count: u16,
    tail: u16,
    /// By id: the buffer that the kernel may write to.
    lent: Vec<Option<Buffer>>,
    /// Ids without a buffer.
    vacant: Vec<u16>,
}

impl ReceiveRing {
    /// A ring of `count` entries, a power of two, none filled.
    pub(super) fn map(count: u32) -> io::Result<ReceiveRing> {
        assert!(count.is_power_of_two() && count <= ENTRIES_MAX, "{count} receive ring entries");
        let size = count as usize * size_of::<Entry>();
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let mapped = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap_anonymous(std::ptr::null_mut(), size, protection, MapFlags::PRIVATE)
        }?;
        let entries = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(ReceiveRing {
            entries,
            count: count as u16,
            tail: 0,
            lent: (0..count).map(|_| None).collect(),
            vacant: (0..count as u16).rev().collect(),
        })
    }

    /// Address of the entries, for registering.
    pub(super) fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// Number of entries.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Buffers with the kernel.
    pub(super) fn lent_count(&self) -> usize {
        self.lent.len() - self.vacant.len()
    }

    /// Lends an empty buffer under a vacant id, of which there must be one. The kernel sees it
    /// after [`ReceiveRing::publish`].
    pub(super) fn lend(&mut self, buffer: Buffer) {
        let id = self.vacant.pop().expect("no more are lent than there is room for");
        self.write(id, buffer);
    }

    fn write(&mut self, id: u16, mut buffer: Buffer) {
        debug_assert!(buffer.is_empty());
        let room = buffer.spare_mut();
        let (address, len) = (room.as_mut_ptr() as u64, room.len() as u32);
        // The kernel reads an entry only below the published tail, and at most `count` are lent:
        // this one is free.
        let position = usize::from(self.tail & (self.count - 1));
        // SAFETY: `position` is below `count`, so the entry lies inside the mapping.
        let mut entry = unsafe { self.entries.add(position) };
        // SAFETY: mapped, aligned, and the only reference to it; the kernel does not write entries.
        let entry = unsafe { entry.as_mut() };
        entry.address = address;
        entry.len = len;
        entry.id = id; // and not `tail`: the first entry's is the ring's
        self.tail = self.tail.wrapping_add(1);
        self.lent[usize::from(id)] = Some(buffer);
    }

    /// Makes the kernel see what was lent since.
    pub(super) fn publish(&mut self) {
        // SAFETY: the first entry lies inside the mapping.
        let tail = unsafe { &raw mut (*self.entries.as_ptr()).tail };
        // SAFETY: valid, aligned, and written only here; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Returns the memory of what is lent to the system; no receive may be armed.
    pub(super) fn trim(&mut self) {
        self.lent.iter_mut().flatten().for_each(Buffer::release);
    }

    /// Takes the buffer that a completion names, with `len` bytes in it. The id is vacant from here
    /// on.
    pub(super) fn take(&mut self, id: u16, len: usize) -> Buffer {
        let mut buffer =
            self.lent[usize::from(id)].take().expect("the kernel names a buffer that it was lent");
        self.vacant.push(id);
        buffer.set_len(len);
        buffer
    }

    /// Lends the buffer that a completion names again, without reading its bytes.
    pub(super) fn relend(&mut self, id: u16) {
        let buffer = self.lent[usize::from(id)].take().expect("the kernel names a buffer that it was lent");
        self.write(id, buffer);
    }

    /// Leaks the buffers, so that their memory is never reused: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.lent));
    }
}

impl Drop for ReceiveRing {
    fn drop(&mut self) {
        let size = usize::from(self.count) * size_of::<Entry>();
        // SAFETY: mapped in `map` with this size; the ring is unregistered or its descriptor
        // closed, and the kernel holds its own references to the pages while it needs them.
        let _ = unsafe { munmap(self.entries.as_ptr().cast(), size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackendConfig, BufferPools};

    #[test]
    fn buffers_go_round_under_their_ids() {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let mut ring = ReceiveRing::map(4).unwrap();
        for _ in 0..4 {
            ring.lend(pools.take_receive().unwrap());
        }
        ring.publish();
        assert_eq!(ring.lent_count(), 4);
        let buffer = ring.take(2, 10);
        assert_eq!((buffer.len(), ring.lent_count()), (10, 3));
        ring.relend(1);
        ring.lend(buffer_of(&mut pools));
        assert_eq!((ring.lent_count(), ring.tail), (4, 6));
        drop((buffer, ring));
        assert!(pools.is_full());
    }

    fn buffer_of(pools: &mut BufferPools) -> Buffer {
        pools.take_receive().unwrap()
    }
}
