//! Storms of hostile frames: they cost established connections nothing, and no table grows.

use dpdk_backend::device::{Device, Loopback, Received};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::TcpConfig;
use dpdk_backend::wire::arp::{Arp, Operation};
use dpdk_backend::wire::checksum::Sum;
use dpdk_backend::wire::ethernet::{self, Ethernet};
use dpdk_backend::wire::ipv4::{self, Ipv4};
use dpdk_backend::wire::tcp::{Flags, Options, Tcp};
use dpdk_backend::wire::{Ip, Mac};
use dpdk_backend::{Event, ListenLimits, Stack, StackConfig};
use netpoll::sim::Rng;
use netpoll::{BackendConfig, ConnectionId, Timestamp};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SERVER: [u8; 4] = [10, 0, 0, 1];
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn stack(ip: [u8; 4], end: u8) -> Stack {
    let interface = InterfaceConfig::new(Mac([2, 0, 0, 0, 0, end]), IpAddr::from(ip), 8);
    let tcp = TcpConfig::new(64);
    let mut pools = BackendConfig::small(1).pools;
    pools.receive.size = 2048;
    let config = StackConfig { interface, tcp, pools, receive_reserve: 64 };
    Stack::new(&config, [5, u64::from(end)], Timestamp::ZERO).expect("pools")
}

/// A server with one well-behaved client. The attacker's frames are handed in directly.
struct Scene {
    server: Stack,
    client: Stack,
    ends: (Loopback, Loopback),
    now: Timestamp,
    rng: Rng,
    id: Option<ConnectionId>,
    /// Bytes that came back.
    echoes: usize,
}

impl Scene {
    fn new() -> Scene {
        let (a, b) = Loopback::pair(4096);
        let mut scene = Scene {
            server: stack(SERVER, 1),
            client: stack([10, 0, 0, 2], 2),
            ends: (a, b),
            now: Timestamp::from_nanos(1_000_000_000),
            rng: Rng::new(6),
            id: None,
            echoes: 0,
        };
        let limits = ListenLimits { user_timeout_ms: 0, flight_bytes_max: 1 << 20, window_max: 1 << 18 };
        let address = SocketAddr::from((SERVER, 80));
        scene.server.listen(address, 16, limits).expect("a free port");
        scene.client.connect(scene.now, None, address).expect("connecting starts");
        (0..10).for_each(|_| scene.turn());
        assert!(scene.id.is_some());
        scene
    }

    fn turn(&mut self) {
        let mut frames = Vec::with_capacity(32);
        self.ends.0.receive_burst(self.now, self.server.pools(), &mut frames);
        self.server.handle_burst(self.now, &mut frames);
        while let Some(event) = self.server.next_event() {
            if let Event::Received { connection, buffer } = event {
                self.server.send(self.now, connection, buffer.freeze()).expect("room");
            }
        }
        self.server.poll(self.now, &mut self.ends.0);
        // The cable carries the answers to the attacker, too.
        while self.ends.1.waiting() > 0 {
            self.ends.1.receive_burst(self.now, self.client.pools(), &mut frames);
            self.client.handle_burst(self.now, &mut frames);
        }
        while let Some(event) = self.client.next_event() {
            match event {
                Event::Connected { connection } => self.id = Some(connection),
                Event::Received { buffer, .. } => self.echoes += buffer.len(),
                Event::Closed { reason, .. } => panic!("closed: {reason:?}"),
                _ => {}
            }
        }
        self.client.poll(self.now, &mut self.ends.1);
        self.now = self.now + Duration::from_micros(200);
    }

    /// The storm: `count` frames a turn, and a message of the client every turn, all of which are
    /// echoed.
    fn storm(&mut self, turns: usize, count: usize, frame: fn(&mut Rng) -> Vec<u8>) {
        let before = self.echoes;
        for _ in 0..turns {
            for _ in 0..count {
                let bytes = frame(&mut self.rng);
                let Some(mut buffer) = self.server.pools().take_receive() else { continue };
                buffer.append(&bytes);
                self.server.handle_frame(self.now, Received { buffer, checksums_verified: false });
            }
            let mut buffer = self.client.pools().take(64).expect("a block");
            buffer.set_len(64);
            self.client.send(self.now, self.id.expect("connected"), buffer.freeze()).expect("room");
            self.turn();
        }
        for _ in 0..600 {
            self.turn();
        }
        self.server.invariants();
        assert_eq!(self.echoes - before, 64 * turns, "{:?}", self.server.counters());
        assert_eq!(self.server.connection_count(), 1);
        let level = self.server.pools().receive_level();
        assert_eq!(level.free, level.count, "no buffer stays with strangers");
    }
}

fn stranger(rng: &mut Rng) -> [u8; 4] {
    [11 + rng.below(100) as u8, rng.below(256) as u8, rng.below(256) as u8, 1 + rng.below(254) as u8]
}

fn segment(rng: &mut Rng, from: [u8; 4], flags: Flags, destination_port: u16, size: usize) -> Vec<u8> {
    let header = Tcp {
        source_port: 1 + rng.below(65_000) as u16,
        destination_port,
        sequence: rng.next_u64() as u32,
        acknowledgement: rng.next_u64() as u32,
        flags,
        window: 65_535,
        header_size: 0,
        options: Options { mss: flags.has(Flags::SYN).then_some(1460), ..Options::default() },
    };
    let mut bytes = vec![0; 60];
    let header_size = header.emit(&mut bytes);
    bytes.resize(header_size.max(header_size + size), 0);
    bytes.truncate(header_size + size);
    let pseudo = Sum::ZERO.pseudo_header(Ip::from_v4(from), Ip::from_v4(SERVER), ipv4::TCP, bytes.len());
    let sum = pseudo.bytes(&bytes).finish();
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(from, ipv4::TCP, &bytes)
}

fn packet(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 34];
    let source_mac = Mac([2, 0, 0, 0, 9, 9]);
    Ethernet { destination: SERVER_MAC, source: source_mac, ether_type: ethernet::IPV4 }.emit(&mut frame);
    let header = Ipv4 {
        source,
        destination: SERVER,
        protocol,
        hop_limit: 64,
        payload_size: payload.len() as u16,
        header_size: 20,
        is_fragment: false,
    };
    header.emit(&mut frame[14..]);
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn a_syn_flood_is_answered_with_cookies() {
    let mut scene = Scene::new();
    scene.storm(500, 64, |rng| {
        let from = stranger(rng);
        segment(rng, from, Flags::SYN, 80, 0)
    });
    let counters = *scene.server.counters();
    assert!(counters.cookies_sent > 1000 && scene.server.levels()[1] <= 1024, "{counters:?}");
}

#[test]
fn acks_resets_and_data_of_strangers_cost_a_rate_of_resets() {
    let mut scene = Scene::new();
    scene.storm(500, 64, |rng| {
        let from = stranger(rng);
        let flags =
            [Flags::ACK, Flags::RST, Flags::FIN.with(Flags::ACK), Flags::SYN.with(Flags::ACK)][rng.below(4)];
        let port = [80, 81][rng.below(2)];
        let size = rng.below(100);
        segment(rng, from, flags, port, size)
    });
    assert!(scene.server.counters().resets_limited > 0, "{:?}", scene.server.counters());
}

#[test]
fn martians_fragments_and_nonsense_are_dropped_by_reason() {
    let mut scene = Scene::new();
    scene.storm(300, 64, |rng| {
        let from =
            [[127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], SERVER, [0, 0, 0, 0], [10, 255, 255, 255]];
        let from = from[rng.below(6)];
        match rng.below(3) {
            0 => segment(rng, from, Flags::SYN, 80, 0),
            1 => {
                let mut frame = packet(stranger(rng), ipv4::TCP, &[0; 40]);
                frame[20] = 0x20; // more fragments
                frame[24..26].fill(0);
                let sum = Sum::ZERO.bytes(&frame[14..34]).finish();
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                frame
            }
            _ => (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect(),
        }
    });
    let counters = scene.server.counters();
    assert!(counters.drop_martian > 1000 && counters.drop_fragment > 1000, "{counters:?}");
}

#[test]
fn an_arp_storm_moves_no_neighbor_in_use() {
    let mut scene = Scene::new();
    scene.storm(300, 64, |rng| {
        let claims_client = rng.below(4) == 0;
        let arp = Arp {
            operation: if rng.below(2) == 0 { Operation::Request } else { Operation::Reply },
            sender_mac: Mac([2, 9, rng.below(256) as u8, rng.below(256) as u8, 0, 9]),
            sender_ip: if claims_client {
                [10, 0, 0, 1]
            } else {
                [10, 7, rng.below(256) as u8, rng.below(256) as u8]
            },
            target_mac: SERVER_MAC,
            target_ip: SERVER,
        };
        let mut frame = vec![0; 60];
        Ethernet { destination: SERVER_MAC, source: arp.sender_mac, ether_type: ethernet::ARP }
            .emit(&mut frame);
        arp.emit(&mut frame[14..]);
        frame
    });
    assert!(scene.server.counters().arp_conflicts > 0);
}
