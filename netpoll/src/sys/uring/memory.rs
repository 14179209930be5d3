//! Memory that submissions point to, in arrays that never move.
#![allow(unsafe_code)]

use crate::SharedBuffer;
use crate::release_spare;
use crate::send_queue::PIECES_PER_WRITE;
use socket2::{SockAddr, SockAddrStorage};
use std::cell::UnsafeCell;
use std::net::SocketAddr;

/// At most so many vectored sends between two submissions; then what is queued is submitted.
const HEADERS: usize = 256;
/// At most so many pieces in them.
const VECTORS: usize = 2048;
/// At most so many connects between two submissions.
const CONNECTS: usize = 64;

/// What sends and connects point to until the kernel has consumed their submissions.
pub(super) struct SendMemory {
    /// Payloads of queued sends.
    holds: Vec<SharedBuffer>,
    headers: Vec<libc::msghdr>,
    vectors: Vec<libc::iovec>,
    connects: Vec<SockAddr>,
}

impl SendMemory {
    pub(super) fn new(sq_entries: u32) -> SendMemory {
        SendMemory {
            holds: Vec::with_capacity(sq_entries as usize + VECTORS),
            headers: Vec::with_capacity(HEADERS),
            vectors: Vec::with_capacity(VECTORS),
            connects: Vec::with_capacity(CONNECTS),
        }
    }

    /// Whether a send of any kind and a connect would find room.
    pub(super) fn has_room(&self) -> bool {
        self.headers.len() < HEADERS
            && self.vectors.len() + PIECES_PER_WRITE <= VECTORS
            && self.holds.len() + PIECES_PER_WRITE <= self.holds.capacity()
            && self.connects.len() < CONNECTS
    }

    /// Keeps a payload; returns its address and length.
    pub(super) fn hold(&mut self, payload: &SharedBuffer) -> (*const u8, u32) {
        self.holds.push(payload.clone());
        (payload.as_ptr(), payload.len() as u32)
    }

    /// Keeps up to [`PIECES_PER_WRITE`] payloads behind one message header; returns the header and
    /// their bytes in all.
    pub(super) fn hold_all<'a>(
        &mut self,
        payloads: impl Iterator<Item = &'a SharedBuffer>,
    ) -> (*const libc::msghdr, usize) {
        let first = self.vectors.len();
        let mut bytes = 0;
        for payload in payloads.take(PIECES_PER_WRITE) {
            self.holds.push(payload.clone());
            let base = payload.as_ptr().cast_mut().cast();
            self.vectors.push(libc::iovec { iov_base: base, iov_len: payload.len() });
            bytes += payload.len();
        }
        // Neither list grows beyond its capacity (`has_room`), so no element moves.
        assert!(self.headers.len() < HEADERS && self.vectors.len() <= VECTORS, "asked for room first");
        // SAFETY: all zeroes is a valid `msghdr`: null pointers and zero lengths.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.vectors[first..].as_mut_ptr();
        header.msg_iovlen = (self.vectors.len() - first) as _;
        self.headers.push(header);
        (&raw const self.headers[self.headers.len() - 1], bytes)
    }

    /// Keeps an address to connect to. It does not move: the vector never grows.
    pub(super) fn hold_address(&mut self, address: SocketAddr) -> (*const libc::sockaddr, libc::socklen_t) {
        assert!(self.connects.len() < CONNECTS, "asked for room first");
        self.connects.push(address.into());
        let kept = &self.connects[self.connects.len() - 1];
        (kept.as_ptr().cast(), kept.len())
    }

    /// Returns the memory of what is not in use to the system.
    pub(super) fn trim(&mut self) {
        release_spare(&mut self.holds);
        release_spare(&mut self.headers);
        release_spare(&mut self.vectors);
        release_spare(&mut self.connects);
    }

    /// Releases everything: the kernel has consumed all submissions.
    pub(super) fn release(&mut self) {
        self.holds.clear();
        self.headers.clear();
        self.vectors.clear();
        self.connects.clear();
    }
}

/// Where one accept writes its peer's address.
struct AcceptAddress {
    storage: UnsafeCell<SockAddrStorage>,
    len: UnsafeCell<libc::socklen_t>,
    /// The kernel may write to it.
    in_flight: bool,
}

/// One listener's addresses, one for each of its accepts.
pub(super) struct AcceptAddresses(Box<[AcceptAddress]>);

impl AcceptAddresses {
    pub(super) fn new(count: usize) -> AcceptAddresses {
        let address = |_| AcceptAddress {
            storage: UnsafeCell::new(SockAddrStorage::zeroed()),
            len: UnsafeCell::new(0),
            in_flight: false,
        };
        AcceptAddresses((0..count).map(address).collect())
    }

    /// Lends address `position` to the kernel.
    pub(super) fn lend(&mut self, position: usize) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let address = &mut self.0[position];
        assert!(!address.in_flight, "one accept at a time");
        address.in_flight = true;
        *address.len.get_mut() = size_of::<SockAddrStorage>() as libc::socklen_t;
        (address.storage.get().cast(), address.len.get())
    }

    /// Notes that the accept at `position` has completed: the kernel does not write to the address
    /// any more.
    pub(super) fn completed(&mut self, position: usize) {
        self.0[position].in_flight = false;
    }

    /// The address at `position`, unless it is lent or not an IP address.
    pub(super) fn read(&self, position: usize) -> Option<SocketAddr> {
        let address = &self.0[position];
        if address.in_flight {
            return None;
        }
        // SAFETY: not in flight, so it is not being written; plain old data that began zeroed.
        let storage = unsafe { address.storage.get().read() };
        // SAFETY: as above.
        let len = unsafe { address.len.get().read() };
        // SAFETY: the kernel filled `len` bytes of a storage that is large enough for any address.
        unsafe { SockAddr::new(storage, len) }.as_socket()
    }

    /// Whether the kernel may still write to any address.
    pub(super) fn any_in_flight(&self) -> bool {
        self.0.iter().any(|address| address.in_flight)
    }
}
