//! Queues of one port that share an address. A control frame is received by the queue that the card
//! chose, and may be for any of them.
//!
//! TCP segments follow their flow. Answers to requests for hardware addresses, and ICMP errors,
//! belong to no flow: the worker that sent the request or the segment may be another one. The queue
//! that receives such a frame offers a copy to all others, and each stack drops what it does not
//! need.
//!
//! No queue waits for another: a ring in use is tried a few times, then the frame is lost as on a
//! line. A lost answer is requested again.
//!
//! ```text
//!   card ─► queue 0 ─ answer, error? ─ copy ──► ring of queue 1, ring of queue 2, …
//! ```

use super::loopback::Ring;
use crate::wire::{arp, ethernet, icmp, ipv4, ipv6, ndp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Frames that may wait for a queue. Further ones are lost, as on a line.
const WAITING_MAX: usize = 64;
/// The number of times that a ring in use is tried.
const TRIES: usize = 128;

#[derive(Debug)]
struct Inbox {
    count: AtomicUsize,
    ring: Mutex<Ring>,
}

impl Inbox {
    /// The ring, unless another thread holds it for longer than the copy of a frame takes.
    fn ring(&self) -> Option<MutexGuard<'_, Ring>> {
        for _ in 0..TRIES {
            match self.ring.try_lock() {
                Ok(ring) => return Some(ring),
                Err(TryLockError::Poisoned(ring)) => return Some(ring.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }
}

/// `count` queues of one port.
pub fn siblings(count: usize) -> Vec<Sibling> {
    // A single queue has no siblings.
    let places = if count > 1 { WAITING_MAX } else { 1 };
    let inbox = || Inbox { count: AtomicUsize::new(0), ring: Mutex::new(Ring::new(places)) };
    let inboxes: Arc<[Inbox]> = (0..count).map(|_| inbox()).collect();
    (0..count).map(|own| Sibling { inboxes: Arc::clone(&inboxes), own }).collect()
}

/// One of the queues.
#[derive(Debug)]
pub struct Sibling {
    inboxes: Arc<[Inbox]>,
    own: usize,
}

impl Sibling {
    /// Copies a received frame to the others, if it may be for them. Returns the number of copies.
    pub fn offer(&self, frame: &[u8]) -> u64 {
        if self.inboxes.len() < 2 || !is_for_all(frame) {
            return 0;
        }
        let others = self.inboxes.iter().enumerate().filter(|(index, _)| *index != self.own);
        let mut count = 0;
        for (_, inbox) in others {
            let Some(mut ring) = inbox.ring() else { continue };
            ring.push(|out| {
                let size = frame.len().min(out.len());
                out[..size].copy_from_slice(&frame[..size]);
                inbox.count.fetch_add(1, Ordering::Relaxed);
                count += 1;
                size
            });
        }
        count
    }

    /// Whether frames from others wait.
    pub fn has_frames(&self) -> bool {
        self.inboxes[self.own].count.load(Ordering::Relaxed) > 0
    }

    /// Writes the oldest one to `out`. Returns its size, 0 when there is none or when it does not
    /// fit.
    pub fn take(&self, out: &mut [u8]) -> usize {
        let inbox = &self.inboxes[self.own];
        let Some(mut ring) = inbox.ring() else { return 0 };
        let Some(frame) = ring.front() else { return 0 };
        let size = frame.len();
        if let Some(out) = out.get_mut(..size) {
            out.copy_from_slice(frame);
        }
        ring.pop();
        inbox.count.fetch_sub(1, Ordering::Relaxed);
        if size <= out.len() { size } else { 0 }
    }
}

/// Whether a frame belongs to no flow, and is not a request that one answer is enough for.
fn is_for_all(frame: &[u8]) -> bool {
    let Ok(frame) = ethernet::Packet::new_checked(frame) else { return false };
    let rest = frame.payload();
    match frame.ether_type() {
        ethernet::ARP => arp::operation(rest) == Some(arp::REPLY),
        ethernet::IPV4 => ipv4::Packet::new_checked(rest).is_ok_and(|packet| {
            packet.protocol() == ipv4::ICMP
                && packet.payload().first().copied().is_some_and(icmp::is_error_v4)
        }),
        ethernet::IPV6 => ipv6::Packet::new_checked(rest).is_ok_and(|packet| {
            let is_for_all = |kind| icmp::is_error_v6(kind) || kind == ndp::ADVERTISEMENT;
            packet.next_header() == ipv4::ICMPV6 && packet.payload().first().copied().is_some_and(is_for_all)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arp(operation: u8) -> [u8; 42] {
        let mut frame = [0; 42];
        frame[12..14].copy_from_slice(&ethernet::ARP.to_be_bytes());
        frame[21] = operation;
        frame
    }

    #[test]
    fn answers_go_to_all_others_and_questions_to_none() {
        let [one, two, three] = siblings(3).try_into().unwrap();
        assert_eq!(one.offer(&arp(1)), 0);
        assert_eq!(one.offer(&arp(2)), 2);
        assert!(!one.has_frames() && two.has_frames() && three.has_frames());
        let mut out = [0; 64];
        assert_eq!(two.take(&mut out), 42);
        assert_eq!(out[..42], arp(2));
        assert_eq!((two.take(&mut out), three.take(&mut out[..8])), (0, 0));
        assert!(!two.has_frames() && !three.has_frames());
    }

    #[test]
    fn a_full_ring_loses_and_one_alone_keeps_to_itself() {
        let [one, two] = siblings(2).try_into().unwrap();
        let reached: u64 = (0..100).map(|_| one.offer(&arp(2))).sum();
        assert_eq!(reached, WAITING_MAX as u64);
        let taken = (0..100).filter(|_| two.take(&mut [0; 64]) > 0).count();
        assert_eq!(taken, WAITING_MAX);
        assert_eq!(siblings(1)[0].offer(&arp(2)), 0);
    }

    #[test]
    fn errors_are_told_from_echoes() {
        let mut v4 = [0; 64];
        v4[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
        (v4[14], v4[23]) = (0x45, ipv4::ICMP);
        for (kind, expected) in [(0, false), (3, true), (8, false), (11, true)] {
            v4[34] = kind;
            assert_eq!(is_for_all(&v4), expected, "{kind}");
        }
        let mut v6 = [0; 64];
        v6[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
        (v6[14], v6[20]) = (0x60, ipv4::ICMPV6);
        for (kind, expected) in [(0, false), (2, true), (128, false), (135, false), (136, true)] {
            v6[54] = kind;
            assert_eq!(is_for_all(&v6), expected, "{kind}");
        }
        for size in 0..60 {
            is_for_all(&v4[..size]);
            is_for_all(&v6[..size]);
        }
    }
}
