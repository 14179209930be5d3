//! Active opens (RFC 9293, 3.10.1 and 3.10.7.3), simultaneous ones among them.

use crate::tcp::congestion::rtt;
use crate::tcp::control::open::Opening;
use crate::tcp::control::owner::ConnectFailure;
use crate::tcp::engine::{Context, NO_LISTENER, Notice, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::{at_or_before, before};
use crate::tcp::tables::control_block::{ControlBlock, Sending, State};
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::syn_cache::{Agreed, Handshake};
use crate::wire::Ip;
use crate::wire::flow::Tuple;
use crate::wire::ip;
use crate::wire::tcp::{self, Flags, Options, WINDOW_SCALE_MAX};
use netpoll::CloseReason;

impl Tcp {
    /// Begins to connect; the SYN leaves at the next poll.
    pub(crate) fn connect(
        &mut self,
        cx: &mut Context<'_>,
        local: Option<(Ip, u16)>,
        remote: (Ip, u16),
    ) -> Result<BlockIndex, ConnectFailure> {
        if !self.table.has_room() {
            return Err(ConnectFailure::TableFull);
        }
        let local_index = match local {
            Some((ip, _)) if !ip.is_any_of_family(remote.0) => cx.net.local_index(ip),
            _ => cx.net.source_for(remote.0),
        };
        let local_index = local_index.ok_or(ConnectFailure::NoAddress)?;
        let own = cx.net.local(local_index);
        if own.is_v4() != remote.0.is_v4() || cx.net.is_martian(remote.0) || remote.1 == 0 {
            return Err(ConnectFailure::NoAddress);
        }
        let tuple =
            |local_port: u16| Tuple { remote: remote.0, local: own, remote_port: remote.1, local_port };
        let tuple = match local {
            Some((_, port)) if port != 0 => Some(tuple(port)).filter(|tuple| !self.is_in_use(cx, tuple)),
            _ => self.choose_port(cx, tuple),
        };
        let tuple = tuple.ok_or(ConnectFailure::NoPort)?;
        let index = self.table.take_connection().ok_or(ConnectFailure::TableFull)?;
        let generation = self.table[index].generation;
        let block = self.connecting_block(cx, &tuple, local_index);
        self.table[index] = ControlBlock { generation, ..block };
        if self.make_active(index, cx.now).is_none() {
            self.table.free(index);
            return Err(ConnectFailure::TableFull);
        }
        if !self.flows.insert(self.keys.flow(&tuple), Record::Connection(index)) {
            cx.counters.flow_table_full += 1;
            self.release_active(index);
            self.table.free(index);
            return Err(ConnectFailure::TableFull);
        }
        self.mark_dirty(index);
        Ok(index)
    }

    fn connecting_block(&self, cx: &Context<'_>, tuple: &Tuple, local_index: u8) -> ControlBlock {
        let iss = self.keys.initial_sequence(tuple, cx.now.us);
        let opening = Opening {
            tuple: *tuple,
            local_index,
            listener: NO_LISTENER,
            handshake: Handshake { iss, mss: u16::MAX, ..Handshake::default() },
            ts_offset: self.keys.timestamp_offset(tuple),
            announced: u32::from(self.initial_window(NO_LISTENER)),
            retransmitted: false,
        };
        let mut block = self.fresh_block(cx, &opening);
        block.state = State::SynSent;
        block.snd.una = iss;
        block.snd.nxt = iss.wrapping_add(1);
        (block.rcv.nxt, block.rcv.wup) = (0, 0);
        block.set(Todos::ACK_NOW); // here: the SYN is to be sent
        block
    }

    fn is_in_use(&self, cx: &Context<'_>, tuple: &Tuple) -> bool {
        self.find(self.keys.flow(tuple), tuple, cx.net).is_some()
    }

    /// RFC 6056, algorithm 4: a keyed offset for each destination, and a count for each group of
    /// them.
    fn choose_port(&mut self, cx: &Context<'_>, tuple: impl Fn(u16) -> Tuple) -> Option<Tuple> {
        let example = tuple(0);
        let (offset, group) = self.keys.port_offset(example.remote, example.remote_port);
        let count = group as usize % crate::tcp::engine::PORT_COUNTS;
        let ports = self.config.ephemeral_ports;
        for _ in 0..ports.count {
            self.ports.next[count] = self.ports.next[count].wrapping_add(1);
            let candidate = tuple(ports.at(offset.wrapping_add(self.ports.next[count])));
            if !self.is_in_use(cx, &candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// Sends the SYN, or the SYN-ACK of a simultaneous open.
    pub(in crate::tcp) fn send_syn(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        // The timer also runs while the neighbor is being resolved.
        if self.make_active(index, cx.now).is_none() {
            return self.mark_dirty(index);
        }
        self.restart_retransmission(index, cx.now);
        let Some(mac) = self.resolve(cx, index) else { return };
        let block = &self.table[index];
        let tuple = block.tuple(cx.net.local(block.local_index));
        let answers = block.state == State::SynReceived;
        let stamp =
            (cx.now.ms.wrapping_add(block.stamps.offset), if answers { block.stamps.recent } else { 0 });
        // A simultaneous open answers with the options of the peer's SYN.
        let offers = |fact: Facts, ours: bool| if answers { block.has(fact) } else { ours };
        let scaled = !answers || block.scales != 0;
        let header = tcp::Tcp {
            source_port: tuple.local_port,
            destination_port: tuple.remote_port,
            sequence: block.snd.una,
            acknowledgement: if answers { block.rcv.nxt } else { 0 },
            flags: if answers { Flags::SYN.with(Flags::ACK) } else { Flags::SYN },
            window: self.initial_window(NO_LISTENER),
            header_size: 0,
            options: Options {
                mss: Some(self.own_mss(cx, &tuple)),
                window_scale: scaled.then(|| self.config.window_scale()),
                sack_permitted: offers(Facts::SACK, self.config.sack),
                timestamp: offers(Facts::TIMESTAMPS, self.config.timestamps).then_some(stamp),
                ..Options::default()
            },
        };
        if self.reply(cx, mac, tuple, &header) {
            let block = &mut self.table[index];
            block.clear(Todos::ACK_NOW);
            block.sent_ms = cx.now.ms;
        }
    }

    /// RFC 9293, 3.10.7.3.
    pub(in crate::tcp) fn handle_syn_sent(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
    ) {
        let header = &segment.header;
        let block = &self.table[index];
        let acknowledges = header.flags.has(Flags::ACK);
        // First: SND.UNA < SEG.ACK =< SND.NXT, else a reset.
        let acceptable = before(block.snd.una, header.acknowledgement)
            && at_or_before(header.acknowledgement, block.snd.nxt);
        if acknowledges && !acceptable {
            cx.counters.drop_bad_ack += 1;
            return self.refuse(cx, segment);
        }
        // Second: a reset counts only with an acceptable acknowledgement.
        if header.flags.has(Flags::RST) {
            if acknowledges {
                cx.counters.resets_received += 1;
                cx.counters.connections_refused += 1;
                self.end_gone(cx, index, CloseReason::Refused);
            } else {
                cx.counters.drop_out_of_window += 1;
            }
            return;
        }
        if !header.flags.has(Flags::SYN) {
            cx.counters.drop_out_of_window += 1;
            return;
        }
        // Our own timestamp has to be echoed (RFC 7323, 3.2), or the SYN-ACK is forged.
        if let Some((_, echo)) = header.options.timestamp.filter(|_| acknowledges && self.config.timestamps) {
            let sent = block.sent_ms.wrapping_add(block.stamps.offset);
            if before(cx.now.ms.wrapping_add(block.stamps.offset), echo)
                || before(echo, sent.wrapping_sub(120_000))
            {
                cx.counters.drop_paws += 1;
                return;
            }
        }
        self.take_offer(cx, index, segment);
        if acknowledges {
            self.established(cx, index, header.acknowledgement);
        } else {
            self.table[index].state = State::SynReceived;
            self.table[index].set(Todos::ACK_NOW);
            self.mark_dirty(index);
        }
    }

    /// Takes the values of the peer's SYN.
    fn take_offer(&mut self, cx: &mut Context<'_>, index: BlockIndex, segment: &Segment) {
        let header = &segment.header;
        let options = &header.options;
        let theirs = options.mss.unwrap_or(ip::mss_default(segment.tuple.remote));
        let old = self.table[index];
        let opening = Opening {
            tuple: segment.tuple,
            local_index: old.local_index,
            listener: NO_LISTENER,
            handshake: Handshake {
                irs: header.sequence,
                iss: old.snd.una,
                ts_recent: options.timestamp.map_or(0, |(value, _)| value),
                mss: theirs,
                window: header.window,
                scale: options.window_scale.unwrap_or(0).min(WINDOW_SCALE_MAX),
                agreed: Agreed::on([
                    (Agreed::TIMESTAMPS, self.config.timestamps && options.timestamp.is_some()),
                    (Agreed::SACK, self.config.sack && options.sack_permitted),
                    (Agreed::SCALE, options.window_scale.is_some()),
                ]),
            },
            ts_offset: old.stamps.offset,
            announced: u32::from(self.initial_window(NO_LISTENER)),
            retransmitted: old.has(Facts::SYN_RETRANSMITTED),
        };
        let fresh = self.fresh_block(cx, &opening);
        let kept = old.marks.only(Lists::OF_TURN).or(old.marks.only(Facts::FIN_QUEUED));
        self.table[index] = ControlBlock {
            state: old.state,
            marks: fresh.marks.or(kept),
            sent_ms: old.sent_ms,
            snd: Sending {
                una: old.snd.una,
                nxt: old.snd.nxt,
                // The window of a SYN is never scaled (RFC 7323, 2.2).
                wnd: u32::from(header.window),
                wnd_max: u32::from(header.window).max(1),
                ..fresh.snd
            },
            active: old.active,
            timer: old.timer,
            timer_slot: old.timer_slot,
            neighbor: old.neighbor,
            generation: old.generation,
            ..fresh
        };
    }

    /// Opens the connection: our SYN is acknowledged.
    pub(in crate::tcp) fn established(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        acknowledgement: u32,
    ) {
        let block = &mut self.table[index];
        block.state = State::Established;
        block.snd.una = acknowledgement;
        block.backoff = 0; // RFC 6298, 5.7: the timeout of data begins again
        block.set(Todos::ACK_NOW);
        if !block.has(Facts::SYN_RETRANSMITTED) {
            rtt::sample(block, cx.now.since(block.sent_ms).saturating_mul(1000));
        }
        self.stop_timer(index);
        self.progress(index, cx.now);
        cx.counters.connections_opened += 1;
        self.reports.notices.push_back(Notice::Connected(index));
        self.mark_dirty(index);
        self.reschedule(index, cx.now);
    }
}
