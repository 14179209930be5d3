//! From a segment to its record.

use crate::iface::Interface;
use crate::tcp::engine::{Context, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::tables::flow_table::Record;
use crate::wire::flow::Tuple;
use netpoll::Buffer;

impl Tcp {
    /// The hash of a segment's tuple, and a touch of the cache line that its look-up reads.
    #[inline]
    pub(crate) fn hash(&self, tuple: &Tuple) -> (u64, u32) {
        let hash = self.keys.flow(tuple);
        (hash, self.flows.touch(hash))
    }

    /// Touches the control block that most likely belongs to a hash.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        match self.flows.guess(hash) {
            Some(Record::Connection(index)) => self.table[index].rcv.nxt,
            _ => 0,
        }
    }

    /// Handles a segment with a validated checksum and source address.
    pub(crate) fn handle(&mut self, cx: &mut Context<'_>, segment: &Segment, frame: Buffer) {
        cx.counters.tcp_segments_received += 1;
        cx.counters.tcp_bad_options += u64::from(segment.header.options.malformed);
        match self.find(segment.hash, &segment.tuple, cx.net) {
            Some(Record::Connection(index)) => self.handle_connection(cx, index, segment, frame),
            Some(Record::HalfOpen(index)) => self.handle_half_open(cx, index, segment, frame),
            Some(Record::TimeWait(index)) => self.handle_time_wait(cx, index, segment, frame),
            None => self.handle_unmatched(cx, segment, frame),
        }
    }

    pub(in crate::tcp) fn find(&self, hash: u64, tuple: &Tuple, net: &Interface) -> Option<Record> {
        let ports = (tuple.remote_port, tuple.local_port);
        self.flows.find(hash, |record| match record {
            Record::Connection(index) => {
                let block = &self.table[index];
                (block.remote_port, block.local_port) == ports
                    && block.remote == tuple.remote
                    && net.local(block.local_index) == tuple.local
            }
            Record::HalfOpen(index) => {
                let entry = self.peers.syn_cache.get(index);
                (entry.remote_port, entry.local_port) == ports
                    && entry.remote == tuple.remote
                    && net.local(entry.local_index) == tuple.local
            }
            Record::TimeWait(index) => self.peers.time_wait.get(index).hash == hash,
        })
    }
}
