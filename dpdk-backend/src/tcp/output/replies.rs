//! Segments without payload: acknowledgements, probes, resets, SYN-ACKs. They leave as control
//! frames.

use crate::iface::TcpFrame;
use crate::tcp::engine::{Context, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::{ahead, before};
use crate::tcp::tables::control_block::ControlBlock;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Todos};
use crate::wire::Mac;
use crate::wire::flow::Tuple;
use crate::wire::tcp::{self, Flags, Options, SACK_BLOCKS_MAX};

/// Full segments that a connection with discarded payload may announce as its window, divided by 4.
const DISCARD_SEGMENTS: u32 = 32;

/// Whether a window of `target` is enough above the announced one to be announced (RFC 9293,
/// 3.8.6.2.2): by a segment, or by half of a small window.
pub(in crate::tcp) fn is_worth_opening(block: &ControlBlock, target: u32) -> bool {
    let step = u32::from(block.mss).min(target / 2).max(1);
    target >= block.window_left().saturating_add(step)
}

/// Whether a window is too small to stay as it is.
pub(in crate::tcp) fn is_small(window: u32, block: &ControlBlock, window_max: u32) -> bool {
    window < u32::from(block.mss).min(window_max / 2)
}

impl Tcp {
    /// Sends a bare acknowledgement now. A range that was received twice is reported first (RFC
    /// 2883).
    pub(in crate::tcp) fn send_ack(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        twice: Option<(u32, u32)>,
    ) {
        let sequence = self.table[index].snd.nxt;
        self.send_empty(cx, index, sequence, twice);
    }

    /// Sends an empty segment just below the window, which the peer has to answer (keepalive, RFC
    /// 9293, 3.8.4; window probe as in Linux).
    pub(in crate::tcp) fn send_probe(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let sequence = self.table[index].snd.una.wrapping_sub(1);
        self.send_empty(cx, index, sequence, None);
    }

    fn send_empty(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        sequence: u32,
        twice: Option<(u32, u32)>,
    ) {
        let Some(mac) = self.resolve(cx, index) else { return };
        let window = self.announce(index);
        let block = &self.table[index];
        let header = tcp::Tcp {
            source_port: block.local_port,
            destination_port: block.remote_port,
            sequence,
            acknowledgement: block.rcv.nxt,
            flags: Flags::ACK,
            window,
            header_size: 0,
            options: self.options(block, cx.now.ms, twice, SACK_BLOCKS_MAX),
        };
        let tuple = block.tuple(cx.net.local(block.local_index));
        if self.reply(cx, mac, tuple, &header) {
            self.table[index].clear(Todos::ACK_NOW.or(Todos::ACK_LATER));
        }
    }

    /// Options of a segment of an open connection.
    pub(in crate::tcp) fn options(
        &self,
        block: &ControlBlock,
        clock_ms: u32,
        twice: Option<(u32, u32)>,
        sack_room: usize,
    ) -> Options {
        let timestamp = block
            .has(Facts::TIMESTAMPS)
            .then(|| (clock_ms.wrapping_add(block.stamps.offset), block.stamps.recent));
        let mut options = Options { timestamp, ..Options::default() };
        if !block.has(Facts::SACK) || sack_room == 0 {
            return options;
        }
        let used = if timestamp.is_some() { usize::from(tcp::TIMESTAMP_SIZE) } else { 0 };
        let room = sack_room.min(tcp::sack_blocks_in(tcp::OPTIONS_SIZE_MAX - used));
        let (blocks, count) = match self.stores.actives.get(block.active) {
            Some(active) => active.gap.kept.blocks(&self.stores.kept, room),
            None => ([(0, 0); SACK_BLOCKS_MAX], 0),
        };
        options.sack = blocks;
        options.sack_count = count as u8;
        if let Some(twice) = twice {
            options.sack.copy_within(0..SACK_BLOCKS_MAX - 1, 1);
            options.sack[0] = twice;
            options.sack_count = (count + 1).min(room) as u8;
        }
        options
    }

    /// The hardware address of a block's peer. A block with an unresolved neighbor is listed until
    /// it is resolved.
    pub(in crate::tcp) fn resolve(&mut self, cx: &mut Context<'_>, index: BlockIndex) -> Option<Mac> {
        let block = &mut self.table[index];
        let (local, remote) = (block.local_index, block.remote);
        let found = cx.net.resolve(cx.counters, cx.now, local, remote, &mut block.neighbor);
        if found.is_none() {
            block.set(Todos::ACK_NOW);
            cx.counters.neighbour_waits += 1;
            self.turn.unresolved.push(&mut self.table, index);
        }
        found
    }

    /// The window field of a segment that leaves now: what the budget allows, never less than was
    /// announced before, and no silly window (RFC 9293, 3.8.6.2.2). Notes it as announced.
    pub(in crate::tcp) fn announce(&mut self, index: BlockIndex) -> u16 {
        let target = self.window_target(index);
        let block = &mut self.table[index];
        let scale = block.receive_scale();
        let left = block.window_left();
        let window = if is_worth_opening(block, target) { target >> scale << scale } else { left };
        let field = window.div_ceil(1 << scale).min(0xffff);
        let is_small = is_small(field << scale, block, self.config.connection.window_max);
        block.rcv.wup = block.rcv.nxt;
        block.rcv.wnd = field << scale;
        if is_small && block.state.receives() && !self.is_shut(index) {
            self.turn.starved.push(&mut self.table, index);
        }
        field as u16
    }

    /// The window that the budget of buffers allows one connection: a quarter of the free buffers,
    /// at least a segment. Discarded payload takes no buffer: the peer may continue to send even
    /// when the owner holds all buffers.
    pub(in crate::tcp) fn window_target(&self, index: BlockIndex) -> u32 {
        if self.is_shut(index) {
            return 0;
        }
        let block = &self.table[index];
        let free = match self.buffers.budget {
            0 if block.has(Facts::DISCARD) => DISCARD_SEGMENTS,
            free => free,
        };
        let room = u64::from(free) * u64::from(self.buffers.payload_size);
        let least = if free == 0 { 0 } else { u64::from(self.buffers.payload_size) };
        let share = (room / 4).max(least) as u32;
        share.min(self.limits(block.listener).window_max)
    }

    /// RFC 5961: sends a challenge. The segment may be guessed; a real peer reacts to the
    /// challenge. The limit is per connection (CVE-2016-5696).
    pub(in crate::tcp) fn challenge(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        if !self.table[index].may_answer(cx.now) {
            cx.counters.challenge_acks_limited += 1;
            return;
        }
        cx.counters.challenge_acks += 1;
        self.send_ack(cx, index, None);
    }

    /// Acknowledges an old segment again. If it carried data, the data is reported as received
    /// twice. Segments without data have a limit per connection, so that two hosts do not answer
    /// each other forever.
    pub(in crate::tcp) fn acknowledge_again(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
    ) {
        let may = segment.payload_size > 0 || self.table[index].may_answer(cx.now);
        if !may || !self.rates.duplicate.take(cx.now) {
            cx.counters.duplicate_acks_limited += 1;
            return;
        }
        let block = &self.table[index];
        let start = segment.header.sequence;
        let end = start.wrapping_add(segment.payload_size);
        let old = ahead(start, block.rcv.nxt).min(segment.payload_size);
        let twice = (old > 0 && before(start, end)).then(|| (start, start.wrapping_add(old)));
        self.send_ack(cx, index, twice);
    }

    /// Resets a connection: the peer gets <SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>.
    pub(in crate::tcp) fn send_reset(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let block = &mut self.table[index];
        let (local, remote) = (block.local_index, block.remote);
        let mac = cx.net.resolve(cx.counters, cx.now, local, remote, &mut block.neighbor);
        let Some(mac) = mac else { return };
        let block = &self.table[index];
        let header = tcp::Tcp {
            source_port: block.local_port,
            destination_port: block.remote_port,
            sequence: block.snd.nxt,
            acknowledgement: block.rcv.nxt,
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
            header_size: 0,
            options: self.options(block, cx.now.ms, None, 0),
        };
        let tuple = block.tuple(cx.net.local(block.local_index));
        cx.counters.resets_sent += 1;
        self.reply(cx, mac, tuple, &header);
    }

    /// RFC 9293, 3.10.7.1: answers a segment without a connection.
    pub(in crate::tcp) fn refuse(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        let header = &segment.header;
        if header.flags.has(Flags::RST) {
            return;
        }
        if !self.rates.reset.take(cx.now) {
            cx.counters.resets_limited += 1;
            return;
        }
        let reset = if header.flags.has(Flags::ACK) {
            (header.acknowledgement, 0, Flags::RST)
        } else {
            (0, segment.end(), Flags::RST.with(Flags::ACK))
        };
        let reply = tcp::Tcp {
            source_port: header.destination_port,
            destination_port: header.source_port,
            sequence: reset.0,
            acknowledgement: reset.1,
            flags: reset.2,
            window: 0,
            header_size: 0,
            options: Options::default(),
        };
        cx.counters.resets_sent += 1;
        self.reply(cx, segment.mac, segment.tuple, &reply);
    }

    /// Queues an empty segment. Returns false when there is no room.
    pub(in crate::tcp) fn reply(
        &mut self,
        cx: &mut Context<'_>,
        mac: Mac,
        tuple: Tuple,
        header: &tcp::Tcp,
    ) -> bool {
        cx.counters.tcp_segments_sent += 1;
        cx.net.reply(cx.counters, |net, out| {
            let frame = TcpFrame { mac, tuple, header, payload_size: 0, payload_sum: Some(0) };
            net.write_tcp(out, &frame).size
        })
    }
}
