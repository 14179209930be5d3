//! Whether io_uring can be used here, found out by doing what the backend will do.
//!
//! Some sandboxes forbid io_uring_setup, some only io_uring_enter or io_uring_register, and some
//! old kernels have the calls but not the operations. So the probe makes a full ring with lent
//! buffers and a table of direct descriptors, and sends one message through a pair of sockets.

use super::{RingSetup, UringConfig, table_size};
use crate::sys::uring::ring::Ring;
use crate::sys::uring::tag;
use crate::{BackendConfig, BufferPools, ConnectionId, PoolSize, PoolsConfig};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::AsFd;
use std::time::Duration;
use std::{fmt, io};

const MESSAGE: &[u8] = b"probe";

/// What io_uring offers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The ring that was obtained; a backend's is of the same mode.
    pub setup: RingSetup,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sizes are the probe's own and say nothing of a backend's.
        write!(f, "io_uring works: {}", self.setup.mode.label())
    }
}

/// Why io_uring can't be used here.
#[derive(Debug)]
pub struct ProbeError {
    /// The step that failed.
    pub step: &'static str,
    /// The system's error.
    pub error: io::Error,
}

impl ProbeError {
    /// What the error means and what to do about it.
    pub fn advice(&self) -> &'static str {
        match self.error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "forbidden by a seccomp profile (the default of Docker and containerd) or by the sysctl \
                 kernel.io_uring_disabled: allow io_uring_setup, io_uring_enter and io_uring_register"
            }
            Some(libc::ENOSYS) => "unknown to this kernel or sandbox: it takes Linux 6.0 or later",
            Some(libc::ENOMEM) => {
                "locked memory is short: raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity) or grant CAP_IPC_LOCK"
            }
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                "this kernel lacks an operation that is needed: it takes Linux 6.0 or later"
            }
            Some(libc::EMFILE | libc::ENFILE) => "descriptors are short: raise RLIMIT_NOFILE",
            _ => "not expected",
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring can't be used ({}: {}): {}", self.step, self.error, self.advice())
    }
}

impl std::error::Error for ProbeError {}

/// Tests io_uring on the calling thread, in well under a millisecond.
///
/// # Errors
/// [`ProbeError`], one line for a log.
pub fn probe() -> Result<Features, ProbeError> {
    let step = |step: &'static str| move |error: io::Error| ProbeError { step, error };
    let ring = Ring::new(RingSetup::best(16, 64), 4, 2).map_err(step("making a ring"))?;
    let setup = ring.setup();
    round_trip(ring).map_err(step("sending through a ring"))?;
    Ok(Features { setup })
}

/// Makes the rings of `count` backends, all at the same time as a start does, and ends them. A
/// start that follows at once may find their memory still charged to the user: the kernel takes
/// rings apart asynchronously.
///
/// # Errors
/// How many could be made, and the error of the next; `ENOMEM` when locked memory is short even for
/// small ones.
pub fn probe_rings(
    count: usize,
    config: &BackendConfig,
    uring: &UringConfig,
) -> Result<(), (usize, io::Error)> {
    let slots = table_size(config.connections_max, usize::from(uring.accepts_in_flight)) as u32;
    let buffers = config.pools.receive.count.min(uring.receive_ring_max);
    let wanted = RingSetup::best(uring.sq_entries, uring.cq_entries);
    let mut rings = Vec::with_capacity(count);
    for made in 0..count {
        rings.push(Ring::new(wanted, slots, buffers).map_err(|error| (made, error))?);
    }
    Ok(())
}

/// Sends a message through the ring and drops the ring. Returns whether all memory came back.
fn round_trip(mut ring: Ring) -> io::Result<bool> {
    let pool = PoolSize { size: 64, count: 2 };
    let mut pools = BufferPools::new(&PoolsConfig { receive: pool, blocks: vec![pool], huge_pages: false })?;
    let sent = send_through(&mut ring, &mut pools);
    drop(ring); // before its buffers' pools, or those would have to leak them
    sent.map(|()| pools.is_full())
}

/// Sends a message from slot 1 to slot 0.
fn send_through(ring: &mut Ring, pools: &mut BufferPools) -> io::Result<()> {
    let (reader, writer) = (ConnectionId::new(0, 0), ConnectionId::new(1, 0));
    let (left, right) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    ring.install(0, left.as_fd())?;
    ring.install(1, right.as_fd())?;
    while let Some(buffer) = pools.take_receive() {
        ring.lend(buffer);
    }
    ring.publish();
    if !ring.reserve(2) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    ring.receive(reader);
    let message = pools.copy(MESSAGE).ok_or(io::ErrorKind::OutOfMemory)?.freeze();
    ring.send(writer, &message);
    ring.enter(1, Some(Duration::from_secs(1)))?;
    let event = ring.reap().ok_or(io::ErrorKind::TimedOut)?;
    if event.result < 0 {
        return Err(io::Error::from_raw_os_error(-event.result));
    }
    let is_message = event.tag == tag::RECEIVE && event.result as usize == MESSAGE.len() && event.more;
    let bytes = event.buffer.map(|id| ring.take_buffer(id, event.result as usize));
    match bytes {
        Some(bytes) if is_message && bytes.as_slice() == MESSAGE => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        for _ in 0..20 {
            let ring = Ring::new(RingSetup::best(16, 64), 4, 2).unwrap();
            assert!(round_trip(ring).unwrap(), "a buffer was leaked");
        }
    }
}
