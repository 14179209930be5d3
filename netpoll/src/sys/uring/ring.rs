//! The ring itself: queueing operations, entering the kernel, reaping completions.
//!
//! Queueing never fails after [`Ring::reserve`] has confirmed room; it submits what is queued to
//! make some.
#![allow(unsafe_code)]

use super::buffers::{ENTRIES_MAX, ReceiveRing};
use super::memory::{AcceptAddresses, SendMemory};
use super::register::{cancel_all, register_ring_fd, unregister_ring_fd};
use super::setup::{self, RingSetup};
use super::{Event, tag};
use crate::{Buffer, ConnectionId, SharedBuffer};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fd, Fixed, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// ioprio bits of IORING_OP_RECV in linux/io_uring.h, which the crate does not export.
const RECVSEND_POLL_FIRST: u16 = 1 << 0;
const RECV_MULTISHOT: u16 = 1 << 1;
/// The only group of provided buffers.
const BUFFER_GROUP: u16 = 0;

/// At most so many bytes are discarded by one operation.
const DISCARD_MAX: usize = 16 << 10;

/// How long the end of a ring waits until the kernel does not write to its memory any more: two
/// rounds, unless a kernel worker is busy with an operation, which each round waits for.
const QUIESCE_ROUNDS: u32 = 100;

/// See `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_size: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// An io_uring and the memory that its operations refer to. Bound to the thread that made it.
pub(crate) struct Ring {
    uring: IoUring,
    setup: RingSetup,
    /// What to enter by: a registered index or the plain descriptor.
    enter_by: i32,
    enter_flags: u32,
    sends: SendMemory,
    receive: ReceiveRing,
    /// Where discarded bytes would go.
    nowhere: Box<[u8]>,
    addresses: Vec<AcceptAddresses>,
    reaped: u64,
    thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes a ring with a table of `files` direct descriptors and up to `buffers` receive buffers.
    pub(crate) fn new(wanted: RingSetup, files: u32, buffers: u32) -> io::Result<Ring> {
        let (uring, mut setup) = setup::make(wanted)?;
        let submitter = uring.submitter();
        submitter.register_files_sparse(files)?;
        let receive = register_receive_ring(&uring, buffers)?;
        let registered = register_ring_fd(&uring);
        setup.registered = registered.is_some();
        Ok(Ring {
            enter_by: registered.map_or(uring.as_raw_fd(), |index| index as i32),
            enter_flags: if registered.is_some() { EnterFlags::REGISTERED_RING.bits() } else { 0 },
            sends: SendMemory::new(setup.sq_entries),
            receive,
            nowhere: vec![0; DISCARD_MAX].into(),
            addresses: Vec::with_capacity(8),
            reaped: 0,
            uring,
            setup,
            thread: PhantomData,
        })
    }

    pub(crate) fn setup(&self) -> RingSetup {
        self.setup
    }

    /// Bounds the kernel's worker threads for blocking operations, which are only shutdowns here.
    pub(crate) fn limit_workers(&self, count: u32) -> io::Result<()> {
        self.uring.submitter().register_iowq_max_workers(&mut [count, count])
    }

    /// Puts a descriptor into slot `file`. The ring holds its own reference.
    pub(crate) fn install(&self, file: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.uring.submitter().register_files_update(file, &[fd.as_raw_fd()]).map(drop)
    }

    /// Signals `eventfd` from now on, while [`Ring::signal`] says so.
    pub(crate) fn register_eventfd(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.signal(false);
        self.uring.submitter().register_eventfd(eventfd.as_raw_fd())
    }

    /// Sets whether the kernel signals the eventfd when it has something. With deferred completions
    /// it does so when the first piece of work is deferred, otherwise with each completion.
    pub(crate) fn signal(&mut self, signal: bool) {
        match signal {
            true => self.uring.completion().enable_eventfd(),
            false => self.uring.completion().disable_eventfd(),
        }
    }

    /// Whether entering would do anything: something is to be submitted, or the kernel has deferred
    /// work.
    pub(crate) fn has_errand(&mut self) -> bool {
        let queue = self.uring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    // --- submitting ---

    /// Makes room for `count` operations, by submitting if necessary; false when the kernel takes
    /// none at present.
    pub(crate) fn reserve(&mut self, count: usize) -> bool {
        let queue = self.uring.submission();
        if queue.capacity() - queue.len() >= count && self.sends.has_room() {
            return true;
        }
        drop(queue);
        self.call_enter(0, 0, None).is_ok() && self.all_submitted()
    }

    /// Whether the kernel has consumed every submission.
    pub(crate) fn all_submitted(&mut self) -> bool {
        self.uring.submission().is_empty()
    }

    /// Submits, runs what the kernel has deferred, and waits for `want` completions or `timeout`.
    pub(crate) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.call_enter(want, EnterFlags::GETEVENTS.bits(), timeout)
    }

    fn call_enter(&mut self, want: u32, flags: u32, timeout: Option<Duration>) -> io::Result<()> {
        let timespec = Timespec::from(timeout.unwrap_or_default());
        let argument = WaitArgument {
            signal_mask: 0,
            signal_mask_size: 0,
            min_wait_us: 0,
            timespec: timeout.map_or(0, |_| &raw const timespec as u64),
        };
        let to_submit = self.uring.submission().len();
        // SAFETY: io_uring_enter(2) reads the argument and the timespec, both live locals, during
        // the call; what the submissions point to is kept by this ring (each was queued with its
        // own argument).
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_by,
                to_submit as libc::c_uint,
                want,
                flags | self.enter_flags | EnterFlags::EXT_ARG.bits(),
                &raw const argument,
                size_of::<WaitArgument>(),
            )
        };
        if self.all_submitted() {
            self.sends.release();
        }
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Nothing came, a signal came, or the kernel is short of a resource: what is queued
            // stays queued.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => Ok(()),
            _ => Err(error),
        }
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// What the operation points to lives, unmoved, until the kernel is done with it.
    unsafe fn push(&mut self, operation: &Entry) {
        // SAFETY: the caller's obligation.
        let pushed = unsafe { self.uring.submission().push(operation) };
        pushed.expect("room was reserved");
    }

    fn push_plain(&mut self, operation: &Entry) {
        // SAFETY: called with operations that point to no memory.
        unsafe { self.push(operation) };
    }

    /// Receives into lent buffers until cancelled. It waits for readiness before its first try:
    /// tried at once with no buffer lent it would fail on an idle socket.
    pub(crate) fn receive(&mut self, id: ConnectionId) {
        let receive = opcode::Recv::new(fixed(id), std::ptr::null_mut(), 0)
            .ioprio(RECV_MULTISHOT | RECVSEND_POLL_FIRST)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT)
            .user_data(id.pack(tag::RECEIVE));
        // SAFETY: it writes only to buffers of the group, which the receive ring owns.
        unsafe { self.push(&receive) };
    }

    /// Receives what is there now, once, into one lent buffer.
    pub(crate) fn receive_once(&mut self, id: ConnectionId) {
        let receive = opcode::Recv::new(fixed(id), std::ptr::null_mut(), 0)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT)
            .user_data(id.pack(tag::RECEIVE));
        // SAFETY: as in `receive`.
        unsafe { self.push(&receive) };
    }

    /// Drops what can be received, once, after waiting for readiness: with MSG_TRUNC, tcp(7), the
    /// bytes are skipped.
    pub(crate) fn discard(&mut self, id: ConnectionId) {
        let nowhere = self.nowhere.as_mut_ptr();
        let discard = opcode::Recv::new(fixed(id), nowhere, DISCARD_MAX as u32)
            .ioprio(RECVSEND_POLL_FIRST)
            .flags(libc::MSG_TRUNC)
            .build()
            .user_data(id.pack(tag::RECEIVE));
        // SAFETY: nothing is written, and if it were, to memory that is never read and that this
        // ring keeps (or leaks).
        unsafe { self.push(&discard) };
    }

    /// Asks, without waiting or taking anything, what a receive would return now.
    pub(crate) fn look(&mut self, id: ConnectionId) {
        let nowhere = self.nowhere.as_mut_ptr();
        let look = opcode::Recv::new(fixed(id), nowhere, 1)
            .flags(libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC)
            .build()
            .user_data(id.pack(tag::LOOK));
        // SAFETY: with MSG_TRUNC, tcp(7), nothing is written, and if it were, to memory as in
        // `discard`.
        unsafe { self.push(&look) };
    }

    /// Waits once for bytes to receive or the peer's end.
    pub(crate) fn wait_readable(&mut self, id: ConnectionId) {
        let mask = (libc::POLLIN | libc::POLLRDHUP) as u32;
        self.push_plain(&opcode::PollAdd::new(fixed(id), mask).build().user_data(id.pack(tag::READABLE)));
    }

    /// Waits once for room to send.
    pub(crate) fn wait_writable(&mut self, id: ConnectionId) {
        let mask = libc::POLLOUT as u32;
        self.push_plain(&opcode::PollAdd::new(fixed(id), mask).build().user_data(id.pack(tag::WRITABLE)));
    }

    /// Reports each time that a descriptor outside the table becomes readable.
    pub(crate) fn watch(&mut self, fd: BorrowedFd<'_>, id: ConnectionId) {
        let poll = opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push_plain(&poll.build().user_data(id.pack(tag::WAKER)));
    }

    /// Sends `payload` now, as much as the socket takes; completes only if that is not all of it.
    pub(crate) fn send(&mut self, id: ConnectionId, payload: &SharedBuffer) {
        let (address, len) = self.sends.hold(payload);
        let send = opcode::Send::new(fixed(id), address, len).flags(SEND_FLAGS).build();
        // SAFETY: the payload is held until the submission is consumed, and with MSG_DONTWAIT the
        // kernel reads it no later.
        unsafe { self.push(&send.flags(Flags::SKIP_SUCCESS).user_data(id.pack(tag::SEND))) };
    }

    /// The same for several payloads, as many as fit; returns their bytes.
    pub(crate) fn send_all<'a>(
        &mut self,
        id: ConnectionId,
        payloads: impl Iterator<Item = &'a SharedBuffer>,
    ) -> usize {
        let (header, bytes) = self.sends.hold_all(payloads);
        let send = opcode::SendMsg::new(fixed(id), header).flags(SEND_FLAGS as u32).build();
        // SAFETY: header, vectors and payloads are held until the submission is consumed, and with
        // MSG_DONTWAIT the kernel reads them no later.
        unsafe { self.push(&send.flags(Flags::SKIP_SUCCESS).user_data(id.pack(tag::SEND))) };
        bytes
    }

    /// Connects the socket in the connection's slot.
    pub(crate) fn connect(&mut self, id: ConnectionId, remote: SocketAddr) {
        let (address, len) = self.sends.hold_address(remote);
        let connect = opcode::Connect::new(fixed(id), address, len).build();
        // SAFETY: the address is held until the submission is consumed, and copied before that.
        unsafe { self.push(&connect.user_data(id.pack(tag::CONNECT))) };
    }

    /// Keeps peer addresses for the `count` accepts of one more listener; returns its position.
    pub(crate) fn add_listener(&mut self, count: usize) -> usize {
        self.addresses.push(AcceptAddresses::new(count));
        self.addresses.len() - 1
    }

    /// Accepts one connection of a listener into the slot `file`.
    pub(crate) fn accept(&mut self, fd: BorrowedFd<'_>, accept: AcceptId, file: u32) {
        let (address, len) = self.addresses[accept.listener].lend(accept.position);
        let slot = DestinationSlot::try_from_slot_target(file).expect("slots have 24 bits");
        let operation = opcode::Accept::new(Fd(fd.as_raw_fd()), address, len).file_index(Some(slot)).build();
        // SAFETY: the address is lent until the completion, or leaked with the ring.
        unsafe { self.push(&operation.user_data(accept.packed())) };
    }

    /// Cancels an accept, which then completes.
    pub(crate) fn cancel_accept(&mut self, accept: AcceptId) {
        self.cancel_packed(accept.packed());
    }

    /// Cancels the connection's operation of kind `tag`, which then completes.
    pub(crate) fn cancel(&mut self, id: ConnectionId, tag: u8) {
        self.cancel_packed(id.pack(tag));
    }

    fn cancel_packed(&mut self, target: u64) {
        let own = ConnectionId::new(0, 0).pack(tag::CANCEL);
        let cancel = opcode::AsyncCancel::new(target).build();
        self.push_plain(&cancel.flags(Flags::SKIP_SUCCESS).user_data(own));
    }

    /// Sends FIN. The kernel does it on a worker thread, hence after all that was sent before, and
    /// looks the slot up when that thread runs: the slot must not be used again before the
    /// completion.
    pub(crate) fn shutdown_write(&mut self, id: ConnectionId) {
        let shutdown = opcode::Shutdown::new(fixed(id), libc::SHUT_WR).build();
        self.push_plain(&shutdown.user_data(id.pack(tag::SHUTDOWN)));
    }

    /// Empties the connection's slot; the socket is closed with the last operation on it.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        self.push_plain(&opcode::Close::new(fixed(id)).build().user_data(id.pack(tag::CLOSE)));
    }

    // --- completing ---

    /// Takes the oldest completion.
    pub(crate) fn reap(&mut self) -> Option<Event> {
        let entry = self.uring.completion().next()?;
        self.reaped += 1;
        let (tag, id) = ConnectionId::unpack(entry.user_data());
        if tag == tag::ACCEPT {
            let accept = AcceptId::of(id);
            self.addresses[accept.listener].completed(accept.position);
        }
        let flags = entry.flags();
        Some(Event {
            tag,
            id,
            result: entry.result(),
            more: cqueue::more(flags),
            buffer: cqueue::buffer_select(flags),
        })
    }

    /// Completions reaped so far.
    pub(crate) fn reaped(&self) -> u64 {
        self.reaped
    }

    /// Completions waiting to be reaped.
    pub(crate) fn waiting(&mut self) -> usize {
        self.uring.completion().len()
    }

    /// Whether the completion queue was too small, so that the kernel keeps further completions
    /// itself.
    pub(crate) fn is_overflowing(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// The peer's address of a completed accept.
    pub(crate) fn peer(&self, accept: AcceptId) -> Option<SocketAddr> {
        self.addresses[accept.listener].read(accept.position)
    }

    /// Takes the buffer that a completion names, with its `len` bytes.
    pub(crate) fn take_buffer(&mut self, buffer: u16, len: usize) -> Buffer {
        self.receive.take(buffer, len)
    }

    /// Lends the buffer that a completion names again.
    pub(crate) fn relend(&mut self, buffer: u16) {
        self.receive.relend(buffer);
    }

    /// Buffers that can be lent at a time.
    pub(crate) fn receive_capacity(&self) -> usize {
        usize::from(self.receive.count())
    }

    /// Lends a buffer; fewer than [`Ring::receive_capacity`] must be lent.
    pub(crate) fn lend(&mut self, buffer: Buffer) {
        self.receive.lend(buffer);
    }

    /// Returns memory to the system: of what is lent, and of what sends have used. The kernel
    /// writes to the former for a receive, so none may be armed, or its bytes would be lost.
    pub(crate) fn trim(&mut self) {
        self.receive.trim();
        self.sends.trim();
    }

    /// Makes the kernel see what was lent since; once a turn.
    pub(crate) fn publish(&mut self) {
        self.receive.publish();
    }

    /// The number of buffers lent.
    pub(crate) fn lent_count(&self) -> usize {
        self.receive.lent_count()
    }

    /// Ends all operations and waits until none may write to this ring's memory; false when some
    /// still may, after [`QUIESCE_ROUNDS`].
    fn quiesce(&mut self) -> bool {
        for _ in 0..QUIESCE_ROUNDS {
            // What is queued is submitted, what was cancelled completes, and each may cause the
            // other.
            let mut reaped = 1;
            while reaped > 0 {
                if self.enter(0, None).is_err() {
                    return false;
                }
                reaped = std::iter::from_fn(|| self.reap()).count();
            }
            let is_idle = match cancel_all(&self.uring) {
                Ok(found) => found == 0,
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => false,
                Err(_) => return false,
            };
            let accepts = self.addresses.iter().any(AcceptAddresses::any_in_flight);
            if is_idle && !accepts && self.all_submitted() {
                return self.uring.submitter().unregister_buf_ring(BUFFER_GROUP).is_ok();
            }
        }
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.quiesce() {
            self.receive.leak();
            std::mem::forget(std::mem::take(&mut self.nowhere));
            std::mem::forget(std::mem::take(&mut self.addresses));
        }
        if self.setup.registered {
            unregister_ring_fd(&self.uring, self.enter_by as u32);
        }
    }
}

/// An accept: the listener's position and the accept's among its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptId {
    pub(crate) listener: usize,
    pub(crate) position: usize,
}

impl AcceptId {
    /// The accept that a completion with [`tag::ACCEPT`] is about.
    pub(crate) fn of(id: ConnectionId) -> AcceptId {
        AcceptId { listener: id.generation() as usize, position: id.index() }
    }

    fn packed(self) -> u64 {
        ConnectionId::new(self.position as u32, self.listener as u32).pack(tag::ACCEPT)
    }
}

/// MSG_DONTWAIT makes a send end within the submission, MSG_WAITALL makes a short one count as
/// failed.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

fn fixed(id: ConnectionId) -> Fixed {
    Fixed(id.index() as u32)
}

/// Registers a ring of provided buffers with at most `buffers` entries, fewer when locked memory is
/// short.
fn register_receive_ring(uring: &IoUring, buffers: u32) -> io::Result<ReceiveRing> {
    let mut count = 1 << buffers.clamp(1, ENTRIES_MAX).ilog2();
    loop {
        let ring = ReceiveRing::map(count)?;
        // SAFETY: the entries are mapped and page-aligned; they are unmapped after unregistering,
        // or after the kernel has dropped the ring with its own references to the pages.
        let registered = unsafe {
            uring.submitter().register_buf_ring_with_flags(ring.address(), ring.count(), BUFFER_GROUP, 0)
        };
        match registered {
            Ok(()) => return Ok(ring),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && count > 64 => count /= 2,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
