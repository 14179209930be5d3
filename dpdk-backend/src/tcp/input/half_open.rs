//! Segments of half-open connections (RFC 9293, 3.10.7.4, SYN-RECEIVED), and their answers.
//!
//! A peer with a completed handshake waits in the SYN cache with a shut window while the owner does
//! not accept, or has no room.

use crate::iface::SMALL_SIZE_MAX;
use crate::tcp::engine::{Context, Tcp};
use crate::tcp::input::cookies::Extras;
use crate::tcp::segment::Segment;
use crate::tcp::seq::before;
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::syn_cache::{Agreed, Due, HalfOpen, Handshake};
use crate::wire::flow::Tuple;
use crate::wire::tcp::{self, Flags, Options};
use crate::wire::{ethernet, ip, ipv6};
use netpoll::{Buffer, Slot};

/// The smallest MSS of a peer that is used, in bytes: each segment costs a header and a turn.
pub(in crate::tcp) const MSS_MIN: u16 = 88;

impl Tcp {
    pub(in crate::tcp) fn send_syn_ack(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>) {
        let entry = *self.peers.syn_cache.get(index);
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        let value = cx.now.ms.wrapping_add(self.keys.timestamp_offset(&tuple));
        self.answer_syn(cx, &entry, tuple, entry.handshake.iss, value);
    }

    pub(in crate::tcp) fn send_cookie(&mut self, cx: &mut Context<'_>, segment: &Segment, entry: HalfOpen) {
        let mut entry = entry;
        let handshake = &mut entry.handshake;
        let iss = self.peers.cookies.make(&self.keys, &segment.tuple, handshake.irs, handshake.mss, cx.now);
        let clock = cx.now.ms.wrapping_add(self.keys.timestamp_offset(&segment.tuple));
        let mut value = clock;
        if handshake.agreed.has(Agreed::TIMESTAMPS) {
            let scale = handshake.agreed.has(Agreed::SCALE).then_some(handshake.scale);
            value = Extras { sack: handshake.agreed.has(Agreed::SACK), scale }.stamp(clock);
        } else {
            handshake.agreed = Agreed::default(); // a cookie without timestamps can not carry them
        }
        cx.counters.cookies_sent += 1;
        self.answer_syn(cx, &entry, segment.tuple, iss, value);
    }

    pub(in crate::tcp) fn answer_syn(
        &mut self,
        cx: &mut Context<'_>,
        entry: &HalfOpen,
        tuple: Tuple,
        iss: u32,
        value: u32,
    ) {
        let Handshake { irs, ts_recent, agreed, .. } = entry.handshake;
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: iss,
            acknowledgement: irs.wrapping_add(1),
            flags: Flags::SYN.with(Flags::ACK),
            window: self.initial_window(entry.listener),
            header_size: 0,
            options: Options {
                mss: Some(self.own_mss(cx, &tuple)),
                window_scale: agreed.has(Agreed::SCALE).then(|| self.config.window_scale()),
                sack_permitted: agreed.has(Agreed::SACK),
                timestamp: agreed.has(Agreed::TIMESTAMPS).then_some((value, ts_recent)),
                ..Options::default()
            },
        };
        self.reply(cx, entry.mac, tuple, &header);
    }

    /// The window of a SYN or SYN-ACK, which is never scaled.
    pub(in crate::tcp) fn initial_window(&self, listener: u8) -> u16 {
        self.limits(listener).window_max.min(0xffff) as u16
    }

    /// The MSS that we announce: what fits the link.
    pub(in crate::tcp) fn own_mss(&self, cx: &Context<'_>, tuple: &Tuple) -> u16 {
        (cx.net.mtu - ip::segment_headers_size(tuple.local)).min(self.config.connection.mss_max.max(MSS_MIN))
    }

    /// Handles a segment of a half-open connection (RFC 9293, 3.10.7.4, SYN-RECEIVED).
    pub(in crate::tcp) fn handle_half_open(
        &mut self,
        cx: &mut Context<'_>,
        index: Slot<HalfOpen>,
        segment: &Segment,
        frame: Buffer,
    ) {
        let entry = *self.peers.syn_cache.get(index);
        let header = &segment.header;
        let Handshake { irs, iss, ts_recent, agreed, .. } = entry.handshake;
        let expected = irs.wrapping_add(1);
        if header.flags.has(Flags::RST) {
            // RFC 5961, 3.2: only the exact number resets.
            if header.sequence == expected {
                cx.counters.resets_received += 1;
                self.drop_half_open(cx, index);
            } else {
                cx.counters.drop_out_of_window += 1;
            }
            return;
        }
        if header.flags.has(Flags::SYN) {
            if header.sequence == irs && !header.flags.has(Flags::ACK) && !entry.is_waiting() {
                let entry = self.peers.syn_cache.get_mut(index);
                // RFC 6298, 3: which of the two SYN-ACKs will be acknowledged is not known.
                (entry.mac, entry.retransmitted) = (segment.mac, true);
                self.send_syn_ack(cx, index);
            } else {
                self.acknowledge_half_open(cx, index);
            }
            return;
        }
        if !header.flags.has(Flags::ACK) {
            cx.counters.drop_no_ack += 1;
            return;
        }
        let stamped = agreed.has(Agreed::TIMESTAMPS);
        if stamped && header.options.timestamp.is_some_and(|(value, _)| before(value, ts_recent)) {
            cx.counters.drop_paws += 1;
            return;
        }
        let window = u32::from(self.initial_window(entry.listener));
        if header.sequence.wrapping_sub(expected) > window {
            cx.counters.drop_out_of_window += 1;
            return self.acknowledge_half_open(cx, index);
        }
        if header.acknowledgement != iss.wrapping_add(1) {
            cx.counters.drop_bad_ack += 1;
            return self.refuse(cx, segment);
        }
        if !self.ports.listening {
            self.refuse(cx, segment);
            return self.drop_half_open(cx, index);
        }
        self.peers.syn_cache.get_mut(index).handshake.window = header.window;
        if !self.may_accept() {
            cx.counters.table_full += u64::from(!entry.is_waiting());
            self.peers.syn_cache.mark_waiting(index);
            if segment.span() > 0 {
                self.acknowledge_half_open(cx, index);
            }
            return;
        }
        if let Some(connection) = self.accept(cx, index, window) {
            self.handle_connection(cx, connection, segment, frame);
        }
    }

    /// Acknowledges: with the window of the SYN-ACK (RFC 9293, SHLD-14), or with a shut one for a
    /// waiting peer. The window of a waiting peer is taken back so that it sends probes and
    /// continues as soon as it is accepted; otherwise its data would be dropped until its timeout.
    pub(in crate::tcp) fn acknowledge_half_open(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>) {
        if !self.rates.duplicate.take(cx.now) {
            cx.counters.duplicate_acks_limited += 1;
            return;
        }
        let entry = *self.peers.syn_cache.get(index);
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        let Handshake { irs, iss, ts_recent, agreed, .. } = entry.handshake;
        let offset = self.keys.timestamp_offset(&tuple);
        let stamped = agreed.has(Agreed::TIMESTAMPS);
        let scale = if agreed.has(Agreed::SCALE) { self.config.window_scale() } else { 0 };
        let announced = self.initial_window(entry.listener).div_ceil(1 << scale);
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: iss.wrapping_add(1),
            acknowledgement: irs.wrapping_add(1),
            flags: Flags::ACK,
            window: if entry.is_waiting() { 0 } else { announced },
            header_size: 0,
            options: Options {
                timestamp: stamped.then(|| (cx.now.ms.wrapping_add(offset), ts_recent)),
                ..Options::default()
            },
        };
        self.reply(cx, entry.mac, tuple, &header);
    }

    pub(in crate::tcp) fn drop_half_open(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>) {
        let entry = *self.peers.syn_cache.get(index);
        let hash = self.keys.flow(&entry.tuple(cx.net.local(entry.local_index)));
        self.flows.remove(hash, Record::HalfOpen(index));
        self.peers.syn_cache.remove(index, self.keys.prefix(entry.remote));
    }

    /// Sends SYN-ACKs again, and gives up after the last retry. Handles at most `count_max`
    /// entries.
    pub(in crate::tcp) fn expire_half_open(&mut self, cx: &mut Context<'_>, count_max: usize) {
        for _ in 0..count_max {
            match self.peers.syn_cache.expire(cx.now) {
                Some(Due::Retransmit(index)) => {
                    cx.counters.syn_ack_retransmits += 1;
                    self.send_syn_ack(cx, index);
                }
                Some(Due::GiveUp(index)) => {
                    cx.counters.syn_timeouts += 1;
                    self.drop_half_open(cx, index);
                }
                None => return,
            }
        }
    }
}

/// Bytes of the options of a SYN-ACK: MSS, SACK permitted, timestamps, window scale.
const SYN_OPTIONS_SIZE: usize = 20;
const _: () = assert!(
    ethernet::HEADER_SIZE + ipv6::HEADER_SIZE + tcp::HEADER_SIZE + SYN_OPTIONS_SIZE <= SMALL_SIZE_MAX,
    "a SYN-ACK fits a control frame"
);
