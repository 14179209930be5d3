//! A pair of queues of a port: a worker's device.

use super::pool::{Pool, ReceivePool};
use super::port::Port;
use crate::device::{BURST, Capabilities, Device, DeviceFull, Frame, Received, Sibling};
use crate::wire::{ethernet, ipv6, tcp};
use dpdk_sys as sys;
use netpoll::{BufferPools, Filled, LentMemory, Timestamp};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Frames that a queue collects before they are given to the card.
pub(super) const PENDING: usize = 64;

/// The time after which a frame that the card does not take is dropped: all others wait behind it.
const STUCK: Duration = Duration::from_secs(1);

/// Bytes of the headers of a TCP segment at most.
const HEADER_SIZE_MAX: usize = ethernet::HEADER_SIZE + ipv6::HEADER_SIZE + tcp::HEADER_SIZE_MAX;

/// The parts of a queue.
pub(super) struct QueueParts {
    pub(super) port: Arc<Port>,
    pub(super) number: u16,
    pub(super) receive: Arc<ReceivePool>,
    pub(super) transmit: Arc<Pool>,
    pub(super) memory: LentMemory,
    pub(super) capabilities: Capabilities,
    pub(super) sibling: Sibling,
}

macro_rules! queue_counters {
    ($($name:ident: $text:literal,)*) => {
        /// Counters of a queue.
        #[derive(Clone, Copy, Debug, Default)]
        struct QueueCounters {
            $(#[doc = $text] $name: u64,)*
        }

        impl QueueCounters {
            fn tell(&self, tell: &mut dyn FnMut(&'static str, u64)) {
                $(tell(concat!("port_", stringify!($name)), self.$name);)*
            }
        }
    };
}

queue_counters! {
    drop_segments: "Frames that came spread over several buffers.",
    drop_foreign_buffer: "Frames that a driver delivered in other memory than the receive pool's.",
    drop_lost_buffer: "Frames in buffers that were not the card's to fill.",
    drop_refused: "Frames that the driver would not send.",
    drop_stuck: "Frames that the card did not take for a second.",
    transmit_waits: "Times that the card took less than was offered.",
    transmit_no_buffer: "Times that no buffer was free for a frame that leaves.",
    handed_over: "Control frames handed to other queues, whose worker may have asked for them.",
    drop_handed_over: "Control frames of other queues that found no buffer.",
}

/// A pair of queues. Belongs to one thread at a time.
#[derive(Debug)]
pub struct Queue {
    /// Frames to be sent: the first `pending_count` of these.
    pending: [*mut sys::rte_mbuf; PENDING],
    pending_count: usize,
    /// The time at which the card last took one, or none waited.
    moved: Timestamp,
    number: u16,
    capabilities: Capabilities,
    counters: QueueCounters,
    sibling: Sibling,
    memory: Option<LentMemory>,
    receive: Arc<ReceivePool>,
    transmit: Arc<Pool>,
    port: Arc<Port>,
}

// SAFETY: its packet buffers are its own, and a queue of a port may be used by any thread, one at a
// time.
unsafe impl Send for Queue {}

impl Queue {
    pub(super) fn new(parts: QueueParts) -> Queue {
        let QueueParts { port, number, receive, transmit, memory, capabilities, sibling } = parts;
        Queue {
            pending: [std::ptr::null_mut(); PENDING],
            pending_count: 0,
            moved: Timestamp::ZERO,
            number,
            capabilities,
            counters: QueueCounters::default(),
            sibling,
            memory: Some(memory),
            receive,
            transmit,
            port,
        }
    }

    /// Whether the link is up.
    pub fn link_is_up(&self) -> bool {
        super::port::link_speed(self.port.number, "").is_some()
    }

    /// Gives the card the buffers that are not referenced any more.
    fn give_back(&mut self, pools: &mut BufferPools) {
        pools.reclaim_receive();
        while let Some(packet) = pools.lend_receive().and_then(|index| self.receive.packet(index)) {
            // SAFETY: the buffer was ours since it was received, and its last holder is gone.
            unsafe { sys::shim_mbuf_free_one(packet) };
        }
    }

    /// The frame in `packet`, which belongs to the stack from now on.
    fn take(&mut self, packet: *mut sys::rte_mbuf, pools: &mut BufferPools) -> Option<Received> {
        let mut facts = sys::shim_received::default();
        // SAFETY: the packet is ours; the whole structure is written.
        unsafe { sys::shim_received(packet, &raw mut facts) };
        if facts.segments != 1 {
            self.counters.drop_segments += 1;
            // SAFETY: the packet is ours.
            unsafe { sys::shim_mbuf_free(packet) };
            return None;
        }
        // The index of another pool's packet leads to another packet here.
        if facts.is_own == 0 || self.receive.packet(facts.index) != Some(packet) {
            self.counters.drop_foreign_buffer += 1;
            // SAFETY: the packet is ours.
            unsafe { sys::shim_mbuf_free(packet) };
            return None;
        }
        // SAFETY: the packet has this index in the pool that lent its memory to `pools`, its bytes
        // are in its own buffer, and it is ours alone; it is not touched until its number is lent
        // again.
        let filled = unsafe { Filled::new(facts.index, facts.offset, facts.size) };
        let Some(buffer) = pools.claim_receive(&filled) else {
            // No buffer of the stack, which therefore can not return it: its driver lost count.
            self.counters.drop_lost_buffer += 1;
            return None;
        };
        Some(Received { buffer, checksums_verified: facts.tcp_checksum_good != 0 })
    }

    /// Receives control frames of other queues, which may be answers to this worker's requests.
    fn receive_from_siblings(&mut self, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        while frames.len() < frames.capacity() && self.sibling.has_frames() {
            let Some(packet) = self.receive.pool.take() else { return };
            let room = self.receive.pool.room();
            // SAFETY: a fresh buffer of ours, with that much room.
            let start = unsafe { sys::shim_mbuf_append(packet.as_ptr(), room as u16) };
            if start.is_null() {
                self.counters.drop_handed_over += 1;
                // SAFETY: the packet is ours.
                unsafe { sys::shim_mbuf_free(packet.as_ptr()) };
                return;
            }
            // SAFETY: this many bytes, ours alone, initialized like all memory of the pool.
            let out = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), room) };
            let size = self.sibling.take(out);
            match self.take(packet.as_ptr(), pools) {
                Some(mut received) if size > 0 => {
                    received.buffer.truncate(size);
                    received.checksums_verified = false;
                    frames.push(received);
                }
                _ => {
                    self.counters.drop_handed_over += 1;
                    return; // it did not fit, or another thread has the ring: next round
                }
            }
        }
    }

    /// Gives the card as many frames as it takes. The rest waits.
    fn flush(&mut self, now: Timestamp) {
        let mut sent = 0;
        while sent < self.pending_count {
            let mut refused = 0;
            let rest = &mut self.pending[sent..self.pending_count];
            let (first, count) = (rest.as_mut_ptr(), rest.len() as u16);
            // SAFETY: the port runs, the queue is this thread's, the packets are ours; the card
            // owns those that it takes.
            let taken =
                unsafe { sys::shim_tx_burst(self.port.number, self.number, first, count, &raw mut refused) };
            sent += usize::from(taken);
            if refused != 0 {
                self.counters.drop_refused += 1;
                // SAFETY: the packet behind those that were taken is still ours.
                unsafe { sys::shim_mbuf_free(self.pending[sent]) };
                sent += 1;
            } else if taken == 0 && now.since(self.moved) < STUCK {
                self.counters.transmit_waits += 1;
                break;
            } else if taken == 0 {
                self.counters.drop_stuck += 1;
                // SAFETY: the packet was not taken and is still ours.
                unsafe { sys::shim_mbuf_free(self.pending[sent]) };
                sent += 1;
            }
            self.moved = now;
        }
        self.pending.copy_within(sent..self.pending_count, 0);
        self.pending_count -= sent;
    }

    /// A buffer for a frame to send. When none is left, buffers that the card has sent are returned
    /// first.
    fn transmit_buffer(&mut self) -> Option<NonNull<sys::rte_mbuf>> {
        let taken = self.transmit.take();
        if taken.is_none() {
            self.counters.transmit_no_buffer += 1;
            // SAFETY: the port runs, the queue is this thread's.
            unsafe { sys::rte_eth_tx_done_cleanup(self.port.number, self.number, 0) };
        }
        taken
    }

    /// The frame's bytes in one buffer, or in a chain when they do not fit.
    fn gather(&mut self, frame: &Frame<'_>) -> Option<NonNull<sys::rte_mbuf>> {
        let head = self.transmit_buffer()?;
        let room = self.transmit.room();
        let mut left = room;
        let pieces = frame.payload.map(|(buffer, range)| &buffer[range]);
        for mut bytes in std::iter::once(frame.header).chain(pieces) {
            while !bytes.is_empty() {
                if left == 0 {
                    self.extend(head)?;
                    left = room;
                }
                let (now, later) = bytes.split_at(bytes.len().min(left));
                if !append(head, now) {
                    // SAFETY: the chain is ours.
                    unsafe { sys::shim_mbuf_free(head.as_ptr()) };
                    return None;
                }
                left -= now.len();
                bytes = later;
            }
        }
        Some(head)
    }

    /// Adds a buffer to the chain. Without one, the chain is freed.
    fn extend(&mut self, head: NonNull<sys::rte_mbuf>) -> Option<()> {
        let tail = self.transmit_buffer();
        let chained = tail.is_some_and(|tail| {
            // SAFETY: both are ours, and `tail` is in no chain.
            unsafe { sys::shim_mbuf_chain(head.as_ptr(), tail.as_ptr()) == 0 }
        });
        if chained {
            return Some(());
        }
        for packet in [Some(head), tail].into_iter().flatten() {
            // SAFETY: both are ours, and not chained.
            unsafe { sys::shim_mbuf_free(packet.as_ptr()) };
        }
        None
    }
}

/// Copies `bytes` to the end of a chain. Returns false when its last buffer has no room for them.
fn append(head: NonNull<sys::rte_mbuf>, bytes: &[u8]) -> bool {
    // SAFETY: the chain is ours.
    let start = unsafe { sys::shim_mbuf_append(head.as_ptr(), bytes.len() as u16) };
    if start.is_null() {
        return false;
    }
    // SAFETY: room for this many bytes, which nothing else refers to.
    unsafe { start.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    true
}

/// Sets the work that is left to the card.
fn offload(head: NonNull<sys::rte_mbuf>, frame: &Frame<'_>) {
    let todo = frame.offload;
    let ether_type = ethernet::Packet::new_checked(frame.header).map(|header| header.ether_type());
    let is_v4 = ether_type == Ok(ethernet::IPV4);
    let (l2, l3, l4) = (ethernet::HEADER_SIZE as u8, todo.ip_size, todo.tcp_size);
    // SAFETY: the chain is ours.
    unsafe { sys::shim_mbuf_offload(head.as_ptr(), is_v4.into(), l2, l3, l4, todo.segment_size) };
}

impl Device for Queue {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive_memory(&mut self) -> Option<LentMemory> {
        self.memory.take()
    }

    fn receive_burst(&mut self, _now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        self.give_back(pools);
        self.receive_from_siblings(pools, frames);
        let mut packets = [std::ptr::null_mut(); BURST];
        let room = (frames.capacity() - frames.len()).min(BURST) as u16;
        // SAFETY: the port runs, the queue is this thread's, the table has room for this many.
        let count = unsafe { sys::shim_rx_burst(self.port.number, self.number, packets.as_mut_ptr(), room) };
        for packet in &packets[..usize::from(count)] {
            let Some(received) = self.take(*packet, pools) else { continue };
            self.counters.handed_over += self.sibling.offer(received.buffer.as_slice());
            frames.push(received);
        }
    }

    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        if self.pending_count == PENDING {
            self.flush(now);
        }
        if self.pending_count == PENDING {
            return Err(DeviceFull);
        }
        let mut header = [0; HEADER_SIZE_MAX];
        let header = if frame.offload.segment_size > 0 && frame.header.len() <= HEADER_SIZE_MAX {
            header[..frame.header.len()].copy_from_slice(frame.header);
            uncount_length(&mut header[..frame.header.len()], frame);
            &header[..frame.header.len()]
        } else {
            frame.header
        };
        let frame = Frame { header, ..*frame };
        let head = self.gather(&frame).ok_or(DeviceFull)?;
        if frame.offload.checksum {
            offload(head, &frame);
        }
        if self.pending_count == 0 {
            self.moved = now;
        }
        self.pending[self.pending_count] = head.as_ptr();
        self.pending_count += 1;
        Ok(())
    }

    fn transmit_burst(&mut self, now: Timestamp) {
        if self.pending_count > 0 {
            self.flush(now);
        }
    }

    fn counters(&mut self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.counters.tell(tell);
        // The port's own counters, reported by one of its queues: they are added up over workers.
        let mut stats = sys::shim_port_stats::default();
        // SAFETY: the port runs; the whole structure is written.
        if self.number == 0 && unsafe { sys::shim_port_stats(self.port.number, &raw mut stats) } == 0 {
            tell("port_frames_received", stats.rx_packets);
            tell("port_bytes_received", stats.rx_bytes);
            tell("port_frames_sent", stats.tx_packets);
            tell("port_bytes_sent", stats.tx_bytes);
            tell("port_drop_no_descriptor", stats.rx_missed);
            tell("port_drop_broken", stats.rx_errors);
            tell("port_drop_no_buffer", stats.rx_no_buffer);
            tell("port_drop_not_sent", stats.tx_errors);
        }
    }
}

/// Removes the length from the pseudo-header's sum in the checksum field. DPDK wants it without
/// one, because each segment has its own length.
fn uncount_length(header: &mut [u8], frame: &Frame<'_>) {
    let size = usize::from(frame.offload.tcp_size) + frame.payload.len();
    let segment = header.get_mut(ethernet::HEADER_SIZE + usize::from(frame.offload.ip_size)..);
    if let Ok(mut segment) = tcp::Packet::new_checked(segment.unwrap_or_default()) {
        segment.change_pseudo_length(size as u16, 0);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        for packet in &self.pending[..self.pending_count] {
            // SAFETY: the waiting packets are ours.
            unsafe { sys::shim_mbuf_free(*packet) };
        }
    }
}
