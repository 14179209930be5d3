//! Segments of connections: the checks of RFC 9293, 3.10.7.4, in its order, with those of RFC 7323
//! and RFC 5961.
//!
//! ```text
//!   timestamps (7323, 5.3) ─ sequence ─ RST (5961, 3) ─ SYN (5961, 4) ─ ACK (5961, 5) ─ payload
//!                                                                                       └─ FIN
//! ```

use crate::iface::IcmpError;
use crate::tcp::engine::{Context, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::{ahead, at_or_before, before};
use crate::tcp::tables::control_block::State;
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Todos};
use crate::wire::icmp::Message;
use crate::wire::ip;
use crate::wire::tcp::{self, Flags};
use netpoll::{Buffer, CloseReason};

/// RFC 7323, 5.5: the idle time after which the peer's last timestamp is not valid any more.
const PAWS_VALID_MS: u32 = 24 * 24 * 3600 * 1000;

/// The part of a segment that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All of it.
    Whole,
    /// Only its acknowledgement: the window is shut (RFC 9293, 3.10.7.4: "special allowance").
    Acknowledgement,
    /// Nothing.
    Nothing,
}

impl Tcp {
    /// Handles a segment of a control block.
    pub(in crate::tcp) fn handle_connection(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
        frame: Buffer,
    ) {
        if self.table[index].state == State::SynSent {
            return self.handle_syn_sent(cx, index, segment);
        }
        let verdict = self.check(cx, index, segment);
        if verdict == Verdict::Nothing {
            return;
        }
        let block = &mut self.table[index];
        block.received_ms = cx.now.ms;
        block.probes = 0;
        if !self.acknowledge(cx, index, segment) {
            return;
        }
        if verdict == Verdict::Acknowledgement {
            if segment.span() > 0 {
                self.refuse_payload(cx, index);
            }
        } else {
            if segment.payload_size > 0 && !self.receive(cx, index, segment, frame) {
                return;
            }
            if segment.header.flags.has(Flags::FIN) || self.table[index].has(Facts::FIN_AHEAD) {
                // Frees the active block if it is not needed.
                return self.receive_fin(cx, index, segment);
            }
        }
        self.reschedule(index, cx.now);
    }

    fn check(&mut self, cx: &mut Context<'_>, index: BlockIndex, segment: &Segment) -> Verdict {
        let header = &segment.header;
        let is_reset = header.flags.has(Flags::RST);
        if !is_reset && !self.check_timestamp(cx, index, segment) {
            return Verdict::Nothing;
        }
        let verdict = self.check_sequence(index, segment);
        // RFC 5961, 3.2: only the exact number resets. Any other in the window gets a challenge.
        if is_reset {
            let block = &self.table[index];
            if header.sequence == block.rcv.nxt {
                cx.counters.resets_received += 1;
                self.reset_by_peer(cx, index);
            } else if verdict == Verdict::Nothing {
                cx.counters.drop_out_of_window += 1;
            } else {
                self.challenge(cx, index);
            }
            return Verdict::Nothing;
        }
        // RFC 5961, 4.2: a SYN on an open connection gets a challenge, whatever its number.
        if header.flags.has(Flags::SYN) {
            self.handle_late_syn(cx, index, segment);
            return Verdict::Nothing;
        }
        if verdict == Verdict::Nothing {
            let is_old = at_or_before(segment.end(), self.table[index].rcv.nxt);
            let counter =
                if is_old { &mut cx.counters.drop_duplicate } else { &mut cx.counters.drop_out_of_window };
            *counter += 1;
            self.acknowledge_again(cx, index, segment);
            return Verdict::Nothing;
        }
        if !header.flags.has(Flags::ACK) {
            cx.counters.drop_no_ack += 1;
            return Verdict::Nothing;
        }
        if !self.check_acknowledgement(cx, index, segment) {
            return Verdict::Nothing;
        }
        self.note_timestamp(index, segment);
        verdict
    }

    /// RFC 7323, 3.2 and 5.3, R1.
    fn check_timestamp(&mut self, cx: &mut Context<'_>, index: BlockIndex, segment: &Segment) -> bool {
        let block = &self.table[index];
        if !block.has(Facts::TIMESTAMPS) {
            return true;
        }
        let Some((value, _)) = segment.header.options.timestamp else {
            // "SHOULD silently drop"; a late SYN still gets a challenge.
            let is_syn = segment.header.flags.has(Flags::SYN);
            cx.counters.drop_no_timestamp += u64::from(!is_syn);
            return is_syn;
        };
        let is_valid = cx.now.since(block.received_ms) < PAWS_VALID_MS;
        if is_valid && before(value, block.stamps.recent) && !segment.header.flags.has(Flags::SYN) {
            cx.counters.drop_paws += 1;
            self.acknowledge_again(cx, index, segment);
            return false;
        }
        true
    }

    /// RFC 9293, 3.10.7.4, first: the four cases of its table.
    fn check_sequence(&self, index: BlockIndex, segment: &Segment) -> Verdict {
        let block = &self.table[index];
        let (start, span, window) = (segment.header.sequence, segment.span(), block.window_left());
        let in_window = |sequence: u32| sequence.wrapping_sub(block.rcv.nxt) < window;
        let acceptable = match (span, window) {
            (0, 0) => start == block.rcv.nxt,
            // The right edge itself: a peer that has filled the window acknowledges from there.
            (0, _) => in_window(start) || start == block.rcv.nxt.wrapping_add(window),
            // A bare FIN fits a shut window, as in Linux.
            (1, 0) => segment.payload_size == 0 && start == block.rcv.nxt,
            (_, 0) => false,
            _ => in_window(start) || in_window(segment.end().wrapping_sub(1)),
        };
        if acceptable {
            return Verdict::Whole;
        }
        // An announced window may have been taken back for want of buffers.
        let reach = self.limits(block.listener).window_max.max(0xffff);
        let is_near = start.wrapping_sub(block.rcv.nxt) <= reach;
        if is_near && window < u32::from(block.mss) { Verdict::Acknowledgement } else { Verdict::Nothing }
    }

    fn handle_late_syn(&mut self, cx: &mut Context<'_>, index: BlockIndex, segment: &Segment) {
        let block = &self.table[index];
        let again = segment.header.sequence == block.rcv.nxt.wrapping_sub(1);
        if block.state == State::SynReceived && again && !segment.header.flags.has(Flags::ACK) {
            // The SYN of a simultaneous open once more: our SYN-ACK was lost.
            self.table[index].set(Todos::ACK_NOW);
            return self.mark_dirty(index);
        }
        if block.state == State::SynReceived && again && segment.header.acknowledgement == block.snd.nxt {
            // The SYN-ACK of a simultaneous open completes it.
            let acknowledgement = segment.header.acknowledgement;
            return self.established(cx, index, acknowledgement);
        }
        self.challenge(cx, index);
    }

    /// RFC 5961, 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
    fn check_acknowledgement(&mut self, cx: &mut Context<'_>, index: BlockIndex, segment: &Segment) -> bool {
        let block = &self.table[index];
        let acknowledgement = segment.header.acknowledgement;
        if block.state == State::SynReceived {
            if acknowledgement == block.snd.nxt {
                return true;
            }
            cx.counters.drop_bad_ack += 1;
            self.refuse(cx, segment);
            return false;
        }
        let oldest = block.snd.una.wrapping_sub(block.snd.wnd_max);
        let in_range = at_or_before(oldest, acknowledgement) && at_or_before(acknowledgement, block.snd.nxt);
        if !in_range {
            cx.counters.drop_bad_ack += 1;
            self.challenge(cx, index);
        }
        in_range
    }

    /// RFC 7323, 4.3: echoes the timestamp of the segment that the last acknowledgement ended in,
    /// or of an older one.
    fn note_timestamp(&mut self, index: BlockIndex, segment: &Segment) {
        let block = &mut self.table[index];
        if let Some((value, _)) = segment.header.options.timestamp.filter(|_| block.has(Facts::TIMESTAMPS))
            && at_or_before(segment.header.sequence, block.rcv.wup)
            && at_or_before(block.stamps.recent, value)
        {
            block.stamps.recent = value;
        }
    }

    fn reset_by_peer(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let reason = match self.table[index].state {
            State::SynReceived => CloseReason::Refused,
            _ => CloseReason::PeerReset,
        };
        self.end_gone(cx, index, reason);
    }

    // --- errors from the network ---

    /// Handles an ICMP error about a segment of ours. RFC 5927: only with a number that is in
    /// flight. RFC 1122, 4.2.3.9: only a hard error ends a connection, and only while connecting.
    pub(crate) fn handle_error(&mut self, cx: &mut Context<'_>, error: &IcmpError) {
        let hash = self.keys.flow(&error.tuple);
        let Some(Record::Connection(index)) = self.find(hash, &error.tuple, cx.net) else {
            cx.counters.icmp_lies += 1;
            return;
        };
        let block = &self.table[index];
        let is_in_flight = error.sequence.wrapping_sub(block.snd.una) < block.flight();
        if !is_in_flight {
            cx.counters.icmp_lies += 1;
            return;
        }
        match error.message {
            Message::PacketTooBig { mtu } => self.lower_mtu(cx, index, mtu),
            Message::Unreachable { hard: true, .. } if block.state == State::SynSent => {
                cx.counters.connections_refused += 1;
                self.end_gone(cx, index, CloseReason::Refused);
            }
            _ => cx.counters.icmp_ignored += 1,
        }
    }

    /// Lowers the path's MTU (RFC 1191, 3 and 6.3; RFC 8201, 4): never below the smallest MTU,
    /// never up.
    fn lower_mtu(&mut self, cx: &mut Context<'_>, index: BlockIndex, mtu: u32) {
        let block = &mut self.table[index];
        let options_size = if block.has(Facts::TIMESTAMPS) { tcp::TIMESTAMP_SIZE } else { 0 };
        // A router from before RFC 1191 reports 0: the next plateau is the smallest.
        let mtu = mtu.max(ip::path_mtu_min(block.remote));
        let mss = mtu.saturating_sub(u32::from(ip::segment_headers_size(block.remote) + options_size));
        if mss >= u32::from(block.mss) {
            cx.counters.icmp_lies += u64::from(mss > u32::from(block.mss));
            return;
        }
        block.mss = mss as u16;
        cx.counters.pmtu_updates += 1;
        // What was too big was lost, and not because of congestion.
        if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
            let mut at = active.flight.head;
            while let Some(segment) = self.stores.segments.get_mut(at) {
                if u32::from(segment.size) > mss {
                    active.flight.mark_lost(segment);
                }
                at = segment.next;
            }
        }
        self.mark_dirty(index);
    }

    /// Bytes of the window that are left for payload that begins at `sequence`.
    pub(in crate::tcp) fn window_beyond(&self, index: BlockIndex, sequence: u32) -> u32 {
        let block = &self.table[index];
        ahead(sequence, block.rcv.nxt.wrapping_add(block.window_left()))
    }
}
