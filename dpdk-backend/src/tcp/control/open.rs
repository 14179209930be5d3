//! Passive opens: from a completed handshake to a control block.

use crate::tcp::congestion::{cubic, rtt};
use crate::tcp::engine::{Context, Notice, Tcp};
use crate::tcp::input::cookies::Extras;
use crate::tcp::input::half_open::MSS_MIN;
use crate::tcp::segment::Segment;
use crate::tcp::tables::control_block::{ControlBlock, Receiving, Sending, Stamps, State};
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Marks, Todos};
use crate::tcp::tables::syn_cache::{Agreed, HalfOpen, Handshake};
use crate::wire::flow::Tuple;
use crate::wire::tcp::{self, Flags, Options};
use netpoll::Slot;

/// The values that a connection is opened with.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Opening {
    pub(in crate::tcp) tuple: Tuple,
    pub(in crate::tcp) local_index: u8,
    pub(in crate::tcp) listener: u8,
    pub(in crate::tcp) handshake: Handshake,
    pub(in crate::tcp) ts_offset: u32,
    /// The window that we have announced, in bytes.
    pub(in crate::tcp) announced: u32,
    /// Whether a SYN or SYN-ACK was sent more than once.
    pub(in crate::tcp) retransmitted: bool,
}

impl Tcp {
    pub(in crate::tcp) fn may_accept(&self) -> bool {
        self.ports.accepting && self.table.has_room()
    }

    /// Turns an entry with a completed handshake into a connection. `announced` is the window that
    /// the peer knows of.
    pub(in crate::tcp) fn accept(
        &mut self,
        cx: &mut Context<'_>,
        index: Slot<HalfOpen>,
        announced: u32,
    ) -> Option<BlockIndex> {
        let connection = self.table.take_connection()?;
        let entry =
            self.peers.syn_cache.remove(index, self.keys.prefix(self.peers.syn_cache.get(index).remote));
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        self.flows.replace(self.keys.flow(&tuple), Record::HalfOpen(index), Record::Connection(connection));
        let opening = Opening {
            tuple,
            local_index: entry.local_index,
            listener: entry.listener,
            handshake: entry.handshake,
            ts_offset: self.keys.timestamp_offset(&tuple),
            announced,
            retransmitted: entry.retransmitted,
        };
        self.open(cx, connection, &opening);
        if !entry.retransmitted && !entry.is_waiting() {
            // The SYN-ACK was sent a second before its first retransmission is due.
            let sent_ms = entry.due_ms.wrapping_sub(1000);
            rtt::sample(&mut self.table[connection], cx.now.since(sent_ms).saturating_mul(1000));
        }
        Some(connection)
    }

    /// Accepts waiting peers while there is room, and opens their windows. After the listeners are
    /// closed they are reset instead, like a kernel's backlog.
    pub(crate) fn accept_waiting(&mut self, cx: &mut Context<'_>) {
        while !self.ports.listening && self.reset_waiting(cx) {}
        while self.may_accept() {
            let Some(index) = self.peers.syn_cache.first_waiting() else { return };
            let Some(connection) = self.accept(cx, index, 0) else { return };
            self.table[connection].set(Todos::ACK_NOW);
            self.mark_dirty(connection);
        }
    }

    /// Resets the peer that has waited longest. Returns false when there is none, or when the rate
    /// limit forbids a reset now.
    pub(in crate::tcp) fn reset_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(index) = self.peers.syn_cache.first_waiting() else { return false };
        if !self.rates.reset.take(cx.now) {
            return false;
        }
        let entry = *self.peers.syn_cache.get(index);
        let tuple = entry.tuple(cx.net.local(entry.local_index));
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: entry.handshake.iss.wrapping_add(1),
            acknowledgement: entry.handshake.irs.wrapping_add(1),
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
            header_size: 0,
            options: Options::default(),
        };
        cx.counters.resets_sent += 1;
        self.reply(cx, entry.mac, tuple, &header);
        self.drop_half_open(cx, index);
        true
    }

    pub(in crate::tcp) fn open_by_cookie(
        &mut self,
        cx: &mut Context<'_>,
        segment: &Segment,
    ) -> Option<BlockIndex> {
        let listener = self.listener_of(&segment.tuple)?;
        let header = &segment.header;
        let (irs, iss) = (header.sequence.wrapping_sub(1), header.acknowledgement.wrapping_sub(1));
        let Some(cookie) = self.peers.cookies.check(&self.keys, &segment.tuple, irs, iss, cx.now) else {
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
        let timestamp = header.options.timestamp.filter(|_| self.config.timestamps);
        let extras = timestamp.map_or(Extras::default(), |(_, echo)| Extras::read(echo));
        let handshake = Handshake {
            irs,
            iss,
            ts_recent: header.options.timestamp.map_or(0, |(value, _)| value),
            mss: cookie.mss,
            window: header.window,
            scale: extras.scale.unwrap_or(0),
            agreed: Agreed::on([
                (Agreed::TIMESTAMPS, timestamp.is_some()),
                (Agreed::SACK, extras.sack && self.config.sack),
                (Agreed::SCALE, extras.scale.is_some()),
            ]),
        };
        let opening = Opening {
            tuple: segment.tuple,
            local_index: segment.local_index,
            listener,
            handshake,
            ts_offset,
            announced: u32::from(self.initial_window(listener)),
            retransmitted: false,
        };
        cx.counters.cookies_accepted += 1;
        self.open(cx, connection, &opening);
        Some(connection)
    }

    /// Sets a control block to ESTABLISHED and reports the connection.
    pub(in crate::tcp) fn open(&mut self, cx: &mut Context<'_>, index: BlockIndex, opening: &Opening) {
        let block = self.fresh_block(cx, opening);
        let generation = self.table[index].generation;
        self.table[index] = ControlBlock { generation, ..block };
        cx.counters.connections_accepted += 1;
        self.reports.notices.push_back(Notice::Accepted(index));
        self.schedule(index, cx.now);
    }

    /// The block of a connection with a completed handshake.
    pub(in crate::tcp) fn fresh_block(&self, cx: &Context<'_>, opening: &Opening) -> ControlBlock {
        let Handshake { irs, iss, ts_recent, mss, window, scale, agreed } = opening.handshake;
        let own_scale = self.config.window_scale();
        let mut block = ControlBlock {
            state: State::Established,
            scales: if agreed.has(Agreed::SCALE) { scale | own_scale << 4 } else { 0 },
            local_port: opening.tuple.local_port,
            remote_port: opening.tuple.remote_port,
            remote: opening.tuple.remote,
            local_index: opening.local_index,
            listener: opening.listener,
            rcv: Receiving { nxt: irs.wrapping_add(1), wup: irs.wrapping_add(1), wnd: opening.announced },
            snd: Sending {
                una: iss.wrapping_add(1),
                nxt: iss.wrapping_add(1),
                wl1: irs,
                ..Sending::default()
            },
            stamps: Stamps { recent: ts_recent, offset: opening.ts_offset },
            received_ms: cx.now.ms,
            sent_ms: cx.now.ms,
            marks: Marks::unanswered(cx.now),
            ..ControlBlock::default()
        };
        block.snd.wnd = u32::from(window) << block.send_scale();
        block.snd.wnd_max = block.snd.wnd.max(1);
        let has_timestamps = agreed.has(Agreed::TIMESTAMPS);
        let facts = [
            (has_timestamps, Facts::TIMESTAMPS),
            (agreed.has(Agreed::SACK), Facts::SACK),
            (opening.retransmitted, Facts::SYN_RETRANSMITTED),
        ];
        facts.iter().filter(|(is_so, _)| *is_so).for_each(|(_, fact)| block.set(*fact));
        block.mss = self.segment_size(cx, &opening.tuple, mss, has_timestamps);
        // RFC 5681, 3.1: a handshake that lost its SYN starts with one segment.
        block.cwnd = match opening.retransmitted {
            true => u32::from(block.mss),
            false => cubic::initial_window(block.mss),
        };
        block
    }

    /// Payload bytes of a full segment: what the peer accepts and the link carries, without our
    /// options.
    pub(in crate::tcp) fn segment_size(
        &self,
        cx: &Context<'_>,
        tuple: &Tuple,
        theirs: u16,
        timestamps: bool,
    ) -> u16 {
        let whole = theirs.max(MSS_MIN).min(self.own_mss(cx, tuple));
        whole - if timestamps { tcp::TIMESTAMP_SIZE } else { 0 }
    }
}
