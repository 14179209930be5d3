//! Sizes and habits of the engine, and the sum of its memory by owner.

use crate::tcp::tables::active::Active;
use crate::tcp::tables::control_block::ControlBlock;
use crate::tcp::tables::flow_table::FlowTable;
use crate::tcp::tables::out_of_order::Kept;
use crate::tcp::tables::scoreboard::SentSegment;
use crate::tcp::tables::syn_cache::HalfOpen;
use crate::tcp::tables::time_wait::TimeWaitRecord;
use crate::tcp::tables::unread::Unread;
use netpoll::FixedSlab;

/// How often an unanswered connection is asked whether it is still there (RFC 9293, 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe, in milliseconds.
    pub idle_ms: u32,
    /// Between probes, in milliseconds.
    pub interval_ms: u32,
    /// Probes without an answer before the connection is given up.
    pub probes_max: u8,
}

/// Ports that active opens take, in the order of RFC 6056, 3.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EphemeralPorts {
    /// The lowest; at least 1.
    pub first: u16,
    /// How many, from it on; those above 65 535 do not count.
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

/// Pieces, and segments, in flight for each connection, on average, that the defaults have room for.
const IN_FLIGHT: usize = 4;

/// What the engine is made with. Every table is reserved from it at once.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Connections of the owner at most; further peers wait half-open or in the backlog.
    pub connections_max: usize,
    /// Connections at most that their owner has closed and that still say goodbye; further ones are reset.
    pub orphans_max: usize,
    /// Half-open connections at most; further ones are answered with cookies.
    pub half_open_max: usize,
    /// Half-open connections of one /24 (IPv6: /64) at most.
    pub half_open_per_network_max: u16,
    /// TIME-WAIT records at most; the oldest makes room.
    pub time_wait_max: usize,
    /// Connections at most with something in flight, queued or out of order at the same time.
    pub active_max: usize,
    /// Pieces that all connections share for what waits to be sent, beside one for every connection that nothing else can take.
    pub pieces_max: usize,
    /// Pieces that are added to those for what waits to be acknowledged.
    pub flight_pieces_max: usize,
    /// Segments in flight that all connections share, beside one for every connection that nothing else can take.
    pub segments_max: usize,
    /// Segments in flight at most for one connection: what one acknowledgement may have to look at.
    pub segments_per_connection_max: u32,
    /// Out-of-order segments kept at most, over all connections.
    pub out_of_order_max: usize,
    /// Out-of-order segments kept at most for one connection.
    pub out_of_order_per_connection_max: u16,
    /// Payloads that the owner may have given back at once: as many as it may hold receive buffers.
    pub put_back_max: usize,
    /// Bytes queued or in flight for one connection at most.
    pub send_queue_bytes_max: usize,
    /// Bytes in flight for one connection at most, whatever its windows allow.
    pub flight_bytes_max: u32,
    /// The receive window of one connection at most, in bytes.
    pub window_max: u32,
    /// The largest segment that we ask for, in bytes of payload, where the link would carry more.
    pub mss_max: u16,
    /// Payloads up to this size are copied to a right-sized block when they have to be kept.
    pub copy_break: usize,
    /// How long an acknowledgement may wait for company, in milliseconds (RFC 9293, MUST-58: below 500).
    pub delayed_ack_ms: u32,
    /// How long a TIME-WAIT record is kept, in milliseconds (2 MSL).
    pub time_wait_ms: u32,
    /// How long a closed connection waits for its peer's FIN, in milliseconds, whatever else comes.
    pub fin_wait_2_ms: u32,
    /// How long a closed connection may take until its last bytes and FIN are acknowledged, in milliseconds, however slowly that goes on.
    pub orphan_ms: u32,
    /// How long segments are kept that came ahead of a gap which is not filled, in milliseconds (RFC 2018, 8 lets them go).
    pub out_of_order_ms: u32,
    /// SYN or SYN-ACK retransmissions at most.
    pub syn_retries_max: u8,
    /// Retransmission timeouts in a row at most, where no user timeout is set (RFC 9293, R2).
    pub retries_max: u8,
    /// How long sent bytes may stay unacknowledged (RFC 5482), in milliseconds; 0: [`TcpConfig::retries_max`] decides.
    /// Listeners have their own.
    pub user_timeout_ms: u32,
    /// Ports that active opens take.
    pub ephemeral_ports: EphemeralPorts,
    /// Keepalive, if any.
    pub keepalive: Option<Keepalive>,
    /// Timestamps are offered and accepted (RFC 7323).
    pub timestamps: bool,
    /// Selective acknowledgements are offered and accepted (RFC 2018).
    pub sack: bool,
    /// Resets a second at most, on average.
    pub resets_per_second: u32,
    /// Acknowledgements of old segments a second at most, on average.
    pub duplicate_acks_per_second: u32,
    /// Timers that one poll fires at most.
    pub timers_per_poll_max: usize,
}

impl TcpConfig {
    /// Sizes for `connections_max` connections, the habits of Linux.
    pub fn new(connections_max: usize) -> TcpConfig {
        // All may be closed at once: time ends them. Beyond 65 536 a quarter of them may.
        let orphans_max = (connections_max / 4).max(connections_max.min(1 << 16)).max(64);
        TcpConfig {
            connections_max,
            orphans_max,
            half_open_max: connections_max.clamp(1024, 16_384),
            half_open_per_network_max: 4096,
            time_wait_max: (connections_max / 8).clamp(1024, 65_536),
            active_max: connections_max + orphans_max,
            pieces_max: connections_max.max(16 << 10),
            // Peers that acknowledge late keep some of each; what is reserved here is touched as it is used.
            flight_pieces_max: (IN_FLIGHT * connections_max).max(128 << 10),
            segments_max: (IN_FLIGHT * connections_max).max(128 << 10),
            segments_per_connection_max: 1024,
            out_of_order_max: (connections_max / 16).clamp(1024, 16_384),
            out_of_order_per_connection_max: 64,
            put_back_max: 1024,
            send_queue_bytes_max: 1 << 20,
            flight_bytes_max: 1 << 20,
            window_max: 256 << 10,
            mss_max: u16::MAX,
            copy_break: 256,
            delayed_ack_ms: 40,
            time_wait_ms: 60_000,
            fin_wait_2_ms: 60_000,
            orphan_ms: 240_000,
            out_of_order_ms: 60_000,
            syn_retries_max: 5,
            retries_max: 15,
            user_timeout_ms: 0,
            ephemeral_ports: EphemeralPorts::default(),
            keepalive: None,
            timestamps: true,
            sack: true,
            resets_per_second: 10_000,
            duplicate_acks_per_second: 100_000,
            timers_per_poll_max: 256,
        }
    }

    /// Control blocks in all.
    pub(crate) fn blocks_max(&self) -> usize {
        self.connections_max + self.orphans_max
    }

    /// Flows in all.
    pub(crate) fn flows_max(&self) -> usize {
        self.blocks_max() + self.half_open_max + self.time_wait_max
    }

    /// Our window scale: the smallest that can say [`TcpConfig::window_max`].
    pub(crate) fn window_scale(&self) -> u8 {
        (0..14).find(|shift| self.window_max >> shift <= 0xffff).unwrap_or(14)
    }

    /// Bytes of address space reserved, by owner. Pages become resident as they are first used.
    pub fn memory(&self) -> [(&'static str, usize); 13] {
        let lists = 2 * size_of::<u32>() + 2 * size_of::<u64>() + size_of::<u64>();
        [
            ("control blocks", self.connections_max * size_of::<ControlBlock>()),
            ("closed connections", self.orphans_max * size_of::<ControlBlock>()),
            ("flow table", self.flows_max() * FlowTable::BYTES_PER_FLOW),
            ("active blocks", self.active_max * FixedSlab::<Active>::BYTES_PER_SLOT),
            (
                "queued pieces",
                (self.blocks_max() + self.pieces_max + self.flight_pieces_max) * netpoll::PIECE_BYTES,
            ),
            (
                "segments in flight",
                (self.blocks_max() + self.segments_max) * FixedSlab::<SentSegment>::BYTES_PER_SLOT,
            ),
            ("out-of-order segments", self.out_of_order_max * FixedSlab::<Kept>::BYTES_PER_SLOT),
            ("payloads put back", self.put_back_max * Unread::BYTES_PER_PAYLOAD),
            ("half-open connections", self.half_open_max * FixedSlab::<HalfOpen>::BYTES_PER_SLOT),
            ("TIME-WAIT records", self.time_wait_max * size_of::<TimeWaitRecord>()),
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
        let scale = |window_max| TcpConfig { window_max, ..TcpConfig::new(1) }.window_scale();
        assert_eq!((scale(65_535), scale(65_536), scale(256 << 10), scale(u32::MAX)), (0, 1, 3, 14));
    }
}
