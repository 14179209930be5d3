//! Passive opens: from a SYN to a control block, and segments that belong to nobody or to TIME-WAIT.
//!
//! No control block exists before the handshake is over (RFC 4987, 3.3). A peer whose handshake is over while the owner
//! does not accept, or has no room, waits in the SYN cache with a shut window.

use crate::tcp::congestion::{cubic, rtt};
use crate::tcp::engine::{Context, Notice, Tcp};
use crate::tcp::input::cookies::Extras;
use crate::tcp::segment::Segment;
use crate::tcp::seq::before;
use crate::tcp::tables::control_block::{ControlBlock, State, flag};
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::index::{BlockIndex, TimeWaitIndex};
use crate::tcp::tables::syn_cache::{Due, HalfOpen, agreed};
use crate::tcp::tables::time_wait::TimeWait;
use crate::wire::ethernet;
use crate::wire::flow::Tuple;
use crate::wire::tcp::{self, Flags, Options};
use netpoll::{Buffer, Slot};

/// MSS of a peer that names none (RFC 9293, 3.7.1; IPv6: 1280 less 60).
const MSS_DEFAULT: [u16; 2] = [536, 1220];
/// No peer talks us into smaller segments: each costs a header and a turn.
const MSS_MIN: u16 = 88;

/// What a handshake has settled.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Opening {
    pub(in crate::tcp) tuple: Tuple,
    pub(in crate::tcp) local_index: u8,
    pub(in crate::tcp) listener: u8,
    pub(in crate::tcp) irs: u32,
    pub(in crate::tcp) iss: u32,
    pub(in crate::tcp) mss: u16,
    /// [`agreed`].
    pub(in crate::tcp) agreed: u8,
    /// The peer's window scale.
    pub(in crate::tcp) scale: u8,
    pub(in crate::tcp) ts_recent: u32,
    pub(in crate::tcp) ts_offset: u32,
    /// The peer's window, as on the wire.
    pub(in crate::tcp) window: u16,
    /// The window that we have announced, in bytes.
    pub(in crate::tcp) announced: u32,
    pub(in crate::tcp) retransmitted: bool,
}

impl Tcp {
    // --- segments that belong to nobody --------------------------------------------------------------------------

    /// RFC 9293, 3.10.7.1 and 3.10.7.2.
    pub(in crate::tcp) fn handle_stranger(&mut self, cx: &mut Context<'_>, segment: &Segment, frame: Buffer) {
        let flags = segment.header.flags;
        if flags.has(Flags::RST) {
            cx.counters.drop_no_connection += 1;
            return;
        }
        if flags.has(Flags::SYN) && !flags.has(Flags::ACK) {
            return self.handle_syn(cx, segment, None);
        }
        let is_listened_at = self.listener_of(&segment.tuple).is_some();
        if !flags.has(Flags::ACK) && is_listened_at {
            // RFC 9293, 3.10.7.2, fourth: "drop the segment, and return".
            cx.counters.drop_no_ack += 1;
            return;
        }
        let may_be_cookie = flags.has(Flags::ACK) && !flags.has(Flags::SYN);
        if may_be_cookie && let Some(index) = self.open_by_cookie(cx, segment) {
            return self.handle_connection(cx, index, segment, frame);
        }
        cx.counters.drop_no_connection += 1;
        // While cookies are out, a segment may have overtaken the one that carries the cookie back: no answer makes its
        // sender repeat both, a reset would end what has just begun.
        let may_follow = may_be_cookie && self.cookies.are_out(cx.now) && is_listened_at;
        if !may_follow {
            self.refuse(cx, segment);
        }
    }

    fn listener_of(&self, tuple: &Tuple) -> Option<u8> {
        let hears = |l: &crate::tcp::engine::Listener| {
            l.port == tuple.local_port && (l.ip == tuple.local || l.ip.is_any_of_family(tuple.local))
        };
        let position = self.listeners.iter().position(hears).filter(|_| self.listening)?;
        Some(position as u8)
    }

    /// A SYN for nobody we know; `iss` is our number where an earlier connection of the tuple decides it.
    fn handle_syn(&mut self, cx: &mut Context<'_>, segment: &Segment, iss: Option<u32>) {
        let Some(listener) = self.listener_of(&segment.tuple) else {
            cx.counters.drop_no_connection += 1;
            return self.refuse(cx, segment);
        };
        cx.counters.syns_received += 1;
        // A SYN with FIN is nobody's honest segment.
        if segment.header.flags.has(Flags::FIN) {
            cx.counters.drop_no_connection += 1;
            return;
        }
        if self.syn_cache.waiting() >= self.listeners[usize::from(listener)].backlog {
            cx.counters.drop_syn_backlog += 1;
            return;
        }
        let mut entry = self.half_open(cx, segment, listener);
        entry.iss = iss.unwrap_or(entry.iss);
        let network = self.keys.prefix(segment.tuple.remote);
        match self.syn_cache.insert(entry, network, cx.now) {
            Some(index) if self.flows.insert(segment.hash, Record::HalfOpen(index)) => {
                self.send_syn_ack(cx, index);
            }
            Some(index) => {
                self.syn_cache.remove(index, network);
                cx.counters.flow_table_full += 1;
            }
            None => {
                cx.counters.syn_cache_full += 1;
                self.send_cookie(cx, segment, entry);
            }
        }
    }

    /// What a SYN offers and we take.
    fn half_open(&self, cx: &Context<'_>, segment: &Segment, listener: u8) -> HalfOpen {
        let options = &segment.header.options;
        let tuple = &segment.tuple;
        let mut entry = HalfOpen::new(tuple, segment.local_index, listener, segment.mac);
        entry.irs = segment.header.sequence;
        entry.iss = self.keys.initial_sequence(tuple, cx.now.us);
        entry.mss = options.mss.unwrap_or(MSS_DEFAULT[usize::from(!tuple.remote.is_v4())]);
        entry.window = segment.header.window;
        if let Some((value, _)) = options.timestamp.filter(|_| self.config.timestamps) {
            entry.agreed |= agreed::TIMESTAMPS;
            entry.ts_recent = value;
        }
        if options.sack_permitted && self.config.sack {
            entry.agreed |= agreed::SACK;
        }
        if let Some(scale) = options.window_scale {
            entry.agreed |= agreed::SCALE;
            entry.scale = scale.min(14); // RFC 7323, 2.3
        }
        entry
    }

    // --- the SYN cache -------------------------------------------------------------------------------------------

    fn send_syn_ack(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>) {
        let entry = *self.syn_cache.get(index);
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        let value = cx.now.ms.wrapping_add(self.keys.timestamp_offset(&tuple));
        self.answer_syn(cx, &entry, tuple, entry.iss, value);
    }

    fn send_cookie(&mut self, cx: &mut Context<'_>, segment: &Segment, entry: HalfOpen) {
        let iss = self.cookies.make(&self.keys, &segment.tuple, entry.irs, entry.mss, cx.now);
        let clock = cx.now.ms.wrapping_add(self.keys.timestamp_offset(&segment.tuple));
        let mut entry = entry;
        let mut value = clock;
        if entry.agreed & agreed::TIMESTAMPS != 0 {
            let scale = (entry.agreed & agreed::SCALE != 0).then_some(entry.scale);
            value = Extras { sack: entry.agreed & agreed::SACK != 0, scale }.stamp(clock);
        } else {
            entry.agreed = 0; // nothing would bring it back
        }
        cx.counters.cookies_sent += 1;
        self.answer_syn(cx, &entry, segment.tuple, iss, value);
    }

    fn answer_syn(&mut self, cx: &mut Context<'_>, entry: &HalfOpen, tuple: Tuple, iss: u32, value: u32) {
        let has = |what: u8| entry.agreed & what != 0;
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: iss,
            acknowledgement: entry.irs.wrapping_add(1),
            flags: Flags::SYN.with(Flags::ACK),
            window: self.initial_window(entry.listener),
            header_size: 0,
            options: Options {
                mss: Some(self.own_mss(cx, &tuple)),
                window_scale: has(agreed::SCALE).then(|| self.config.window_scale()),
                sack_permitted: has(agreed::SACK),
                timestamp: has(agreed::TIMESTAMPS).then_some((value, entry.ts_recent)),
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
        (cx.net.mtu - if tuple.local.is_v4() { 40 } else { 60 }).min(self.config.mss_max.max(MSS_MIN))
    }

    /// A segment for a half-open connection (RFC 9293, 3.10.7.4, SYN-RECEIVED).
    pub(in crate::tcp) fn handle_half_open(
        &mut self,
        cx: &mut Context<'_>,
        index: Slot<HalfOpen>,
        segment: &Segment,
        frame: Buffer,
    ) {
        let entry = *self.syn_cache.get(index);
        let header = &segment.header;
        let expected = entry.irs.wrapping_add(1);
        if header.flags.has(Flags::RST) {
            // RFC 5961, 3.2: only the exact number resets.
            if header.sequence == expected {
                cx.counters.resets_received += 1;
                self.forget_half_open(cx, index);
            } else {
                cx.counters.drop_out_of_window += 1;
            }
            return;
        }
        if header.flags.has(Flags::SYN) {
            if header.sequence == entry.irs && !header.flags.has(Flags::ACK) && !entry.is_waiting() {
                let entry = self.syn_cache.get_mut(index);
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
        let stamped = entry.agreed & agreed::TIMESTAMPS != 0;
        if stamped && header.options.timestamp.is_some_and(|(value, _)| before(value, entry.ts_recent)) {
            cx.counters.drop_paws += 1;
            return;
        }
        let window = u32::from(self.initial_window(entry.listener));
        if header.sequence.wrapping_sub(expected) > window {
            cx.counters.drop_out_of_window += 1;
            return self.acknowledge_half_open(cx, index);
        }
        if header.acknowledgement != entry.iss.wrapping_add(1) {
            cx.counters.drop_bad_ack += 1;
            return self.refuse(cx, segment);
        }
        if !self.listening {
            self.refuse(cx, segment);
            return self.forget_half_open(cx, index);
        }
        self.syn_cache.get_mut(index).window = header.window;
        if !self.may_accept() {
            cx.counters.table_full += u64::from(!entry.is_waiting());
            self.syn_cache.let_wait(index);
            if segment.span() > 0 {
                self.acknowledge_half_open(cx, index);
            }
            return;
        }
        if let Some(connection) = self.accept(cx, index, window) {
            self.handle_connection(cx, connection, segment, frame);
        }
    }

    /// Says where we stand: with the window that the SYN-ACK announced (RFC 9293, SHLD-14), or with a shut one for a peer that
    /// waits. That one's window is taken back, so that it asks again by probes and gets on as soon as it is let in; otherwise its
    /// data would be dropped until its timers gave up.
    fn acknowledge_half_open(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>) {
        if !self.rates.duplicate.take(cx.now) {
            cx.counters.duplicate_acks_limited += 1;
            return;
        }
        let entry = *self.syn_cache.get(index);
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        let offset = self.keys.timestamp_offset(&tuple);
        let stamped = entry.agreed & agreed::TIMESTAMPS != 0;
        let scale = if entry.agreed & agreed::SCALE != 0 { self.config.window_scale() } else { 0 };
        let announced = self.initial_window(entry.listener).div_ceil(1 << scale);
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: entry.iss.wrapping_add(1),
            acknowledgement: entry.irs.wrapping_add(1),
            flags: Flags::ACK,
            window: if entry.is_waiting() { 0 } else { announced },
            header_size: 0,
            options: Options {
                timestamp: stamped.then(|| (cx.now.ms.wrapping_add(offset), entry.ts_recent)),
                ..Options::default()
            },
        };
        self.reply(cx, entry.mac, tuple, &header);
    }

    fn forget_half_open(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>) {
        let entry = *self.syn_cache.get(index);
        let hash = self.keys.flow(&entry.tuple(cx.net.local(entry.local_index)));
        self.flows.remove(hash, Record::HalfOpen(index));
        self.syn_cache.remove(index, self.keys.prefix(entry.remote));
    }

    /// Sends SYN-ACKs again, and gives up what has been tried often enough; `count_max` at most.
    pub(in crate::tcp) fn expire_half_open(&mut self, cx: &mut Context<'_>, count_max: usize) {
        for _ in 0..count_max {
            match self.syn_cache.expire(cx.now) {
                Some(Due::Retransmit(index)) => {
                    cx.counters.syn_ack_retransmits += 1;
                    self.send_syn_ack(cx, index);
                }
                Some(Due::GiveUp(index)) => {
                    cx.counters.syn_timeouts += 1;
                    self.forget_half_open(cx, index);
                }
                None => return,
            }
        }
    }

    // --- accepting -----------------------------------------------------------------------------------------------

    pub(in crate::tcp) fn may_accept(&self) -> bool {
        self.accepting && self.table.has_room()
    }

    /// Turns an entry whose handshake is over into a connection. `announced`: the window that its peer knows of.
    fn accept(&mut self, cx: &mut Context<'_>, index: Slot<HalfOpen>, announced: u32) -> Option<BlockIndex> {
        let connection = self.table.take_connection()?;
        let entry = self.syn_cache.remove(index, self.keys.prefix(self.syn_cache.get(index).remote));
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        self.flows.replace(self.keys.flow(&tuple), Record::HalfOpen(index), Record::Connection(connection));
        let opening = Opening {
            tuple,
            local_index: entry.local_index,
            listener: entry.listener,
            irs: entry.irs,
            iss: entry.iss,
            mss: entry.mss,
            agreed: entry.agreed,
            scale: entry.scale,
            ts_recent: entry.ts_recent,
            ts_offset: self.keys.timestamp_offset(&tuple),
            window: entry.window,
            announced,
            retransmitted: entry.retransmitted,
        };
        self.open(cx, connection, &opening);
        if !entry.retransmitted && !entry.is_waiting() {
            // The SYN-ACK left a second before its first retransmission is due.
            let sent_ms = entry.due_ms.wrapping_sub(1000);
            rtt::sample(&mut self.table[connection], cx.now.since(sent_ms).saturating_mul(1000));
        }
        Some(connection)
    }

    /// Lets in those that waited, as far as there is room; their windows open. Once nobody listens they are reset instead, as a
    /// kernel's backlog is with its listener.
    pub(crate) fn accept_waiting(&mut self, cx: &mut Context<'_>) {
        while !self.listening && self.reset_waiting(cx) {}
        while self.may_accept() {
            let Some(index) = self.syn_cache.first_waiting() else { return };
            let Some(connection) = self.accept(cx, index, 0) else { return };
            self.table[connection].set(flag::ACK_NOW);
            self.mark_dirty(connection);
        }
    }

    /// Resets the one that has waited longest; false when there is none, or no reset may leave now.
    fn reset_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(index) = self.syn_cache.first_waiting() else { return false };
        if !self.rates.reset.take(cx.now) {
            return false;
        }
        let entry = *self.syn_cache.get(index);
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: entry.iss.wrapping_add(1),
            acknowledgement: entry.irs.wrapping_add(1),
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
            header_size: 0,
            options: Options::default(),
        };
        cx.counters.resets_sent += 1;
        self.reply(cx, entry.mac, tuple, &header);
        self.forget_half_open(cx, index);
        true
    }

    fn open_by_cookie(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Option<BlockIndex> {
        let listener = self.listener_of(&segment.tuple)?;
        let header = &segment.header;
        let (irs, iss) = (header.sequence.wrapping_sub(1), header.acknowledgement.wrapping_sub(1));
        let Some(cookie) = self.cookies.check(&self.keys, &segment.tuple, irs, iss, cx.now) else {
            cx.counters.cookies_rejected += 1;
            return None;
        };
        if !self.may_accept() {
            cx.counters.table_full += 1;
            return None;
        }
        let connection = self.table.take_connection()?;
        if !self.flows.insert(segment.hash, Record::Connection(connection)) {
            cx.counters.flow_table_full += 1;
            self.table.free(connection);
            return None;
        }
        let ts_offset = self.keys.timestamp_offset(&segment.tuple);
        let mut agreed = 0;
        let mut extras = Extras { sack: false, scale: None };
        if let Some((_, echo)) = header.options.timestamp.filter(|_| self.config.timestamps) {
            extras = Extras::read(echo);
            agreed |= agreed::TIMESTAMPS;
            agreed |= if extras.sack && self.config.sack { agreed::SACK } else { 0 };
            agreed |= if extras.scale.is_some() { agreed::SCALE } else { 0 };
        }
        let opening = Opening {
            tuple: segment.tuple,
            local_index: segment.local_index,
            listener,
            irs,
            iss,
            mss: cookie.mss,
            agreed,
            scale: extras.scale.unwrap_or(0),
            ts_recent: header.options.timestamp.map_or(0, |(value, _)| value),
            ts_offset,
            window: header.window,
            announced: u32::from(self.initial_window(listener)),
            retransmitted: false,
        };
        cx.counters.cookies_accepted += 1;
        self.open(cx, connection, &opening);
        Some(connection)
    }

    /// Fills in a control block in ESTABLISHED and tells the owner.
    fn open(&mut self, cx: &mut Context<'_>, index: BlockIndex, opening: &Opening) {
        let block = self.fresh_block(cx, opening);
        let generation = self.table[index].generation;
        self.table[index] = ControlBlock { generation, ..block };
        cx.counters.connections_accepted += 1;
        self.reports.notices.push_back(Notice::Accepted(index));
        self.schedule(index, cx.now);
    }

    /// The block of a connection whose handshake is over.
    pub(in crate::tcp) fn fresh_block(&self, cx: &Context<'_>, opening: &Opening) -> ControlBlock {
        let has = |what: u8| opening.agreed & what != 0;
        let own_scale = self.config.window_scale();
        let mut block = ControlBlock {
            state: State::Established,
            scales: if has(agreed::SCALE) { opening.scale | own_scale << 4 } else { 0 },
            local_port: opening.tuple.local_port,
            remote_port: opening.tuple.remote_port,
            remote: opening.tuple.remote,
            local_index: opening.local_index,
            listener: opening.listener,
            rcv_nxt: opening.irs.wrapping_add(1),
            rcv_wup: opening.irs.wrapping_add(1),
            rcv_wnd: opening.announced,
            snd_una: opening.iss.wrapping_add(1),
            snd_nxt: opening.iss.wrapping_add(1),
            snd_wl1: opening.irs,
            ts_recent: opening.ts_recent,
            ts_offset: opening.ts_offset,
            received_ms: cx.now.ms,
            sent_ms: cx.now.ms,
            ..ControlBlock::default()
        };
        block.flags = ControlBlock::unanswered(cx.now);
        block.snd_wnd = u32::from(opening.window) << block.send_scale();
        block.snd_wnd_max = block.snd_wnd.max(1);
        let flags = [
            (has(agreed::TIMESTAMPS), flag::TIMESTAMPS),
            (has(agreed::SACK), flag::SACK),
            (opening.retransmitted, flag::SYN_RETRANSMITTED),
        ];
        flags.iter().filter(|(is_set, _)| *is_set).for_each(|(_, flag)| block.set(*flag));
        block.mss = self.segment_size(cx, &opening.tuple, opening.mss, has(agreed::TIMESTAMPS));
        // RFC 5681, 3.1: a handshake that lost its SYN starts with one segment.
        block.cwnd = match opening.retransmitted {
            true => u32::from(block.mss),
            false => cubic::initial_window(block.mss),
        };
        block
    }

    /// Payload bytes of a full segment: what the peer takes and the link carries, less our options.
    pub(in crate::tcp) fn segment_size(
        &self,
        cx: &Context<'_>,
        tuple: &Tuple,
        theirs: u16,
        timestamps: bool,
    ) -> u16 {
        let whole = theirs.max(MSS_MIN).min(self.own_mss(cx, tuple));
        whole - if timestamps { 12 } else { 0 }
    }

    // --- TIME-WAIT -----------------------------------------------------------------------------------------------

    /// RFC 9293, 3.10.7.4 for TIME-WAIT, with RFC 1337's and RFC 6191's care.
    pub(in crate::tcp) fn handle_time_wait(
        &mut self,
        cx: &mut Context<'_>,
        index: TimeWaitIndex,
        segment: &Segment,
        _frame: Buffer,
    ) {
        let record = *self.time_wait.get(index);
        let header = &segment.header;
        let stamp = header.options.timestamp.map(|(value, _)| value);
        if header.flags.has(Flags::RST) {
            // RFC 1337: a reset must not shorten the wait.
            cx.counters.drop_no_connection += 1;
            return;
        }
        let is_syn = header.flags.has(Flags::SYN) && !header.flags.has(Flags::ACK);
        if is_syn && TimeWait::may_reopen(&record, header.sequence, stamp) {
            cx.counters.time_wait_reuses += 1;
            self.flows.remove(record.hash, Record::TimeWait(index));
            self.time_wait.forget(index);
            // RFC 9293, 3.6.1: beyond everything that the earlier connection has sent, as Linux chooses it.
            let iss = record.snd_nxt.wrapping_add(65_537);
            return self.handle_syn(cx, segment, Some(iss));
        }
        if !header.flags.has(Flags::ACK) && !is_syn {
            cx.counters.drop_no_ack += 1;
            return;
        }
        let is_old = record.has_timestamps && stamp.is_some_and(|value| before(value, record.ts_recent));
        if header.flags.has(Flags::FIN) && !is_old && segment.end() == record.rcv_nxt {
            self.time_wait.restart(&mut self.flows, index, cx.now);
        }
        if segment.span() == 0 && header.sequence == record.rcv_nxt {
            return; // the acknowledgement of our FIN once more
        }
        if !self.rates.duplicate.take(cx.now) {
            cx.counters.duplicate_acks_limited += 1;
            return;
        }
        let reply = tcp::Tcp {
            source_port: segment.tuple.local_port,
            destination_port: segment.tuple.remote_port,
            sequence: record.snd_nxt,
            acknowledgement: record.rcv_nxt,
            flags: Flags::ACK,
            window: 0,
            header_size: 0,
            options: Options {
                timestamp: record
                    .has_timestamps
                    .then(|| (cx.now.ms.wrapping_add(record.ts_offset), record.ts_recent)),
                ..Options::default()
            },
        };
        self.reply(cx, segment.mac, segment.tuple, &reply);
    }
}

const _: () = assert!(ethernet::HEADER_SIZE + 40 + 20 + 20 <= 128, "a SYN-ACK fits a control frame");
