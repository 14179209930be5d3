//! The engine of one stack: its tables, and the functions that all its methods share.
//!
//! The methods of [`Tcp`] are in the folder of what they do: `input`, `output`, `control`.

use crate::counters::Counters;
use crate::iface::Interface;
use crate::keys::Keys;
use crate::tcp::config::TcpConfig;
use crate::tcp::input::cookies::Cookies;
use crate::tcp::seq::at_or_before;
use crate::tcp::tables::active::Active;
use crate::tcp::tables::block_list::BlockList;
use crate::tcp::tables::control_block::{ControlBlock, State, Table};
use crate::tcp::tables::flow_table::FlowTable;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists};
use crate::tcp::tables::out_of_order::Kept;
use crate::tcp::tables::scoreboard::{SegmentFacts, SentSegment};
use crate::tcp::tables::send_queue::Pieces;
use crate::tcp::tables::syn_cache::SynCache;
use crate::tcp::tables::time_wait::TimeWait;
use crate::tcp::tables::unread::Unread;
use crate::tcp::tables::wheel::Wheel;
use crate::time::{Now, RateLimit};
use crate::wire::Ip;
use netpoll::{Buffer, BufferPools, CloseReason, FixedSlab, LastCopy, Slot, release_queue};
use std::collections::VecDeque;

/// Payloads that may wait to be reported.
pub(crate) const RECEIVED_MAX: usize = 1024;
/// Counters of ports that destinations share. One for all would reveal how many connections go to
/// others.
pub(in crate::tcp) const PORT_COUNTS: usize = 64;
/// The listener of connections that were opened actively.
pub(in crate::tcp) const NO_LISTENER: u8 = u8::MAX;

/// The engine's surroundings during one call.
pub(crate) struct Context<'a> {
    pub(crate) net: &'a mut Interface,
    pub(crate) pools: &'a mut BufferPools,
    pub(crate) counters: &'a mut Counters,
    pub(crate) now: Now,
}

/// A listening port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    /// The address; unspecified: all addresses.
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

/// An event that is reported before all payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Accepted(BlockIndex),
    Connected(BlockIndex),
    Sent(BlockIndex),
}

/// What connections share.
#[derive(Debug)]
pub(in crate::tcp) struct Stores {
    /// Blocks of connections that send or receive.
    pub(in crate::tcp) actives: FixedSlab<Active>,
    /// What waits to be sent or acknowledged.
    pub(in crate::tcp) pieces: Pieces,
    pub(in crate::tcp) segments: FixedSlab<SentSegment>,
    /// Payloads ahead of a gap.
    pub(in crate::tcp) kept: FixedSlab<Kept>,
}

/// Peers without a control block: before the handshake is over, and after the end.
#[derive(Debug)]
pub(in crate::tcp) struct Peers {
    pub(in crate::tcp) syn_cache: SynCache,
    pub(in crate::tcp) cookies: Cookies,
    pub(in crate::tcp) time_wait: TimeWait,
}

/// Local ports: those of listeners, and those of active opens.
#[derive(Debug)]
pub(in crate::tcp) struct Ports {
    pub(in crate::tcp) listeners: Vec<Listener>,
    /// Whether a completed handshake becomes a connection; otherwise the peer waits.
    pub(in crate::tcp) accepting: bool,
    /// Whether the listeners are open.
    pub(in crate::tcp) listening: bool,
    /// RFC 6056, algorithm 4: one counter of ports for each group of destinations.
    pub(in crate::tcp) next: [u32; PORT_COUNTS],
}

/// The receive buffers that windows are computed from.
#[derive(Debug)]
pub(in crate::tcp) struct ReceiveBuffers {
    /// Buffers that may still be given to the owner.
    pub(in crate::tcp) budget: u32,
    /// Payload bytes that one buffer holds.
    pub(in crate::tcp) payload_size: u32,
}

/// The engine of one stack.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(in crate::tcp) config: TcpConfig,
    pub(in crate::tcp) keys: Keys,
    pub(in crate::tcp) table: Table,
    /// The timers of blocks.
    pub(in crate::tcp) wheel: Wheel,
    pub(in crate::tcp) flows: FlowTable,
    pub(in crate::tcp) stores: Stores,
    pub(in crate::tcp) peers: Peers,
    pub(in crate::tcp) ports: Ports,
    pub(in crate::tcp) buffers: ReceiveBuffers,
    pub(in crate::tcp) turn: Turn,
    pub(in crate::tcp) reports: Reports,
    pub(in crate::tcp) rates: RateLimits,
}

/// The work of the next poll.
#[derive(Debug)]
pub(in crate::tcp) struct Turn {
    /// Blocks with something to send.
    pub(in crate::tcp) dirty: BlockList,
    /// Delayed acknowledgements, each with the time of its first check.
    pub(in crate::tcp) delayed: VecDeque<(BlockIndex, u32)>,
    /// Blocks with a window that is shut for want of buffers.
    pub(in crate::tcp) starved: BlockList,
    /// Blocks with an unresolved neighbor.
    pub(in crate::tcp) unresolved: BlockList,
    /// Blocks that found a store of descriptors full.
    pub(in crate::tcp) short: BlockList,
    /// Place, size and folded sum of the payload that was summed last: a fan-out sums its payload
    /// once.
    pub(in crate::tcp) last_sum: Option<(usize, usize, u16)>,
    /// The payload that was copied out of a receive buffer last.
    pub(in crate::tcp) moved: LastCopy,
}

/// Events for the owner, in this order: notices, payloads, ends. An end is the peer's FIN, where
/// that was not reported (`Facts::FIN_UNREPORTED`), or the connection's. Each connection has one at
/// most.
#[derive(Debug)]
pub(in crate::tcp) struct Reports {
    pub(in crate::tcp) notices: VecDeque<Notice>,
    pub(in crate::tcp) received: VecDeque<(BlockIndex, Buffer)>,
    pub(in crate::tcp) closings: VecDeque<(BlockIndex, CloseReason)>,
    pub(in crate::tcp) unread: Unread,
}

#[derive(Debug)]
pub(in crate::tcp) struct RateLimits {
    pub(in crate::tcp) reset: RateLimit,
    pub(in crate::tcp) duplicate: RateLimit,
}

impl Tcp {
    pub(crate) fn new(config: TcpConfig, secret: [u64; 2], buffer_payload: u32) -> Tcp {
        let blocks_max = config.blocks_max();
        let lists = |list| BlockList::new(blocks_max, list);
        Tcp {
            keys: Keys::new(secret),
            table: Table::new(config.tables.connections_max, config.tables.orphans_max),
            wheel: Wheel::new(),
            flows: FlowTable::new(config.flows_max()),
            stores: Stores {
                actives: FixedSlab::new(config.tables.active_max),
                pieces: Pieces::new(blocks_max, config.stores.pieces_max + config.stores.flight_pieces_max),
                segments: FixedSlab::new(blocks_max + config.stores.segments_max),
                kept: FixedSlab::new(config.stores.out_of_order_max),
            },
            peers: Peers {
                syn_cache: SynCache::new(
                    config.tables.half_open_max,
                    config.tables.half_open_per_network_max,
                    config.timeouts.syn_retries_max,
                ),
                cookies: Cookies::default(),
                time_wait: TimeWait::new(config.tables.time_wait_max, config.timeouts.time_wait_ms),
            },
            ports: Ports {
                listeners: Vec::with_capacity(usize::from(u8::MAX)),
                accepting: true,
                listening: true,
                next: [0; PORT_COUNTS],
            },
            buffers: ReceiveBuffers { budget: 0, payload_size: buffer_payload.max(1) },
            turn: Turn {
                dirty: lists(Lists::DIRTY),
                delayed: VecDeque::with_capacity(blocks_max.min(1 << 16)),
                starved: lists(Lists::STARVED),
                unresolved: lists(Lists::UNRESOLVED),
                short: lists(Lists::SHORT),
                last_sum: None,
                moved: LastCopy::default(),
            },
            reports: Reports {
                notices: VecDeque::with_capacity(2 * config.tables.connections_max + 1),
                received: VecDeque::with_capacity(RECEIVED_MAX),
                closings: VecDeque::with_capacity(config.tables.connections_max + 1),
                unread: Unread::new(config.tables.unread_max),
            },
            rates: RateLimits {
                reset: RateLimit::new(config.rates.resets_per_second, secret[0].rotate_left(7)),
                duplicate: RateLimit::new(config.rates.duplicate_acks_per_second, secret[1].rotate_left(7)),
            },
            config,
        }
    }

    pub(in crate::tcp) fn limits(&self, listener: u8) -> Limits {
        match self.ports.listeners.get(usize::from(listener)) {
            Some(listener) => listener.limits,
            None => Limits {
                user_timeout_ms: self.config.connection.user_timeout_ms,
                flight_bytes_max: self.config.connection.flight_bytes_max,
                window_max: self.config.connection.window_max,
            },
        }
    }

    pub(in crate::tcp) fn hash_of(&self, net: &Interface, index: BlockIndex) -> u64 {
        let block = &self.table[index];
        self.keys.flow(&block.tuple(net.local(block.local_index)))
    }

    /// Sets how many receive buffers may be given to the owner until the next call.
    pub(crate) fn set_budget(&mut self, buffers: u32) {
        self.buffers.budget = buffers;
    }

    /// Whether a frame may be handled: all that it can cause has room among the reports.
    pub(crate) fn has_report_room(&self) -> bool {
        let most = 1 + usize::from(self.config.stores.out_of_order_per_connection_max);
        self.reports.received.len() + most <= RECEIVED_MAX
    }

    pub(in crate::tcp) fn mark_dirty(&mut self, index: BlockIndex) {
        self.turn.dirty.push(&mut self.table, index);
    }

    /// The active block of a connection, allocated if it has none. `None` when the slab is full.
    pub(in crate::tcp) fn make_active(&mut self, index: BlockIndex, now: Now) -> Option<Slot<Active>> {
        let block = &mut self.table[index];
        if block.active.is_none() {
            block.active =
                self.stores.actives.insert(Active { progress_ms: now.ms, ..Active::default() }).ok()?;
        }
        Some(block.active)
    }

    /// Frees an active block that is not needed any more, and sets the timer for the rest.
    pub(in crate::tcp) fn reschedule(&mut self, index: BlockIndex, now: Now) {
        let block = &mut self.table[index];
        if !block.state.is_synchronized() && block.state != State::SynSent {
            return;
        }
        let idle = self.stores.actives.get(block.active).is_some_and(Active::is_quiet);
        if idle && !block.has(Facts::FIN_AHEAD) {
            self.stores.actives.remove(block.active);
            block.active = Slot::NONE;
        }
        self.schedule(index, now);
    }

    /// Returns the memory of empty tables to the system, while the owner has no connection.
    pub(crate) fn trim(&mut self) {
        if self.table.connection_count() > 0 || self.has_reports() {
            return;
        }
        let Turn { dirty, delayed, starved, unresolved, short, .. } = &mut self.turn;
        [dirty, starved, unresolved, short].into_iter().for_each(|list| list.trim(&self.table));
        delayed.retain(|(index, _)| self.table[*index].has(Lists::DELAYED));
        release_queue(delayed);
        release_queue(&mut self.reports.notices);
        release_queue(&mut self.reports.received);
        release_queue(&mut self.reports.closings);
        self.reports.unread.trim();
        self.table.trim();
        self.stores.actives.trim();
        self.stores.pieces.trim();
        self.stores.segments.trim();
        self.stores.kept.trim();
    }

    /// Whether the engine is as it was made, except for counters: nothing leaked.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.connection_count() == 0
            && self.table.orphan_count() == 0
            && self.stores.actives.is_empty()
            && self.stores.pieces.used() == 0
            && self.stores.segments.is_empty()
            && self.stores.kept.is_empty()
            && self.wheel.armed() == 0
            && self.peers.syn_cache.len() == 0
            && self.flows.len() == self.peers.time_wait.len()
            && self.reports.received.is_empty()
            && self.reports.unread.is_empty()
    }

    pub(crate) fn debug(&self) -> String {
        let mut text = format!(
            "budget {} starved {} dirty {} ",
            self.buffers.budget,
            self.turn.starved.len(),
            self.turn.dirty.len()
        );
        for index in self.table.indexes() {
            let b = &self.table[index];
            if b.state != State::Free {
                let a = self.stores.actives.get(b.active);
                text += &format!(
                    "\n   [{index:?} {:?} {:?} una {} flight {} wnd {} cwnd {} left {} backoff {} timer {:?}/{} unsent {:?} lost {:?} mode {:?}]",
                    b.state,
                    b.marks,
                    b.snd.una,
                    b.flight(),
                    b.snd.wnd,
                    b.cwnd,
                    b.window_left(),
                    b.backoff,
                    a.map(|a| a.timer.kind),
                    a.map_or(0, |a| a.timer.due_ms),
                    a.map(|a| a.unsent),
                    a.map(|a| a.flight.lost),
                    a.map(|a| a.recovery.mode)
                );
            }
        }
        text
    }

    /// Panics when an invariant between the tables does not hold.
    pub(crate) fn invariants(&self) {
        let mut actives = 0;
        for index in self.table.indexes() {
            let block: &ControlBlock = &self.table[index];
            if matches!(block.state, State::Free | State::Ended) {
                assert!(block.active.is_none(), "block {index:?} is over and keeps an active block");
                continue;
            }
            assert!(at_or_before(block.snd.una, block.snd.nxt), "block {index:?}: una beyond nxt");
            assert!(block.cwnd > 0, "block {index:?}: no congestion window");
            let Some(active) = self.stores.actives.get(block.active) else { continue };
            actives += 1;
            self.check_flight(index, block, active);
        }
        assert_eq!(actives, self.stores.actives.len(), "an active block without a connection");
        let flows = self.table.connection_count() + self.table.orphan_count();
        assert!(self.flows.len() <= flows + self.peers.syn_cache.len() + self.peers.time_wait.len());
    }

    /// Checks that the segments cover the flight without gaps, and that their sums are right.
    fn check_flight(&self, index: BlockIndex, block: &ControlBlock, active: &Active) {
        let (mut at, mut lost, mut sacked) = (block.snd.una, 0, 0);
        let mut next = active.flight.head;
        while let Some(segment) = self.stores.segments.get(next) {
            assert_eq!(segment.sequence, at, "block {index:?}: a gap in its segments");
            at = segment.end();
            lost += if segment.has(SegmentFacts::LOST) { segment.span() } else { 0 };
            sacked += if segment.has(SegmentFacts::SACKED) { segment.span() } else { 0 };
            next = segment.next;
        }
        let has_syn = matches!(block.state, State::SynSent | State::SynReceived);
        assert!(has_syn || at == block.snd.nxt, "block {index:?}: segments end before nxt");
        assert_eq!((lost, sacked), (active.flight.lost, active.flight.sacked), "block {index:?}: sums");
    }
}
