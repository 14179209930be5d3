//! Calls of io_uring_register(2) that the io-uring crate does not offer, or not with their full
//! answer.
#![allow(unsafe_code)]

use io_uring::IoUring;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Register opcodes.
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
const REGISTER_SYNC_CANCEL: libc::c_uint = 24;
/// IORING_ASYNC_CANCEL_ANY: every operation in flight.
const CANCEL_ANY: u32 = 1 << 2;

/// How long [`cancel_all`] waits for an operation that a kernel worker has begun.
const QUIESCE_ROUND: Duration = Duration::from_millis(10);

/// See `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingRegistration {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// See `struct io_uring_sync_cancel_reg`.
#[repr(C)]
struct SyncCancel {
    user_data: u64,
    fd: i32,
    flags: u32,
    timeout: [i64; 2],
    reserved: [u64; 4],
}

const _: () = assert!(size_of::<SyncCancel>() == 64);

/// Registers the ring's descriptor with the calling thread. Returns its index, or `None` where that
/// is not possible (an old kernel, or more than 16 rings on one thread).
pub(super) fn register_ring_fd(uring: &IoUring) -> Option<u32> {
    let mut registration = RingRegistration { offset: u32::MAX, reserved: 0, data: uring.as_raw_fd() as u64 };
    let count = call_register(uring, REGISTER_RING_FDS, &raw mut registration);
    (count == 1).then_some(registration.offset)
}

/// Cancels everything in flight, waiting for at most [`QUIESCE_ROUND`] for what a kernel worker has
/// begun. Returns how many operations were found: cancelled ones complete when the ring is entered
/// next, and with none found none is left.
///
/// The crate's `register_sync_cancel` does not return the count, and for no count does the kernel
/// report an error: not ENOENT for none either (`io_sync_cancel`, Linux 6.0 to 6.18).
pub(super) fn cancel_all(uring: &IoUring) -> io::Result<usize> {
    let timeout = [0, i64::from(QUIESCE_ROUND.subsec_nanos())];
    let mut cancel = SyncCancel { user_data: 0, fd: -1, flags: CANCEL_ANY, timeout, reserved: [0; 4] };
    let found = call_register(uring, REGISTER_SYNC_CANCEL, &raw mut cancel);
    match usize::try_from(found) {
        Ok(found) => Ok(found),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(0),
            error => Err(error),
        },
    }
}

pub(super) fn unregister_ring_fd(uring: &IoUring, index: u32) {
    let mut registration = RingRegistration { offset: index, reserved: 0, data: 0 };
    call_register(uring, UNREGISTER_RING_FDS, &raw mut registration);
}

fn call_register<T>(uring: &IoUring, operation: libc::c_uint, argument: *mut T) -> i64 {
    // SAFETY: io_uring_register(2) reads and writes one argument, a live local of the caller's, of
    // the operation's type.
    unsafe { libc::syscall(libc::SYS_io_uring_register, uring.as_raw_fd(), operation, argument, 1) }
}
