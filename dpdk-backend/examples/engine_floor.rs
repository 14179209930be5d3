//! The cost of the engine alone, without a port: `engine_floor [CONNECTIONS] [ROUNDS]`.
//!
//! Two stacks in one thread. Only the server's calls are timed, by burst: frames in, events, sends,
//! frames out. Prints nanoseconds for a handshake, an echo of 64 bytes and a delivery of a fan-out,
//! and the resident memory of the server's connections.

use dpdk_backend::device::{Device, DeviceFull, Frame, Loopback, Received};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::{ACTIVE_BLOCK_BYTES, CONTROL_BLOCK_BYTES, FLOW_BYTES, TcpConfig};
use dpdk_backend::wire::Mac;
use dpdk_backend::{Event, ListenLimits, Stack, StackConfig};
use netpoll::sim::Rng;
use netpoll::{BufferPools, ConnectionId, PoolSize, PoolsConfig, Timestamp};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const BURST: usize = 32;

/// A device that drops every frame.
struct Sink(u64);

impl Device for Sink {
    fn receive_burst(&mut self, _: Timestamp, _: &mut BufferPools, _: &mut Vec<Received>) {}

    fn transmit(&mut self, _: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        self.0 += frame.size() as u64;
        Ok(())
    }

    fn transmit_burst(&mut self, _: Timestamp) {}
}

fn stack(number: u8, addresses: u8, connections: usize) -> Stack {
    let mut interface =
        InterfaceConfig::new(Mac([2, 0, 0, 0, 0, number]), IpAddr::from([10, number, 0, 1]), 8);
    for more in 2..=addresses {
        let ip = IpAddr::from([10, number, 0, more]);
        interface.addresses.push(dpdk_backend::iface::AddressConfig { ip, prefix_length: 8 });
    }
    let mut tcp = TcpConfig::new(connections);
    tcp.tables.half_open_per_network_max = u16::MAX;
    let pools = PoolsConfig {
        receive: PoolSize { size: 2048, count: 4096 },
        blocks: vec![PoolSize { size: 256, count: 4096 }],
        huge_pages: false,
    };
    let config = StackConfig { interface, tcp, pools, receive_reserve: 64 };
    Stack::new(&config, [1, u64::from(number)], Timestamp::ZERO).expect("memory")
}

struct Server {
    stack: Stack,
    end: Loopback,
    frames: Vec<Received>,
    live: Vec<ConnectionId>,
    spent: Duration,
}

impl Server {
    /// Handles received frames, echoes, sends.
    fn turn(&mut self, now: Timestamp) {
        self.end.receive_burst(now, self.stack.pools(), &mut self.frames);
        while !self.frames.is_empty() {
            let start = Instant::now();
            self.stack.handle_burst(now, &mut self.frames);
            while let Some(event) = self.stack.next_event() {
                match event {
                    Event::Accepted { connection, .. } => self.live.push(connection),
                    Event::Received { connection, buffer } => {
                        let _ = self.stack.send(now, connection, buffer.freeze());
                    }
                    _ => {}
                }
            }
            self.stack.poll(now, &mut self.end);
            self.spent += start.elapsed();
            self.end.receive_burst(now, self.stack.pools(), &mut self.frames);
        }
    }
}

/// Nanoseconds of processor time of this thread, which a busy machine does not distort.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn client_turn(client: &mut Stack, end: &mut Loopback, frames: &mut Vec<Received>, now: Timestamp) -> usize {
    let mut received = 0;
    client.poll(now, end);
    loop {
        end.receive_burst(now, client.pools(), frames);
        if frames.is_empty() {
            client.poll(now, end);
            return received;
        }
        client.handle_burst(now, frames);
        while let Some(event) = client.next_event() {
            received += usize::from(matches!(event, Event::Received { .. }));
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let connections = arguments.next().unwrap_or(20_000);
    let rounds = arguments.next().unwrap_or(2_000_000 / BURST);
    println!(
        "control block {CONTROL_BLOCK_BYTES} B, flow {FLOW_BYTES} B, active block {ACTIVE_BLOCK_BYTES} B"
    );
    let (a, mut b) = Loopback::pair(1024);
    let before = resident();
    let mut server = Server {
        stack: stack(1, 1, connections),
        end: a,
        frames: Vec::with_capacity(BURST),
        live: Vec::with_capacity(connections),
        spent: Duration::ZERO,
    };
    let mut client = stack(2, 60, connections);
    let mut frames = Vec::with_capacity(BURST);
    let address = SocketAddr::from(([10, 1, 0, 1], 80));
    let limits = ListenLimits { user_timeout_ms: 0, flight_bytes_max: 1 << 20, window_max: 1 << 18 };
    server.stack.listen(address, 4096, limits).expect("a free port");
    let mut now = Timestamp::from_nanos(1_000_000_000);
    let mut ids = Vec::with_capacity(connections);
    while ids.len() < connections {
        for _ in 0..BURST.min(connections - ids.len()) {
            let local = SocketAddr::from(([10, 2, 0, 1 + (ids.len() / 25_000) as u8], 0));
            ids.push(client.connect(now, Some(local), address).expect("room"));
        }
        for _ in 0..3 {
            client_turn(&mut client, &mut b, &mut frames, now);
            server.turn(now);
            now = now + Duration::from_micros(50);
        }
    }
    assert_eq!(server.live.len(), connections);
    println!("handshake: {} ns of the server's time", server.spent.as_nanos() / connections as u128);
    println!(
        "both hosts together: {} B of resident memory a connection",
        (resident() - before) / connections as u64
    );
    echo(&mut server, &mut client, &mut b, &ids, rounds, &mut now);
    fan_out(&mut server, now);
}

fn echo(
    server: &mut Server,
    client: &mut Stack,
    end: &mut Loopback,
    ids: &[ConnectionId],
    rounds: usize,
    now: &mut Timestamp,
) {
    let (mut rng, mut frames) = (Rng::new(1), Vec::with_capacity(BURST));
    server.spent = Duration::ZERO;
    let before = cpu_ns();
    let mut echoes = 0;
    for _ in 0..rounds {
        for _ in 0..BURST {
            let Some(mut buffer) = client.pools().take(64) else {
                panic!("no block: {:?}", client.counters().iter().filter(|c| c.1 > 0).collect::<Vec<_>>());
            };
            buffer.set_len(64);
            let _ = client.send(*now, ids[rng.below(ids.len())], buffer.freeze());
        }
        client.poll(*now, end);
        server.turn(*now);
        echoes += client_turn(client, end, &mut frames, *now);
        server.turn(*now);
        // Acknowledgements delayed by 40 ms are sent in time.
        *now = *now + Duration::from_millis(1);
    }
    let each = server.spent.as_nanos() / echoes.max(1) as u128;
    let cpu = (cpu_ns() - before) / echoes.max(1) as u64;
    println!(
        "echo of 64 B over {} random connections: {each} ns of the server's time, {cpu} ns of processor for both hosts",
        ids.len()
    );
}

fn fan_out(server: &mut Server, now: Timestamp) {
    let mut sink = Sink(0);
    let now = now + Duration::from_secs(10);
    server.stack.poll(now, &mut sink);
    let mut buffer = server.stack.pools().take(256).expect("a block");
    buffer.set_len(256);
    let all = buffer.freeze();
    let free = |stack: &mut Stack| stack.pools().block_levels().map(|level| level.free).sum::<u32>();
    let before = free(&mut server.stack);
    let start = cpu_ns();
    let mut sent = 0;
    for chunk in server.live.chunks(2048) {
        for id in chunk {
            sent += usize::from(server.stack.send(now, *id, all.clone()).is_ok());
        }
        server.stack.poll(now, &mut sink);
    }
    let each = (cpu_ns() - start) / sent.max(1) as u64;
    let used = before - free(&mut server.stack);
    println!(
        "fan-out of 256 B to {sent}: {each} ns a delivery, {used} blocks more in use, {} B on the line",
        sink.0
    );
}
