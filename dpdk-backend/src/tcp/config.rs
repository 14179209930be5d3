//! The engine's configuration, and the sum of its memory by owner.

use crate::tcp::tables::active::Active;
use crate::tcp::tables::control_block::ControlBlock;
use crate::tcp::tables::flow_table::FlowTable;
use crate::tcp::tables::out_of_order::Kept;
use crate::tcp::tables::scoreboard::SentSegment;
use crate::tcp::tables::syn_cache::HalfOpen;
use crate::tcp::tables::time_wait::TimeWaitRecord;
use crate::tcp::tables::unread::Unread;
use netpoll::FixedSlab;

/// Keepalive: how an idle connection is probed (RFC 9293, 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe, in milliseconds.
    pub idle_ms: u32,
    /// Between probes, in milliseconds.
    pub interval_ms: u32,
    /// Probes without an answer after which the connection is given up.
    pub probes_max: u8,
}

/// Ports that active opens take, in the order of RFC 6056, 3.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EphemeralPorts {
    /// The lowest; at least 1.
    pub first: u16,
    /// The number of ports, counted from the first. Those above 65 535 do not exist.
    pub count: u16,
}

impl Default for EphemeralPorts {
    /// Linux' own: 32 768 to 60 999.
    fn default() -> EphemeralPorts {
        EphemeralPorts { first: 32_768, count: 28_232 }
    }
}

impl EphemeralPorts {
    /// Every port that needs no privilege, for a host that serves nothing: 1024 to 65 535.
    pub const ALL: EphemeralPorts = EphemeralPorts { first: 1024, count: 64_512 };

    /// The port at `place`, which may be any number.
    pub(crate) fn at(self, place: u32) -> u16 {
        let first = self.first.max(1);
        let count = u32::from(self.count).clamp(1, u32::from(u16::MAX - first) + 1);
        first + (place % count) as u16
    }
}

/// Pieces, and segments, in flight for each connection on average that the defaults have room for.
const IN_FLIGHT: usize = 4;

/// Sizes of the engine's tables, in entries.
#[derive(Clone, Debug)]
pub struct TableSizes {
    /// Connections of the owner at most. Further peers wait half-open or in the backlog.
    pub connections_max: usize,
    /// Orphans at most: connections that their owner has closed, while the exchange with the peer
    /// completes. Further ones are reset.
    pub orphans_max: usize,
    /// Half-open connections at most. Further ones are answered with cookies.
    pub half_open_max: usize,
    /// Half-open connections of one /24 (IPv6: /64) at most.
    pub half_open_per_network_max: u16,
    /// TIME-WAIT records at most. The oldest is evicted for the next.
    pub time_wait_max: usize,
    /// Connections at most with something in flight, queued or out of order at the same time.
    pub active_max: usize,
    /// Payloads at most that the owner may have returned: as many as it may hold receive buffers.
    pub unread_max: usize,
}

/// Sizes of the stores that connections share.
#[derive(Clone, Debug)]
pub struct StoreSizes {
    /// Pieces for what waits to be sent, shared, beside one that is each connection's own.
    pub pieces_max: usize,
    /// Pieces that are added to those for what waits to be acknowledged.
    pub flight_pieces_max: usize,
    /// Segments in flight, shared, beside one that is each connection's own.
    pub segments_max: usize,
    /// Segments in flight at most for one connection: what one acknowledgement may have to look at.
    pub segments_per_connection_max: u32,
    /// Out-of-order segments kept at most, over all connections.
    pub out_of_order_max: usize,
    /// Out-of-order segments kept at most for one connection.
    pub out_of_order_per_connection_max: u16,
}

/// What one connection may use. Listeners may set lower limits for theirs.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Bytes queued or in flight at most.
    pub send_queue_bytes_max: usize,
    /// Bytes in flight at most, whatever the windows allow.
    pub flight_bytes_max: u32,
    /// The receive window at most, in bytes.
    pub window_max: u32,
    /// The MSS that is announced at most, in bytes of payload, where the link would carry more.
    pub mss_max: u16,
    /// Payloads up to this size, in bytes, are copied to a right-sized block when they have to be
    /// kept.
    pub copy_break: usize,
    /// How long sent bytes may stay unacknowledged (RFC 5482), in milliseconds; 0:
    /// [`Timeouts::retries_max`] decides.
    pub user_timeout_ms: u32,
}

/// How long the engine waits, and how often it tries.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// The longest delay of an acknowledgement, in milliseconds (RFC 9293, MUST-58: below 500).
    pub delayed_ack_ms: u32,
    /// The lifetime of a TIME-WAIT record, in milliseconds (2 MSL).
    pub time_wait_ms: u32,
    /// How long a closed connection waits for its peer's FIN, in milliseconds, whatever else is
    /// received.
    pub fin_wait_2_ms: u32,
    /// How long a closed connection may take until its last bytes and FIN are acknowledged, in
    /// milliseconds, even while that progresses.
    pub orphan_ms: u32,
    /// How long segments ahead of a gap are kept, in milliseconds (RFC 2018, 8 allows to discard
    /// them).
    pub out_of_order_ms: u32,
    /// SYN or SYN-ACK retransmissions at most.
    pub syn_retries_max: u8,
    /// Retransmission timeouts in a row at most, where no user timeout is set (RFC 9293, R2).
    pub retries_max: u8,
    /// Keepalive, if any.
    pub keepalive: Option<Keepalive>,
}

/// Rates of answers, and of timers.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Resets a second at most, on average.
    pub resets_per_second: u32,
    /// Acknowledgements of old segments a second at most, on average.
    pub duplicate_acks_per_second: u32,
    /// Timers that one poll fires at most.
    pub timers_per_poll_max: usize,
}

/// The engine's configuration. Every table is reserved from it at once.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Entries of tables.
    pub tables: TableSizes,
    /// Sizes of shared stores.
    pub stores: StoreSizes,
    /// What one connection may use.
    pub connection: ConnectionLimits,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How much to answer.
    pub rates: Rates,
    /// Ports that active opens take.
    pub ephemeral_ports: EphemeralPorts,
    /// Timestamps are offered and accepted (RFC 7323).
    pub timestamps: bool,
    /// Selective acknowledgements are offered and accepted (RFC 2018).
    pub sack: bool,
}

impl TcpConfig {
    /// Sizes for `connections_max` connections, other values as Linux has them.
    pub fn new(connections_max: usize) -> TcpConfig {
        // All connections may be closed at once: time ends them. Beyond 65 536, a quarter of them
        // may.
        let orphans_max = (connections_max / 4).max(connections_max.min(1 << 16)).max(64);
        TcpConfig {
            tables: TableSizes {
                connections_max,
                orphans_max,
                half_open_max: connections_max.clamp(1024, 16_384),
                half_open_per_network_max: 4096,
                time_wait_max: (connections_max / 8).clamp(1024, 65_536),
                active_max: connections_max + orphans_max,
                unread_max: 1024,
            },
            stores: StoreSizes {
                pieces_max: connections_max.max(16 << 10),
                // Peers that acknowledge late keep some of each. Reserved memory is touched only as
                // it is used.
                flight_pieces_max: (IN_FLIGHT * connections_max).max(128 << 10),
                segments_max: (IN_FLIGHT * connections_max).max(128 << 10),
                segments_per_connection_max: 1024,
                out_of_order_max: (connections_max / 16).clamp(1024, 16_384),
                out_of_order_per_connection_max: 64,
            },
            connection: ConnectionLimits {
                send_queue_bytes_max: 1 << 20,
                flight_bytes_max: 1 << 20,
                window_max: 256 << 10,
                mss_max: u16::MAX,
                copy_break: 256,
                user_timeout_ms: 0,
            },
            timeouts: Timeouts {
                delayed_ack_ms: 40,
                time_wait_ms: 60_000,
                fin_wait_2_ms: 60_000,
                orphan_ms: 240_000,
                out_of_order_ms: 60_000,
                syn_retries_max: 5,
                retries_max: 15,
                keepalive: None,
            },
            rates: Rates {
                resets_per_second: 10_000,
                duplicate_acks_per_second: 100_000,
                timers_per_poll_max: 256,
            },
            ephemeral_ports: EphemeralPorts::default(),
            timestamps: true,
            sack: true,
        }
    }

    /// Control blocks in all.
    pub(crate) fn blocks_max(&self) -> usize {
        self.tables.connections_max + self.tables.orphans_max
    }

    /// Flows in all.
    pub(crate) fn flows_max(&self) -> usize {
        self.blocks_max() + self.tables.half_open_max + self.tables.time_wait_max
    }

    /// Our window scale: the smallest that can express [`ConnectionLimits::window_max`].
    pub(crate) fn window_scale(&self) -> u8 {
        (0..14).find(|shift| self.connection.window_max >> shift <= 0xffff).unwrap_or(14)
    }

    /// Bytes of reserved address space, by owner. Pages become resident when they are first used.
    pub fn memory(&self) -> [(&'static str, usize); 13] {
        let lists = 2 * size_of::<u32>() + 2 * size_of::<u64>() + size_of::<u64>();
        [
            ("control blocks", self.tables.connections_max * size_of::<ControlBlock>()),
            ("closed connections", self.tables.orphans_max * size_of::<ControlBlock>()),
            ("flow table", self.flows_max() * FlowTable::BYTES_PER_FLOW),
            ("active blocks", self.tables.active_max * FixedSlab::<Active>::BYTES_PER_SLOT),
            (
                "queued pieces",
                (self.blocks_max() + self.stores.pieces_max + self.stores.flight_pieces_max)
                    * netpoll::PIECE_BYTES,
            ),
            (
                "segments in flight",
                (self.blocks_max() + self.stores.segments_max) * FixedSlab::<SentSegment>::BYTES_PER_SLOT,
            ),
            ("out-of-order segments", self.stores.out_of_order_max * FixedSlab::<Kept>::BYTES_PER_SLOT),
            ("payloads put back", self.tables.unread_max * Unread::BYTES_PER_PAYLOAD),
            ("half-open connections", self.tables.half_open_max * FixedSlab::<HalfOpen>::BYTES_PER_SLOT),
            ("TIME-WAIT records", self.tables.time_wait_max * size_of::<TimeWaitRecord>()),
            ("free lists", self.blocks_max() * size_of::<u32>()),
            ("turn lists", self.blocks_max() * lists),
            ("timer wheel", crate::tcp::tables::wheel::Wheel::BYTES),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_idle_connections_fit_the_budget() {
        let config = TcpConfig::new(1_000_000);
        let resident: usize = config
            .memory()
            .iter()
            .filter(|(owner, _)| {
                ["control blocks", "flow table", "free lists", "timer wheel"].contains(owner)
            })
            .map(|(_, bytes)| bytes)
            .sum();
        assert!(resident < 170 << 20, "{} MiB", resident >> 20);
    }

    #[test]
    fn ephemeral_ports_stay_in_their_range() {
        for ports in [EphemeralPorts::default(), EphemeralPorts::ALL, EphemeralPorts { first: 0, count: 0 }] {
            let last = ports.first.max(1) + (ports.count.max(1) - 1);
            let all: Vec<u16> = (0..u32::from(ports.count.max(1))).map(|place| ports.at(place)).collect();
            assert_eq!((all[0], all[all.len() - 1]), (ports.first.max(1), last));
            assert_eq!(ports.at(u32::from(ports.count.max(1))), all[0]);
        }
        let beyond = EphemeralPorts { first: 65_000, count: 10_000 };
        assert!((0..20_000).all(|place| beyond.at(place) >= 65_000));
    }

    #[test]
    fn the_window_scale_is_the_smallest_that_does() {
        let scale = |window_max| {
            let mut config = TcpConfig::new(1);
            config.connection.window_max = window_max;
            config.window_scale()
        };
        assert_eq!((scale(65_535), scale(65_536), scale(256 << 10), scale(u32::MAX)), (0, 1, 3, 14));
    }
}
