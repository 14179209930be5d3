//! Segments of connections in TIME-WAIT.

use crate::tcp::engine::{Context, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::before;
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::index::TimeWaitIndex;
use crate::tcp::tables::time_wait::TimeWait;
use crate::wire::tcp::{self, Flags, Options};
use netpoll::Buffer;

impl Tcp {
    /// RFC 9293, 3.10.7.4 for TIME-WAIT, with RFC 1337 and RFC 6191.
    pub(in crate::tcp) fn handle_time_wait(
        &mut self,
        cx: &mut Context<'_>,
        index: TimeWaitIndex,
        segment: &Segment,
        _frame: Buffer,
    ) {
        let record = *self.peers.time_wait.get(index);
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
            self.peers.time_wait.forget(index);
            // RFC 9293, 3.6.1: beyond everything that the earlier connection has sent, as in Linux.
            let iss = record.snd_nxt.wrapping_add(65_537);
            return self.handle_syn(cx, segment, Some(iss));
        }
        if !header.flags.has(Flags::ACK) && !is_syn {
            cx.counters.drop_no_ack += 1;
            return;
        }
        let is_old = record.has_timestamps && stamp.is_some_and(|value| before(value, record.ts_recent));
        if header.flags.has(Flags::FIN) && !is_old && segment.end() == record.rcv_nxt {
            self.peers.time_wait.restart(&mut self.flows, index, cx.now);
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
