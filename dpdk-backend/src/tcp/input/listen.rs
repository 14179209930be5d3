//! Segments that belong to no connection: a SYN to a listener, the acknowledgement of a cookie, or
//! a reset (RFC 9293, 3.10.7.1 and 3.10.7.2).
//!
//! No control block exists before the handshake is over (RFC 4987, 3.3).

use crate::tcp::engine::{Context, Listener, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::syn_cache::{Agreed, HalfOpen, Handshake};
use crate::wire::flow::Tuple;
use crate::wire::ip;
use crate::wire::tcp::{Flags, WINDOW_SCALE_MAX};
use netpoll::Buffer;

impl Tcp {
    /// RFC 9293, 3.10.7.1 and 3.10.7.2.
    pub(in crate::tcp) fn handle_unmatched(
        &mut self,
        cx: &mut Context<'_>,
        segment: &Segment,
        frame: Buffer,
    ) {
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
        // While cookies are out, a segment may have overtaken the one that returns its cookie:
        // without an answer its sender repeats both, while a reset would end the new connection.
        let may_follow = may_be_cookie && self.peers.cookies.are_out(cx.now) && is_listened_at;
        if !may_follow {
            self.refuse(cx, segment);
        }
    }

    pub(in crate::tcp) fn listener_of(&self, tuple: &Tuple) -> Option<u8> {
        let hears = |l: &Listener| {
            l.port == tuple.local_port && (l.ip == tuple.local || l.ip.is_any_of_family(tuple.local))
        };
        let position = self.ports.listeners.iter().position(hears).filter(|_| self.ports.listening)?;
        Some(position as u8)
    }

    /// Handles a SYN without a connection. `iss` is our number when an earlier connection of the
    /// tuple determines it.
    pub(in crate::tcp) fn handle_syn(&mut self, cx: &mut Context<'_>, segment: &Segment, iss: Option<u32>) {
        let Some(listener) = self.listener_of(&segment.tuple) else {
            cx.counters.drop_no_connection += 1;
            return self.refuse(cx, segment);
        };
        cx.counters.syns_received += 1;
        // A SYN with FIN is never legitimate.
        if segment.header.flags.has(Flags::FIN) {
            cx.counters.drop_no_connection += 1;
            return;
        }
        if self.peers.syn_cache.waiting() >= self.ports.listeners[usize::from(listener)].backlog {
            cx.counters.drop_syn_backlog += 1;
            return;
        }
        let mut entry = self.half_open(cx, segment, listener);
        entry.handshake.iss = iss.unwrap_or(entry.handshake.iss);
        let network = self.keys.prefix(segment.tuple.remote);
        match self.peers.syn_cache.insert(entry, network, cx.now) {
            Some(index) if self.flows.insert(segment.hash, Record::HalfOpen(index)) => {
                self.send_syn_ack(cx, index);
            }
            Some(index) => {
                self.peers.syn_cache.remove(index, network);
                cx.counters.flow_table_full += 1;
            }
            None => {
                cx.counters.syn_cache_full += 1;
                self.send_cookie(cx, segment, entry);
            }
        }
    }

    /// The entry of a SYN, with the options that both hosts support.
    pub(in crate::tcp) fn half_open(&self, cx: &Context<'_>, segment: &Segment, listener: u8) -> HalfOpen {
        let options = &segment.header.options;
        let tuple = &segment.tuple;
        let mut entry = HalfOpen::new(tuple, segment.local_index, listener, segment.mac);
        let timestamp = options.timestamp.filter(|_| self.config.timestamps);
        entry.handshake = Handshake {
            irs: segment.header.sequence,
            iss: self.keys.initial_sequence(tuple, cx.now.us),
            ts_recent: timestamp.map_or(0, |(value, _)| value),
            mss: options.mss.unwrap_or(ip::mss_default(tuple.remote)),
            window: segment.header.window,
            scale: options.window_scale.unwrap_or(0).min(WINDOW_SCALE_MAX),
            agreed: Agreed::on([
                (Agreed::TIMESTAMPS, timestamp.is_some()),
                (Agreed::SACK, options.sack_permitted && self.config.sack),
                (Agreed::SCALE, options.window_scale.is_some()),
            ]),
        };
        entry
    }
}
