//! A bare io_uring with a ring of receive buffers: the only `unsafe` of this crate.
//!
//! What makes it sound:
//! * memory that the kernel writes to (the receive buffers) is leaked at the start, and read only
//!   while a [`Lent`] says that the kernel has delivered that buffer;
//! * memory that a send reads lives until `io_uring_enter` has returned with the submission
//!   consumed: a send with `MSG_DONTWAIT` is tried during that call and never again. Buffers go
//!   back to the kernel only after it.
#![allow(unsafe_code)]

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

const SQ_ENTRIES: u32 = 1024;
const CQ_ENTRIES: u32 = 16 << 10;
/// All receive buffers together, in bytes: they should stay in the cache.
const BUFFERS_BYTES: usize = 2 << 20;

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const OTHER: u64 = 4;

/// A receive buffer that the kernel has delivered, with bytes in it.
#[derive(Debug)]
pub(super) struct Lent {
    id: u16,
    len: u32,
}

/// A completion.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection in a slot; without `more`, the accept must be repeated.
    Accepted { slot: Result<u32, i32>, more: bool },
    /// Bytes; without `more`, the receive must be repeated.
    Received { slot: u32, bytes: Lent, more: bool },
    /// No buffer was free; the receive must be repeated.
    Starved { slot: u32 },
    /// The peer is gone.
    Ended { slot: u32 },
    /// The socket did not take all of a send.
    NotSent { slot: u32 },
}

/// The receive buffers and the ring of those that the kernel may use.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    count: u16,
    size: usize,
    tail: u16,
    /// Buffers that are returned when the sends that read them are done.
    returning: Vec<u16>,
}

/// The ring. It keeps the `Submitter` that knows the registered ring descriptor.
pub(super) struct Ring<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    buffers: Buffers,
    message: Box<[u8]>,
    message_len: u32,
    listener: Fd,
}

/// Runs `body` with fresh rings on this thread, one for each listener. A ring's receive buffers
/// hold at least `size` bytes, and it has room for `slots` connections.
pub(super) fn with_rings<T>(
    listeners: &[OwnedFd],
    slots: u32,
    size: usize,
    body: impl FnOnce(Vec<Ring<'_>>) -> io::Result<T>,
) -> io::Result<T> {
    let mut made = Vec::with_capacity(listeners.len());
    for _ in listeners {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag() // so that an enter which waits for nothing runs what was deferred
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_cqsize(CQ_ENTRIES)
            .build(SQ_ENTRIES)?;
        made.push(ring);
    }
    let size = size.next_power_of_two().clamp(1 << 10, 64 << 10);
    let mut rings = Vec::with_capacity(listeners.len());
    for (ring, listener) in made.iter_mut().zip(listeners) {
        let (mut submitter, submissions, completions) = ring.split();
        // The kernel has sixteen places for a thread's rings; further ones are entered by their
        // descriptors.
        let _ = submitter.register_ring_fd();
        submitter.register_files_sparse(slots)?;
        let buffers = Buffers::register(&submitter, size)?;
        rings.push(Ring {
            submitter,
            submissions,
            completions,
            buffers,
            message: vec![0; size].into(),
            message_len: 0,
            listener: Fd(listener.as_raw_fd()),
        });
    }
    body(rings)
}

impl Buffers {
    fn register(submitter: &Submitter<'_>, size: usize) -> io::Result<Buffers> {
        let count = (BUFFERS_BYTES / size).clamp(128, 1024) as u16; // a power of two, as `size` is
        let entries_size = usize::from(count) * size_of::<BufRingEntry>();
        let entries: &'static mut [u8] = Box::leak(vec![0; entries_size + 4096].into());
        let gap = entries.as_ptr().align_offset(4096);
        let entries = entries[gap..].as_mut_ptr().cast::<BufRingEntry>();
        let memory: &'static mut [u8] = Box::leak(vec![0; usize::from(count) * size].into());
        let mut buffers = Buffers {
            entries,
            memory: memory.as_mut_ptr(),
            count,
            size,
            tail: 0,
            returning: Vec::with_capacity(usize::from(count)),
        };
        // SAFETY: page-aligned, zeroed, large enough for `count` entries, and never freed.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, count, 0, 0) }?;
        buffers.returning.extend(0..count);
        buffers.give_back();
        Ok(buffers)
    }

    /// Returns the used buffers to the kernel.
    fn give_back(&mut self) {
        if self.returning.is_empty() {
            return;
        }
        while let Some(id) = self.returning.pop() {
            let position = usize::from(self.tail & (self.count - 1));
            // SAFETY: below `count`, so inside the leaked memory.
            let entry = unsafe { self.entries.add(position) };
            // SAFETY: aligned and initialized; behind the tail, so the kernel does not read it.
            let entry = unsafe { &mut *entry };
            entry.set_addr(self.address(id) as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: points into the first entry of the ring.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: valid for ever and aligned; the kernel reads it atomically and only this thread
        // writes it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: ids are below `count`, so this stays inside the leaked memory.
        unsafe { self.memory.add(usize::from(id) * self.size) }
    }

    fn bytes(&self, lent: &Lent) -> &[u8] {
        // SAFETY: the kernel has written `len` bytes and does not touch the buffer until it is
        // returned, which takes the `Lent`.
        unsafe { std::slice::from_raw_parts(self.address(lent.id), lent.len as usize) }
    }
}

impl Ring<'_> {
    /// Accepts connections into free slots until cancelled.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(self.listener).allocate_file_index(true).build();
        self.push(entry.user_data(ACCEPT << 32))
    }

    /// Receives on a slot until cancelled.
    pub(super) fn receive(&mut self, slot: u32) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(slot), 0).build();
        self.push(entry.user_data(RECEIVE << 32 | u64::from(slot)))
    }

    /// Sends received bytes back where they came from.
    pub(super) fn send_back(&mut self, slot: u32, bytes: Lent) -> io::Result<()> {
        let address = self.buffers.address(bytes.id);
        self.send(slot, address, bytes.len)?;
        self.buffers.returning.push(bytes.id); // after the enter that consumes the send
        Ok(())
    }

    /// Keeps received bytes for [`Ring::send_message`].
    pub(super) fn set_message(&mut self, bytes: Lent) -> io::Result<()> {
        self.submit()?; // nothing queued reads the old message any more
        let source = self.buffers.bytes(&bytes);
        self.message[..source.len()].copy_from_slice(source);
        self.message_len = bytes.len;
        self.buffers.returning.push(bytes.id);
        Ok(())
    }

    /// Keeps what `other` keeps.
    pub(super) fn share_message(&mut self, other: &Ring<'_>) -> io::Result<()> {
        self.submit()?; // as above
        self.message.copy_from_slice(&other.message);
        self.message_len = other.message_len;
        Ok(())
    }

    /// Sends the kept message.
    pub(super) fn send_message(&mut self, slot: u32) -> io::Result<()> {
        self.send(slot, self.message.as_ptr(), self.message_len)
    }

    fn send(&mut self, slot: u32, address: *const u8, len: u32) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(Fixed(slot), address, len).flags(flags).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(SEND << 32 | u64::from(slot)))
    }

    /// Ends both directions of a connection.
    pub(super) fn shutdown(&mut self, slot: u32) -> io::Result<()> {
        let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR).build();
        self.push(entry.user_data(OTHER << 32))
    }

    /// Frees a slot.
    pub(super) fn close(&mut self, slot: u32) -> io::Result<()> {
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(entry.user_data(OTHER << 32))
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        if self.submissions.is_full() {
            self.submit()?;
        }
        // SAFETY: what the entry points to lives until it is consumed, see the module's text.
        unsafe { self.submissions.push(&entry) }.map_err(io::Error::other)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.submissions.sync();
        while !self.submissions.is_empty() {
            self.submitter.submit()?;
            self.submissions.sync();
        }
        Ok(())
    }

    /// Submits what is queued, waits for `wanted` completions if there are fewer, and returns the
    /// buffers of what was sent: one call of the kernel.
    pub(super) fn enter(&mut self, wanted: usize) -> io::Result<()> {
        self.submissions.sync();
        match self.submitter.submit_and_wait(wanted) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.submissions.sync();
        if self.submissions.is_empty() {
            self.buffers.give_back();
        }
        self.completions.sync();
        Ok(())
    }

    /// The next completion of the last wait.
    pub(super) fn reap(&mut self) -> Option<Event> {
        loop {
            let entry = self.completions.next()?;
            let slot = entry.user_data() as u32;
            let more = cqueue::more(entry.flags());
            let event = match (entry.user_data() >> 32, entry.result()) {
                (ACCEPT, slot) if slot >= 0 => Event::Accepted { slot: Ok(slot as u32), more },
                (ACCEPT, error) => Event::Accepted { slot: Err(error), more },
                (RECEIVE, len @ 1..) => match cqueue::buffer_select(entry.flags()) {
                    Some(id) => Event::Received { slot, bytes: Lent { id, len: len as u32 }, more },
                    None => Event::Ended { slot },
                },
                (RECEIVE, error) if error == -libc::ENOBUFS => Event::Starved { slot },
                (RECEIVE, _) => Event::Ended { slot },
                (SEND, _) => Event::NotSent { slot },
                _ => continue,
            };
            return Some(event);
        }
    }
}
