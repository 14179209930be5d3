//! The TCP engine.
//!
//! ```text
//!   segment ─► flow table ─┬─► control block: input → acknowledge → receive          (RFC 9293, 3.10.7.4)
//!                          ├─► SYN cache: listen                                     (3.10.7.2)
//!                          ├─► TIME-WAIT record                                      (6191)
//!                          └─► nothing: cookie, SYN to a listener, or reset          (3.10.7.1)
//!   poll ─► timers ─► delayed acknowledgements ─► opened windows ─► output of what became dirty
//! ```
//!
//! Input never sends payload: it changes blocks, queues control frames and marks blocks dirty. Output, once a turn and
//! block, decides what leaves and makes the headers. So a burst of segments costs one acknowledgement a connection, and a
//! reply of the owner's carries it.
//!
//! All that a connection has are indexes into tables of fixed size: `control_block` always, `active` while something
//! is going on, and in the stores of `send_queue`, `scoreboard` and `out_of_order`.

mod acknowledge;
mod active;
mod config;
mod congestion;
mod connect;
mod control_block;
mod cookies;
mod end;
mod flow_table;
mod hystart;
mod index_list;
mod input;
mod keys;
mod listen;
mod out_of_order;
mod output;
mod owner;
mod put_back;
mod receive;
mod recovery;
mod replies;
mod rtt;
mod scoreboard;
mod send_queue;
mod seq;
mod slab;
mod syn_cache;
mod time_wait;
mod timers;
mod wheel;

pub use config::{EphemeralPorts, Keepalive, TcpConfig};
pub use keys::Tuple;
pub(crate) use output::Line;
pub(crate) use owner::{ConnectFailure, Report};
pub use send_queue::Payload;

/// Bytes of a control block.
pub const CONTROL_BLOCK_BYTES: usize = size_of::<control_block::ControlBlock>();
/// Bytes of an active block.
pub const ACTIVE_BLOCK_BYTES: usize = size_of::<active::Active>();
/// Bytes that a flow takes in the flow table.
pub const FLOW_BYTES: usize = flow_table::FlowTable::BYTES_PER_FLOW;

use crate::Counters;
use crate::iface::Interface;
use crate::time::{Now, RateLimit};
use crate::wire::{Ip, Mac, tcp};
use active::Active;
use control_block::{ControlBlock, State, Table, flag};
use cookies::Cookies;
use flow_table::{FlowTable, Record};
use index_list::IndexList;
use keys::Keys;
use netpoll::{Buffer, BufferPools, CloseReason, LastCopy, release_queue};
use out_of_order::Kept;
use put_back::PutBack;
use scoreboard::SentSegment;
use send_queue::Pieces;
use slab::{NONE, Slab};
use std::collections::VecDeque;
use syn_cache::SynCache;
use time_wait::TimeWait;
use wheel::Wheel;

/// Payloads that may wait to be reported at once.
pub(crate) const RECEIVED_MAX: usize = 1024;
/// Counts of ports that destinations share; one for all would tell each how many connections go to others.
const PORT_COUNTS: usize = 64;
/// The listener of connections that were opened actively.
const NO_LISTENER: u8 = u8::MAX;

/// A keyed hash of addresses, for tables elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressKey(Keys);

impl AddressKey {
    pub(crate) fn new(secret: u64) -> AddressKey {
        AddressKey(Keys::new([secret, !secret]))
    }

    pub(crate) fn hash(&self, ip: Ip) -> u64 {
        self.0.address(ip)
    }
}

/// What the engine works with besides its own tables.
pub(crate) struct Context<'a> {
    pub(crate) net: &'a mut Interface,
    pub(crate) pools: &'a mut BufferPools,
    pub(crate) counters: &'a mut Counters,
    pub(crate) now: Now,
}

/// A segment that came in, checked as far as one can without its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) tuple: Tuple,
    /// The flow table's hash of it.
    pub(crate) hash: u64,
    /// Our address.
    pub(crate) local_index: u8,
    /// Who put it on the link.
    pub(crate) mac: Mac,
    pub(crate) header: tcp::Tcp,
    /// Where its payload is in the frame.
    pub(crate) payload_at: u32,
    pub(crate) payload_size: u32,
}

impl Segment {
    /// Sequence numbers that it takes: SEG.LEN.
    fn span(&self) -> u32 {
        let flags = self.header.flags;
        self.payload_size + u32::from(flags.has(tcp::Flags::SYN)) + u32::from(flags.has(tcp::Flags::FIN))
    }

    /// The sequence number behind it.
    fn end(&self) -> u32 {
        self.header.sequence.wrapping_add(self.span())
    }
}

/// A listening port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    /// The address listened at; unspecified: all.
    pub(crate) ip: Ip,
    pub(crate) port: u16,
    /// Connections that may wait to be accepted.
    pub(crate) backlog: usize,
    pub(crate) limits: Limits,
}

/// Limits of one listener's connections, or of those that were opened actively.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) user_timeout_ms: u32,
    pub(crate) flight_bytes_max: u32,
    pub(crate) window_max: u32,
}

/// Something that the owner has to know, before anything that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Accepted(u32),
    Connected(u32),
    Sent(u32),
}

/// The engine of one stack.
#[derive(Debug)]
pub(crate) struct Tcp {
    config: TcpConfig,
    keys: Keys,
    table: Table,
    flows: FlowTable,
    actives: Slab<Active>,
    pieces: Pieces,
    segments: Slab<SentSegment>,
    kept: Slab<Kept>,
    wheel: Wheel,
    syn_cache: SynCache,
    cookies: Cookies,
    time_wait: TimeWait,
    listeners: Vec<Listener>,
    accepting: bool,
    /// Its listeners were not closed.
    listening: bool,
    turn: Turn,
    reports: Reports,
    put_back: PutBack,
    rates: Rates,
    /// Receive buffers that may still be handed to the owner.
    budget: u32,
    /// Payload bytes that one receive buffer holds.
    buffer_payload: u32,
    /// RFC 6056, algorithm 4: a count of ports for each of so many groups of destinations.
    next_ports: [u32; PORT_COUNTS],
    /// The folded sum of the payload that was summed last: a fan-out sums it once.
    last_sum: Option<(usize, usize, u16)>,
    /// The payload that was moved out of a receive buffer last.
    moved: LastCopy,
}

/// What the next poll has to look at.
#[derive(Debug)]
struct Turn {
    /// Blocks with something to send.
    dirty: IndexList,
    /// Acknowledgements that wait for company, with the time at which the first look is due.
    delayed: VecDeque<(u32, u32)>,
    /// Blocks whose window is shut for want of buffers.
    starved: IndexList,
    /// Blocks whose neighbour is not known yet.
    unresolved: IndexList,
    /// Blocks that found a store of descriptors full.
    short: IndexList,
}

/// What the owner is to be told, in this order: notices, payloads, ends.
#[derive(Debug)]
struct Reports {
    notices: VecDeque<Notice>,
    received: VecDeque<(u32, Buffer)>,
    closings: VecDeque<(u32, CloseReason)>,
}

#[derive(Debug)]
struct Rates {
    reset: RateLimit,
    duplicate: RateLimit,
}

impl Tcp {
    pub(crate) fn new(config: TcpConfig, secret: [u64; 2], buffer_payload: u32) -> Tcp {
        let blocks_max = config.blocks_max();
        Tcp {
            keys: Keys::new(secret),
            table: Table::new(config.connections_max, config.orphans_max),
            flows: FlowTable::new(config.flows_max()),
            actives: Slab::new(config.active_max),
            pieces: Pieces::new(config.blocks_max(), config.pieces_max + config.flight_pieces_max),
            segments: Slab::new(config.blocks_max() + config.segments_max),
            kept: Slab::new(config.out_of_order_max),
            wheel: Wheel::new(),
            syn_cache: SynCache::new(
                config.half_open_max,
                config.half_open_per_network_max,
                config.syn_retries_max,
            ),
            cookies: Cookies::default(),
            time_wait: TimeWait::new(config.time_wait_max, config.time_wait_ms),
            listeners: Vec::with_capacity(usize::from(u8::MAX)),
            accepting: true,
            listening: true,
            turn: Turn {
                dirty: IndexList::new(blocks_max, flag::DIRTY),
                delayed: VecDeque::with_capacity(blocks_max.min(1 << 16)),
                starved: IndexList::new(blocks_max, flag::STARVED),
                unresolved: IndexList::new(blocks_max, flag::UNRESOLVED),
                short: IndexList::new(blocks_max, flag::SHORT),
            },
            reports: Reports {
                notices: VecDeque::with_capacity(2 * config.connections_max + 1),
                received: VecDeque::with_capacity(RECEIVED_MAX),
                closings: VecDeque::with_capacity(config.connections_max + 1),
            },
            put_back: PutBack::new(config.put_back_max),
            rates: Rates {
                reset: RateLimit::new(config.resets_per_second, secret[0].rotate_left(7)),
                duplicate: RateLimit::new(config.duplicate_acks_per_second, secret[1].rotate_left(7)),
            },
            budget: 0,
            buffer_payload: buffer_payload.max(1),
            next_ports: [0; PORT_COUNTS],
            last_sum: None,
            moved: LastCopy::default(),
            config,
        }
    }

    /// The hash of a segment's tuple, and a touch of the line that its look-up will read.
    #[inline]
    pub(crate) fn hash(&self, tuple: &Tuple) -> (u64, u32) {
        let hash = self.keys.flow(tuple);
        (hash, self.flows.touch(hash))
    }

    /// Touches the control block that a hash most likely leads to.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        match self.flows.guess(hash) {
            Some(Record::Connection(index)) => self.table[index].rcv_nxt,
            _ => 0,
        }
    }

    /// A segment came in, with a correct checksum and from nobody impossible.
    pub(crate) fn handle(&mut self, cx: &mut Context<'_>, segment: &Segment, frame: Buffer) {
        cx.counters.tcp_segments_received += 1;
        cx.counters.tcp_bad_options += u64::from(segment.header.options.malformed);
        match self.find(segment.hash, &segment.tuple, cx.net) {
            Some(Record::Connection(index)) => self.handle_connection(cx, index, segment, frame),
            Some(Record::HalfOpen(index)) => self.handle_half_open(cx, index, segment, frame),
            Some(Record::TimeWait(index)) => self.handle_time_wait(cx, index, segment, frame),
            None => self.handle_stranger(cx, segment, frame),
        }
    }

    fn find(&self, hash: u64, tuple: &Tuple, net: &Interface) -> Option<Record> {
        let ports = (tuple.remote_port, tuple.local_port);
        self.flows.find(hash, |record| match record {
            Record::Connection(index) => {
                let block = &self.table[index];
                (block.remote_port, block.local_port) == ports
                    && block.remote == tuple.remote
                    && net.local(block.local_index) == tuple.local
            }
            Record::HalfOpen(index) => {
                let entry = self.syn_cache.get(index);
                (entry.remote_port, entry.local_port) == ports
                    && entry.remote == tuple.remote
                    && net.local(entry.local_index) == tuple.local
            }
            Record::TimeWait(index) => self.time_wait.get(index).hash == hash,
        })
    }

    fn limits(&self, listener: u8) -> Limits {
        match self.listeners.get(usize::from(listener)) {
            Some(listener) => listener.limits,
            None => Limits {
                user_timeout_ms: self.config.user_timeout_ms,
                flight_bytes_max: self.config.flight_bytes_max,
                window_max: self.config.window_max,
            },
        }
    }

    fn hash_of(&self, net: &Interface, index: u32) -> u64 {
        let block = &self.table[index];
        self.keys.flow(&block.tuple(net.local(block.local_index)))
    }

    /// How many receive buffers may be handed out before the next call.
    pub(crate) fn set_budget(&mut self, buffers: u32) {
        self.budget = buffers;
    }

    /// Whether a frame may be handled: whatever it brings can be reported.
    pub(crate) fn has_report_room(&self) -> bool {
        let most = 1 + usize::from(self.config.out_of_order_per_connection_max);
        self.reports.received.len() + most <= RECEIVED_MAX
    }

    fn mark_dirty(&mut self, index: u32) {
        self.turn.dirty.push(&mut self.table, index);
    }

    /// The active block of a connection, taken if it has none; `None` when there is none left.
    fn make_active(&mut self, index: u32, now: Now) -> Option<u32> {
        let block = &mut self.table[index];
        if block.active == NONE {
            block.active = self.actives.insert(Active { progress_ms: now.ms, ..Active::default() })?;
        }
        Some(block.active)
    }

    /// Gives the active block back if nothing is left in it, and sets the timer for what is.
    fn settle(&mut self, index: u32, now: Now) {
        let block = &mut self.table[index];
        if !block.state.is_synchronized() && block.state != State::SynSent {
            return;
        }
        let idle = self.actives.get(block.active).is_some_and(Active::is_quiet);
        if idle && !block.has(flag::FIN_AHEAD) {
            self.actives.remove(block.active);
            block.active = NONE;
        }
        self.schedule(index, now);
    }

    /// Gives the memory of what is empty back, if the owner has no connection.
    pub(crate) fn trim(&mut self) {
        if self.table.connection_count() > 0 || self.has_reports() {
            return;
        }
        let Turn { dirty, delayed, starved, unresolved, short } = &mut self.turn;
        [dirty, starved, unresolved, short].into_iter().for_each(|list| list.trim(&self.table));
        delayed.retain(|(index, _)| self.table[*index].has(flag::IN_DELAYED));
        release_queue(delayed);
        release_queue(&mut self.reports.notices);
        release_queue(&mut self.reports.received);
        release_queue(&mut self.reports.closings);
        self.put_back.trim();
        self.table.trim();
        self.actives.trim();
        self.pieces.trim();
        self.segments.trim();
        self.kept.trim();
    }

    /// Whether everything is as it was when the engine was made, but for counters: nothing leaked.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.connection_count() == 0
            && self.table.orphan_count() == 0
            && self.actives.len() == 0
            && self.pieces.used() == 0
            && self.segments.len() == 0
            && self.kept.len() == 0
            && self.wheel.armed() == 0
            && self.syn_cache.len() == 0
            && self.flows.len() == self.time_wait.len()
            && self.reports.received.is_empty()
            && self.put_back.is_empty()
    }

    pub(crate) fn debug(&self) -> String {
        let mut text = format!(
            "budget {} starved {} dirty {} ",
            self.budget,
            self.turn.starved.len(),
            self.turn.dirty.len()
        );
        for index in self.table.indexes() {
            let b = &self.table[index];
            if b.state != State::Free {
                let a = self.actives.get(b.active);
                text += &format!(
                    "\n   [{index} {:?} flags {:x} una {} flight {} wnd {} cwnd {} left {} backoff {} timer {:?}/{} unsent {:?} lost {:?} mode {:?}]",
                    b.state,
                    b.flags,
                    b.snd_una,
                    b.flight(),
                    b.snd_wnd,
                    b.cwnd,
                    b.window_left(),
                    b.backoff,
                    a.map(|a| a.timer),
                    a.map_or(0, |a| a.timer_due_ms),
                    a.map(|a| a.unsent),
                    a.map(|a| a.flight.lost),
                    a.map(|a| a.mode)
                );
            }
        }
        text
    }

    /// Panics where an invariant between the tables does not hold.
    pub(crate) fn invariants(&self) {
        let mut actives = 0;
        for index in self.table.indexes() {
            let block: &ControlBlock = &self.table[index];
            if matches!(block.state, State::Free | State::Ended) {
                assert_eq!(block.active, NONE, "block {index} is over and keeps an active block");
                continue;
            }
            assert!(seq::at_or_before(block.snd_una, block.snd_nxt), "block {index}: una beyond nxt");
            assert!(block.cwnd > 0, "block {index}: no congestion window");
            let Some(active) = self.actives.get(block.active) else { continue };
            actives += 1;
            self.check_flight(index, block, active);
        }
        assert_eq!(actives, self.actives.len(), "an active block without a connection");
        let flows = self.table.connection_count() + self.table.orphan_count();
        assert!(self.flows.len() <= flows + self.syn_cache.len() + self.time_wait.len());
    }

    /// The segments cover what is in flight, without gaps, and their sums are right.
    fn check_flight(&self, index: u32, block: &ControlBlock, active: &Active) {
        let (mut at, mut lost, mut sacked) = (block.snd_una, 0, 0);
        let mut next = active.flight.head;
        while let Some(segment) = self.segments.get(next) {
            assert_eq!(segment.sequence, at, "block {index}: a gap in its segments");
            at = segment.end();
            lost += if segment.has(scoreboard::sent::LOST) { segment.span() } else { 0 };
            sacked += if segment.has(scoreboard::sent::SACKED) { segment.span() } else { 0 };
            next = segment.next;
        }
        let has_syn = matches!(block.state, State::SynSent | State::SynReceived);
        assert!(has_syn || at == block.snd_nxt, "block {index}: segments end before nxt");
        assert_eq!((lost, sacked), (active.flight.lost, active.flight.sacked), "block {index}: sums");
    }
}
