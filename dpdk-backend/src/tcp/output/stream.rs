//! Output of a connection: retransmissions first, then new data, then an acknowledgement unless a
//! segment carried it.
//!
//! Headers are written for each transmission. Payload is summed piece by piece and never copied.
//! The sum of the last piece is kept within a turn, so that a fan-out sums its payload once.
//! Checksums and segmentation are left to a device that supports them.

use crate::device::Payload;
use crate::device::{Device, DeviceFull, Frame, Offload};
use crate::iface::{HEADER_SIZE_MAX, TcpFrame};
use crate::tcp::congestion::{cubic, recovery, rtt};
use crate::tcp::control::end::FinOrReset;
use crate::tcp::engine::{Context, Notice, Tcp};
use crate::tcp::output::replies::{is_small, is_worth_opening};
use crate::tcp::tables::active::TimerKind;
use crate::tcp::tables::control_block::State;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::scoreboard::{SegmentFacts, SentSegment};
use crate::tcp::tables::send_queue::Keeper;
use crate::wire::Mac;
use crate::wire::checksum::{self, Sum};
use crate::wire::tcp::{self, Flags};
use netpoll::{CloseReason, PieceList, Slot, Timestamp};

/// Segments of one connection in one turn at most. The rest follows in the next turn, so that other
/// connections get theirs.
const SEGMENTS_PER_TURN: usize = 64;
/// The override timeout of a small window, in milliseconds: from 0.1 to 1 second (RFC 9293,
/// 3.8.6.2.1).
const OVERRIDE_MS: (u32, u32) = (100, 1000);
/// Bytes given to a device that cuts segments at most.
const LARGE_MAX: u32 = 60_000;

/// A device, with the time that is passed to it.
pub(crate) struct Line<'a, D> {
    pub(crate) device: &'a mut D,
    pub(crate) now: Timestamp,
}

/// A range of a connection's stream that is about to leave.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    sequence: u32,
    size: u32,
    fin: bool,
    push: bool,
    /// Bytes of each segment, when the device is to cut the range; otherwise 0.
    cut: u16,
}

impl Tcp {
    /// Sends what became due since the last poll. Stops when the device accepts no more; the rest
    /// stays listed.
    pub(crate) fn output_all<D: Device>(&mut self, cx: &mut Context<'_>, line: &mut Line<'_, D>) {
        self.turn.last_sum = None;
        if cx.net.take_resolved() {
            for _ in 0..self.turn.unresolved.len() {
                let Some(index) = self.turn.unresolved.pop(&mut self.table) else { break };
                self.mark_dirty(index);
            }
        }
        self.open_windows(cx, line);
        let room = self.stores.segments.room().min(self.stores.actives.room());
        for _ in 0..room.min(self.turn.short.len()) {
            let Some(index) = self.turn.short.pop(&mut self.table) else { break };
            self.mark_dirty(index);
        }
        for _ in 0..self.turn.dirty.len() {
            // A SYN, an acknowledgement or a reset without room here would be missing until a timer
            // of the peer or of this host fires.
            if !cx.net.has_reply_room() && !cx.net.flush_replies(cx.counters, line.device, line.now) {
                break;
            }
            let Some(index) = self.turn.dirty.pop(&mut self.table) else { break };
            if self.output(cx, line, index).is_err() {
                cx.counters.device_full += 1;
                self.mark_dirty(index);
                break;
            }
        }
        self.turn.moved.clear();
    }

    /// Lists the connection until the full store of descriptors has room again.
    fn wait_for_store(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        cx.counters.send_store_full += 1;
        self.turn.short.push(&mut self.table, index);
    }

    /// Whether a poll has something to send.
    pub(crate) fn has_output(&self) -> bool {
        !self.turn.dirty.is_empty()
    }

    /// Announces shut windows again, at most as many as there are buffers, or one for a connection
    /// that needs none.
    fn open_windows<D: Device>(&mut self, cx: &mut Context<'_>, line: &mut Line<'_, D>) {
        let most = self.turn.starved.len().min(self.buffers.budget.max(1) as usize).min(256);
        for _ in 0..most {
            if !cx.net.has_reply_room() && !cx.net.flush_replies(cx.counters, line.device, line.now) {
                return;
            }
            let Some(index) = self.turn.starved.pop(&mut self.table) else { return };
            let target = self.window_target(index);
            let block = &self.table[index];
            if !block.state.receives() || self.is_shut(index) {
                continue;
            }
            if is_worth_opening(block, target) {
                cx.counters.window_updates += 1;
                self.send_ack(cx, index, None);
            } else if is_small(block.window_left(), block, self.config.connection.window_max) {
                self.turn.starved.push(&mut self.table, index);
            }
        }
    }

    fn output<D: Device>(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line<'_, D>,
        index: BlockIndex,
    ) -> Result<(), DeviceFull> {
        match self.table[index].state {
            State::Free => return Ok(()),
            State::Ended => {
                self.send_owed_reset(cx, index);
                return Ok(());
            }
            State::SynSent | State::SynReceived => {
                if self.table[index].has(Todos::ACK_NOW) {
                    self.send_syn(cx, index);
                }
                self.reschedule(index, cx.now);
                return Ok(());
            }
            _ => {}
        }
        if self.is_done(index) {
            // Nothing is left to send: our FIN goes with the acknowledgement.
            self.end_for_owner(cx, index, CloseReason::PeerClosed, FinOrReset::Fin);
            return Ok(());
        }
        if self.table[index].active.is_some() || self.owes_fin(index) {
            self.output_stream(cx, line, index)?;
        }
        if self.table[index].has(Todos::ACK_NOW) {
            self.send_ack(cx, index, None);
        }
        self.reschedule(index, cx.now);
        if self.is_done(index) {
            self.end_for_owner(cx, index, CloseReason::PeerClosed, FinOrReset::Fin);
        }
        Ok(())
    }

    fn owes_fin(&self, index: BlockIndex) -> bool {
        let block = &self.table[index];
        block.has(Facts::FIN_QUEUED) && !block.has(Facts::FIN_SENT)
    }

    /// Whether a connection ends that its peer has ended: its owner has had the FIN and every
    /// payload before it in an earlier poll, has not stopped, and has nothing queued. Listing the
    /// connection for output asks again.
    fn is_done(&self, index: BlockIndex) -> bool {
        let block = &self.table[index];
        let waits = Facts::FIN_QUEUED.or(Facts::ORPHAN).or(Facts::FIN_UNREPORTED).or(Facts::STOPPED);
        if block.state != State::CloseWait || block.has(waits) {
            return false;
        }
        let unsent = self.stores.actives.get(block.active).map_or(0, |active| active.unsent);
        unsent == 0 && !self.reports.unread.holds(index)
    }

    fn output_stream<D: Device>(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line<'_, D>,
        index: BlockIndex,
    ) -> Result<(), DeviceFull> {
        if self.make_active(index, cx.now).is_none() {
            self.wait_for_store(cx, index);
            return Ok(());
        }
        let Some(mac) = self.resolve(cx, index) else {
            // The timer runs, so that an unresolved neighbor is handled like a peer that does not
            // answer.
            self.arm_if_idle(index, cx);
            return Ok(());
        };
        let retransmitted = self.retransmit(cx, line, index, mac)?;
        let unsent = self
            .stores
            .actives
            .get(self.table[index].active)
            .map_or(PieceList::NONE, |active| active.queue.first_unsent());
        let sent = self.send_new(cx, line, index, mac)?;
        self.move_out(cx, index, unsent, sent);
        self.after_sending(cx, index, retransmitted, sent);
        Ok(())
    }

    // --- retransmissions ---

    fn retransmit<D: Device>(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line<'_, D>,
        index: BlockIndex,
        mac: Mac,
    ) -> Result<bool, DeviceFull> {
        let mut at = self.stores.actives[self.table[index].active].flight.head;
        let mut any = false;
        for _ in 0..SEGMENTS_PER_TURN {
            let block = &self.table[index];
            let (mss, head_window) = (block.mss, block.snd.wnd);
            let active = &mut self.stores.actives[block.active];
            if active.flight.lost == 0 {
                return Ok(any);
            }
            let Some(lost) = active.flight.next_lost(&self.stores.segments, at) else { return Ok(any) };
            if !active.flight.split(&mut self.stores.segments, lost, mss) {
                self.wait_for_store(cx, index);
                return Ok(any);
            }
            let segment = self.stores.segments[lost];
            let pipe = recovery::pipe(block, active);
            let offset = segment.sequence.wrapping_sub(block.snd.una);
            let fits_window = offset + segment.span() <= head_window.max(1) || lost == active.flight.head;
            if (pipe > 0 && pipe + segment.span() > block.cwnd) || !fits_window {
                return Ok(any);
            }
            let stretch = Stretch {
                sequence: segment.sequence,
                size: u32::from(segment.size),
                fin: segment.has(SegmentFacts::FIN),
                push: lost == active.flight.tail && segment.size > 0,
                cut: 0,
            };
            let queue = active.queue;
            self.transmit(cx, line, index, mac, &stretch, Some((queue, offset)))?;
            self.note_retransmission(cx, index, lost);
            any = true;
            at = segment.next;
        }
        self.mark_dirty(index);
        Ok(any)
    }

    fn note_retransmission(&mut self, cx: &mut Context<'_>, index: BlockIndex, at: Slot<SentSegment>) {
        cx.counters.retransmits += 1;
        let active = &mut self.stores.actives[self.table[index].active];
        let segment = &mut self.stores.segments[at];
        active.flight.note_sent_again(segment, cx.now.us);
        recovery::on_sent(active, segment.span());
        if at == active.flight.head {
            active.timer.rto_from_ms = cx.now.ms; // it has a whole timeout to be acknowledged
        }
    }

    // --- new data ---

    fn send_new<D: Device>(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line<'_, D>,
        index: BlockIndex,
        mac: Mac,
    ) -> Result<bool, DeviceFull> {
        let large_max = line.device.capabilities().segmentation_max.min(LARGE_MAX);
        let mut any = false;
        for _ in 0..SEGMENTS_PER_TURN {
            if !self.table[index].state.sends() && !self.owes_fin(index) {
                return Ok(any);
            }
            self.restart_after_idle(index, cx);
            let Some(stretch) = self.next_stretch(index, large_max) else { return Ok(any) };
            let parts = stretch.size.div_ceil(u32::from(stretch.cut.max(1))).max(1);
            if stretch.cut > 0 && self.stores.segments.room() < parts as usize
                || self.stores.segments.is_full()
            {
                self.wait_for_store(cx, index);
                return Ok(any);
            }
            self.transmit(cx, line, index, mac, &stretch, None)?;
            self.note_sent(cx, index, &stretch);
            any = true;
        }
        self.mark_dirty(index);
        Ok(any)
    }

    /// RFC 5681, 4.1: after an idle retransmission timeout the old window is not valid any more.
    fn restart_after_idle(&mut self, index: BlockIndex, cx: &Context<'_>) {
        let block = &mut self.table[index];
        if block.flight() == 0 && cx.now.since(block.sent_ms) > rtt::rto_base_ms(block) {
            cubic::restart_after_idle(block);
        }
    }

    /// The next range that both windows allow; `None` when they allow none.
    fn next_stretch(&mut self, index: BlockIndex, large_max: u32) -> Option<Stretch> {
        let limit = self.limits(self.table[index].listener).flight_bytes_max;
        let allowed = self.segments_allowed();
        let block = &mut self.table[index];
        let active = &self.stores.actives[block.active];
        let mss = u32::from(block.mss);
        let sequence = block.snd.nxt;
        let owes_fin = block.has(Facts::FIN_QUEUED) && !block.has(Facts::FIN_SENT);
        if active.unsent == 0 {
            return owes_fin.then_some(Stretch { sequence, size: 0, fin: true, push: false, cut: 0 });
        }
        if active.flight.count >= allowed {
            return None;
        }
        let flight = block.flight();
        let pipe = recovery::pipe(block, active);
        let bound = if flight == 0 { limit.max(mss) } else { limit.saturating_sub(flight) };
        let window = block.snd.wnd.saturating_sub(flight).min(bound);
        let congestion = block.cwnd.saturating_sub(pipe);
        let full = active.unsent.min(mss);
        if congestion < full && pipe > 0 {
            return None;
        }
        let mut size = full.min(window);
        // RFC 9293, 3.8.6.2.1: a full segment, everything that is queued, or half of the largest
        // window. Anything else is a silly window.
        let is_silly = size < full && size < (block.snd.wnd_max / 2).min(mss);
        if size == 0 || (is_silly && !active.timer.overrides) {
            return None;
        }
        let mut cut = 0;
        if size == mss && large_max > mss {
            let segments = mss.saturating_mul(allowed - active.flight.count);
            let large = active.unsent.min(window).min(congestion.max(mss)).min(large_max).min(segments);
            let large = large / mss * mss;
            if large > mss {
                (size, cut) = (large, block.mss);
            }
        }
        let is_last = size == active.unsent;
        Some(Stretch { sequence, size, fin: is_last && owes_fin, push: is_last, cut })
    }

    fn note_sent(&mut self, cx: &mut Context<'_>, index: BlockIndex, stretch: &Stretch) {
        let block = &mut self.table[index];
        let active = &mut self.stores.actives[block.active];
        if block.flight() == 0 {
            (active.progress_ms, active.timer.rto_from_ms) = (cx.now.ms, cx.now.ms);
        }
        active.timer.overrides = false;
        let span = stretch.size + u32::from(stretch.fin);
        block.snd.nxt = block.snd.nxt.wrapping_add(span);
        block.sent_ms = cx.now.ms;
        active.unsent -= stretch.size;
        self.stores.pieces.advance_cursor(&mut active.queue, stretch.size);
        recovery::on_sent(active, span);
        cx.counters.bytes_sent += u64::from(stretch.size);
        let part = if stretch.cut > 0 { u32::from(stretch.cut) } else { stretch.size.max(1) };
        let mut offset = 0;
        while offset < stretch.size || (offset == 0 && stretch.fin) {
            let size = part.min(stretch.size - offset);
            let is_last = offset + size == stretch.size;
            let segment = SentSegment {
                sequence: stretch.sequence.wrapping_add(offset),
                sent_us: cx.now.us,
                size: size as u16,
                facts: SegmentFacts::fin(is_last && stretch.fin),
                next: Slot::NONE,
            };
            let stored = active.flight.push(&mut self.stores.segments, segment);
            debug_assert!(stored, "room was checked before");
            offset += size.max(1);
        }
        if stretch.fin {
            block.set(Facts::FIN_SENT);
            block.state = match block.state {
                State::CloseWait => State::LastAck,
                State::Established => State::FinWait1,
                other => other,
            };
        }
    }

    /// Copies pieces out of receive buffers when those are scarce: from the piece at `from` on, the
    /// small ones that were sent now and stay until they are acknowledged, and everything that
    /// begins to wait.
    fn move_out(&mut self, cx: &mut Context<'_>, index: BlockIndex, from: u32, sent: bool) {
        let block = &self.table[index];
        let begins_to_wait = self.stores.actives[block.active].unsent > 0 && !block.has(Facts::WAITED);
        if !(sent || begins_to_wait) || !cx.pools.receive_is_half_taken() {
            return;
        }
        let (pools, last) = (&mut *cx.pools, &mut self.turn.moved);
        let mut keeper = Keeper { pools, last, copy_break: self.config.connection.copy_break };
        let copies = match begins_to_wait {
            true => self.stores.pieces.move_out_waiting(from, &mut keeper),
            false => self.stores.pieces.move_out(from, SEGMENTS_PER_TURN, &mut keeper),
        };
        if copies > 0 {
            cx.counters.send_copies += copies;
            // The summed bytes have moved, and their place may be used again.
            self.turn.last_sum = None;
        }
    }

    /// Sets timers and reports after a transmission.
    fn after_sending(&mut self, cx: &mut Context<'_>, index: BlockIndex, retransmitted: bool, sent: bool) {
        let block = &mut self.table[index];
        let active = &mut self.stores.actives[block.active];
        let waits = active.unsent > 0 && !block.has(Lists::DIRTY);
        if waits && !block.test_and_set(Facts::WAITED) {
            cx.counters.send_waits += 1;
        }
        let done = active.unsent == 0 && block.has(Facts::WAITED);
        if done {
            block.clear(Facts::WAITED);
            if !block.has(Facts::ORPHAN.or(Facts::FIN_QUEUED)) && !block.test_and_set(Lists::SENT) {
                self.reports.notices.push_back(Notice::Sent(index));
            }
        }
        let has_flight = self.table[index].flight() > 0;
        let timer = self.stores.actives[self.table[index].active].timer.kind;
        if sent && timer != TimerKind::Reorder {
            if timer == TimerKind::Persist {
                self.progress(index, cx.now);
            }
            self.arm_probe_or_retransmission(index, cx.now);
        } else if has_flight && (timer == TimerKind::None || timer == TimerKind::Persist) {
            self.restart_retransmission(index, cx.now);
        } else if has_flight && retransmitted {
            self.arm_retransmission(index, cx.now);
        } else if !has_flight {
            self.arm_if_idle(index, cx);
        }
    }

    /// Sets the persist timer when bytes wait and nothing is in flight: only a probe shows when
    /// they may leave.
    fn arm_if_idle(&mut self, index: BlockIndex, cx: &Context<'_>) {
        let block = &self.table[index];
        let active = &self.stores.actives[block.active];
        let waits = active.unsent > 0 || (block.has(Facts::FIN_QUEUED) && !block.has(Facts::FIN_SENT));
        if waits && active.timer.kind == TimerKind::None {
            let wait = match block.snd.wnd {
                0 => rtt::rto_ms(block),
                // RFC 9293, 3.8.6.2.1: the override timeout.
                _ => rtt::rto_ms(block).clamp(OVERRIDE_MS.0, OVERRIDE_MS.1),
            };
            self.arm(index, TimerKind::Persist, wait, cx.now);
            if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
                active.progress_ms = cx.now.ms;
            }
        }
    }

    // --- frames ---

    /// Writes the frame of a range and gives it to the device. `again` is the queue and the offset
    /// of a retransmission.
    fn transmit<D: Device>(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line<'_, D>,
        index: BlockIndex,
        mac: Mac,
        stretch: &Stretch,
        again: Option<(crate::tcp::tables::send_queue::Queue, u32)>,
    ) -> Result<(), DeviceFull> {
        let window = self.announce(index);
        let block = &self.table[index];
        let room = u32::from(block.mss).saturating_sub(stretch.size) as usize;
        let sack_room = if stretch.cut > 0 { 0 } else { tcp::sack_blocks_in(room) };
        let mut flags = Flags::ACK;
        flags = if stretch.push { flags.with(Flags::PSH) } else { flags };
        flags = if stretch.fin { flags.with(Flags::FIN) } else { flags };
        let header = tcp::Tcp {
            source_port: block.local_port,
            destination_port: block.remote_port,
            sequence: stretch.sequence,
            acknowledgement: block.rcv.nxt,
            flags,
            window,
            header_size: 0,
            options: self.options(block, cx.now.ms, None, sack_room),
        };
        let tuple = block.tuple(cx.net.local(block.local_index));
        let payload = match again {
            Some((queue, offset)) => self.stores.pieces.sent(&queue, offset, stretch.size),
            None => self.stores.pieces.unsent(&self.stores.actives[block.active].queue, stretch.size),
        };
        let offloads = line.device.capabilities().transmit_checksums;
        let payload_sum = (!offloads).then(|| sum_of(payload, &mut self.turn.last_sum));
        let mut out = [0; HEADER_SIZE_MAX];
        let frame =
            TcpFrame { mac, tuple, header: &header, payload_size: stretch.size as usize, payload_sum };
        let headers = cx.net.write_tcp(&mut out, &frame);
        let offload = Offload {
            checksum: offloads,
            segment_size: stretch.cut,
            ip_size: headers.ip_size,
            tcp_size: headers.tcp_size,
        };
        line.device.transmit(line.now, &Frame { header: &out[..headers.size], payload, offload })?;
        cx.counters.frames_sent += 1;
        cx.counters.tcp_segments_sent += 1;
        self.table[index].clear(Todos::ACK_NOW.or(Todos::ACK_LATER));
        Ok(())
    }
}

/// The folded sum of a payload. `last` keeps the sum of one piece by its place in memory. That is
/// valid for a turn: frozen bytes do not change, and nothing is freed while frames are made.
fn sum_of(payload: Payload<'_>, last: &mut Option<(usize, usize, u16)>) -> u16 {
    let (mut sum, mut size) = (Sum::ZERO, 0);
    for (buffer, range) in payload {
        let bytes = &buffer[range];
        let place = (bytes.as_ptr() as usize, bytes.len());
        let folded = match *last {
            Some((start, length, folded)) if (start, length) == place => folded,
            _ => {
                let folded = checksum::of_bytes(bytes);
                *last = Some((place.0, place.1, folded));
                folded
            }
        };
        sum = sum.part(folded, size % 2 == 1);
        size += bytes.len();
    }
    sum.fold()
}
