//! The fuzz body: arbitrary frames in every state of a connection. An assertion fails when an
//! invariant does not hold.
//!
//! A plain function: `cargo test` runs it over drawn inputs, and `fuzz/` under a fuzzer. An input
//! is a list of operations. Its first byte selects the family, the engine's options, and the state
//! that a connection is brought to. Each operation is a segment with fields near the correct ones,
//! an ICMP error that quotes one, a false neighbor advertisement, raw bytes as a frame or behind
//! valid headers, a call of the owner, or time.

mod peer;

use crate::device::Received;
use crate::iface::InterfaceConfig;
use crate::stack::{Event, ListenLimits, Stack, StackConfig};
use crate::tcp::{Keepalive, TcpConfig};
use crate::wire::tcp::{Flags, Options};
use netpoll::{ConnectionId, PoolSize, PoolsConfig, Timestamp};
use peer::{Family, IRS, OWN_MAC, PEER_MAC, Tap};
use std::net::SocketAddr;
use std::time::Duration;

/// Operations of one input at most.
const OPERATIONS_MAX: usize = 64;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn bytes(&mut self, size: usize) -> &[u8] {
        let (bytes, rest) = self.0.split_at(size.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

struct World {
    stack: Stack,
    tap: Tap,
    now: Timestamp,
    id: Option<ConnectionId>,
    family: Family,
    /// The peer's next sequence number.
    next: u32,
    ports: (u16, u16),
}

impl World {
    fn new(choice: u8) -> World {
        let family = Family::new(choice & 8 != 0);
        let mut interface = InterfaceConfig::new(OWN_MAC, family.own(), family.prefix());
        interface.detect_duplicates = choice & 0x40 != 0;
        let mut tcp = TcpConfig::new(4);
        tcp.tables.orphans_max = 2;
        tcp.tables.half_open_max = if choice & 0x20 != 0 { 0 } else { 4 };
        tcp.tables.time_wait_max = 2;
        tcp.stores.out_of_order_max = 4;
        tcp.stores.segments_max = 8;
        tcp.stores.pieces_max = 4;
        tcp.stores.flight_pieces_max = 8;
        tcp.tables.active_max = 3;
        tcp.timeouts.retries_max = 8;
        tcp.timeouts.keepalive = Some(Keepalive { idle_ms: 500, interval_ms: 100, probes_max: 2 });
        tcp.sack = choice & 0x10 == 0;
        let pools = PoolsConfig {
            receive: PoolSize { size: 1536, count: 8 },
            blocks: vec![PoolSize { size: 256, count: 8 }, PoolSize { size: 4096, count: 8 }],
            huge_pages: false,
        };
        let config = StackConfig { interface, tcp, pools, receive_reserve: 3 };
        let now = Timestamp::from_nanos(1_000_000_000);
        let mut stack = Stack::new(&config, [1, 2], now).expect("the configuration is right");
        stack.set_neighbor(family.peer(), PEER_MAC, now);
        let limits = ListenLimits { user_timeout_ms: 3000, flight_bytes_max: 8192, window_max: 16_384 };
        stack.listen(SocketAddr::new(family.own(), 80), 2, limits).expect("a free port");
        World { stack, tap: Tap::default(), now, id: None, family, next: IRS, ports: (80, 4000) }
    }

    fn poll(&mut self) {
        self.stack.poll(self.now, &mut self.tap);
        while let Some(event) = self.stack.next_event() {
            match event {
                Event::Accepted { connection, .. } | Event::Connected { connection } => {
                    self.id = Some(connection)
                }
                Event::Closed { connection, .. } if self.id == Some(connection) => self.id = None,
                _ => {}
            }
        }
        self.stack.invariants();
    }

    fn put(&mut self, flags: Flags, sequence: u32, ack: u32, options: Options, size: usize, window: u16) {
        let frame = self.family.segment(self.ports, flags, (sequence, ack), options, (size, window));
        self.hand_in(&frame);
    }

    fn hand_in(&mut self, frame: &[u8]) {
        if let Some(mut buffer) = self.stack.pools().take_receive() {
            buffer.append(frame);
            self.stack.handle_frame(self.now, Received { buffer, checksums_verified: false });
        }
    }

    fn right(&mut self, flags: Flags, size: usize) {
        let options =
            Options { timestamp: Some((self.now.as_millis() as u32, self.tap.stamp)), ..Options::default() };
        let ack = self.tap.sequence;
        self.put(flags, self.next, ack, options, size, 8000);
        self.next = self.next.wrapping_add(size as u32 + u32::from(flags.has(Flags::SYN.with(Flags::FIN))));
        self.poll();
    }

    /// Brings a connection to one of eight states.
    fn prepare(&mut self, state: u8) {
        let syn = Options {
            mss: Some(1460),
            sack_permitted: true,
            timestamp: Some((1, 0)),
            window_scale: Some(2),
            ..Options::default()
        };
        if state == 0 {
            let _ = self.stack.connect(self.now, None, SocketAddr::new(self.family.peer(), 80));
            self.poll();
            // With duplicate address detection nothing has left yet, and the ports are not known.
            self.ports = self.tap.ports.unwrap_or(self.ports);
            return;
        }
        self.put(Flags::SYN, self.next, 0, syn, 0, 8000);
        self.next = self.next.wrapping_add(1);
        self.poll();
        if state == 1 {
            return;
        }
        self.right(Flags::ACK, 0);
        match state {
            3 => self.send(3000),
            4 => self.finish(),
            5 => {
                self.finish();
                self.right(Flags::ACK, 0);
            }
            6 => {
                self.send(6000);
                self.right(Flags::ACK.with(Flags::FIN), 10);
            }
            7 => {
                self.finish();
                self.right(Flags::ACK.with(Flags::FIN), 0);
            }
            _ => {}
        }
    }

    fn send(&mut self, size: usize) {
        if let (Some(id), Some(mut buffer)) = (self.id, self.stack.pools().take(size.min(4096))) {
            buffer.set_len(size.min(4096));
            let _ = self.stack.send(self.now, id, buffer.freeze());
        }
        self.poll();
    }

    fn finish(&mut self) {
        if let Some(id) = self.id {
            self.stack.finish(self.now, id, None);
        }
        self.poll();
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => self.right(Flags::ACK, usize::from(input.byte())),
            1 => self.right(Flags::ACK.with(Flags::FIN), 0),
            2 => self.send(1 + usize::from(input.byte()) * 16),
            3 => self.finish(),
            4 => {
                if let Some(id) = self.id {
                    self.stack.close(self.now, id);
                }
            }
            5 => self.now = self.now + Duration::from_millis(u64::from(input.byte()) * 8),
            6 => self.now = self.now + Duration::from_secs(u64::from(input.byte())),
            7 => {
                let size = usize::from(input.byte());
                let bytes = input.bytes(size).to_vec();
                self.hand_in(&bytes);
            }
            8 => {
                // Raw upper-layer bytes behind valid headers for this host, mostly with a correct
                // checksum.
                let (protocol, size) = (input.byte(), usize::from(input.byte()));
                let mut payload = input.bytes(size).to_vec();
                let frame = self.family.raw(protocol, &mut payload);
                self.hand_in(&frame);
            }
            9 => self.stack.set_accepting(input.byte() & 1 == 0),
            10 => self.icmp_error(input),
            11 => self.discovery(input),
            _ => self.near(input),
        }
        self.poll();
    }

    /// A segment with fields near the correct ones.
    fn near(&mut self, input: &mut Input<'_>) {
        let flags = Flags(input.byte() & 0x1f);
        let offset = |input: &mut Input<'_>| match input.byte() % 4 {
            0 => 0,
            1 => i32::from(input.byte() as i8) as u32,
            2 => (i32::from(input.byte() as i8) * 100) as u32,
            _ => input.word(),
        };
        let sequence = self.next.wrapping_add(offset(input));
        let ack = self.tap.sequence.wrapping_add(offset(input));
        let mut options = Options::default();
        let choice = input.byte();
        if choice & 1 == 0 {
            options.timestamp =
                Some(((self.now.as_millis() as u32).wrapping_add(offset(input)), input.word()));
        }
        if choice & 2 != 0 {
            options.sack_count = 1 + input.byte() % 3;
            for place in &mut options.sack {
                let left = self.tap.sequence.wrapping_sub(u32::from(input.byte()) * 40);
                *place = (left, left.wrapping_add(offset(input)));
            }
        }
        if choice & 4 != 0 {
            options.mss = Some(input.word() as u16);
            options.window_scale = Some(input.byte());
        }
        let size = usize::from(input.byte()) * 5;
        let window = input.word() as u16;
        self.put(flags, sequence, ack, options, size, window);
    }

    /// An ICMP error that quotes a segment of the connection, or one near it.
    fn icmp_error(&mut self, input: &mut Input<'_>) {
        let (choice, code, mtu) = (input.byte(), input.byte(), input.word());
        let sequence = self.tap.sequence.wrapping_sub(u32::from(input.byte()) * 16);
        let frame = self.family.error((choice & 3, code), mtu, self.ports, sequence);
        self.hand_in(&frame);
    }

    /// A request or a reply of a neighbor, true or false.
    fn discovery(&mut self, input: &mut Input<'_>) {
        let frame = self.family.discovery(input.byte(), input.byte());
        self.hand_in(&frame);
    }

    /// Whatever happened: a connection that is closed and left alone ends, and nothing is left.
    fn end(mut self) {
        self.stack.set_accepting(true);
        for _ in 0..4000 {
            if let Some(id) = self.id {
                self.stack.close(self.now, id);
            }
            // Nothing happens before the next timer. Operation 6 covers timers that fire late.
            let wait = self.stack.next_timer(self.now).unwrap_or(Duration::ZERO);
            self.now = self.now + wait.max(Duration::from_millis(1));
            self.poll();
            if self.stack.is_empty() && !self.stack.has_output() {
                return;
            }
        }
        panic!("something is left: {}", self.stack.debug());
    }
}

/// Runs frames, calls and time, in any order.
pub fn frames(input: &[u8]) {
    let mut input = Input(input);
    let choice = input.byte();
    let mut world = World::new(choice);
    world.poll();
    world.prepare(choice & 7);
    for _ in 0..OPERATIONS_MAX {
        if input.0.is_empty() {
            break;
        }
        world.operate(&mut input);
    }
    world.end();
}

#[cfg(test)]
mod tests {
    use netpoll::sim::Rng;

    /// The inputs that a fuzzer kept, and each of them again with its end cut off.
    #[test]
    fn the_corpus_holds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
        let entries = std::fs::read_dir(&folder).expect("a corpus");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        assert!(paths.len() >= 50, "a corpus of {} in {}", paths.len(), folder.display());
        for path in paths {
            let input = std::fs::read(&path).expect("a file");
            for size in [input.len() / 4, input.len() / 2, input.len()] {
                let run = || super::frames(&input[..size]);
                assert!(std::panic::catch_unwind(run).is_ok(), "{} to byte {size}", path.display());
            }
        }
    }

    /// `TCP_FUZZ=n` runs n inputs.
    #[test]
    fn drawn_inputs_hold() {
        let count = std::env::var("TCP_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
        for seed in 0..count {
            let mut rng = Rng::new(seed);
            let size = 8 + rng.below(400);
            let input: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
            let run = || super::frames(&input);
            assert!(std::panic::catch_unwind(run).is_ok(), "seed {seed}: {input:02x?}");
        }
    }
}
