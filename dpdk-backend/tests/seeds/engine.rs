//! Engine against engine.

use crate::host::{Host, PORT, Talk, address};
use dpdk_backend::ListenLimits;
use dpdk_backend::device::{ImpairConfig, Loopback};
use dpdk_backend::tcp::{Keepalive, TcpConfig};
use netpoll::sim::Rng;
use netpoll::{ConnectionId, Timestamp};
use netpoll_contract::Pattern;
use std::net::SocketAddr;
use std::time::Duration;

/// Virtual time that a run may take, and rounds.
const TIME_MAX: Duration = Duration::from_secs(4 * 3600);
const ROUNDS_MAX: usize = 400_000;

/// Options drawn at random.
pub(crate) fn drawn_tcp(rng: &mut Rng) -> TcpConfig {
    let mut tcp = TcpConfig::new(8);
    tcp.timestamps = rng.below(4) > 0;
    tcp.sack = rng.below(4) > 0;
    tcp.connection.window_max = 2048 << rng.below(9);
    tcp.connection.flight_bytes_max = 4096 << rng.below(9);
    tcp.timeouts.delayed_ack_ms = [0, 40, 40, 200][rng.below(4)];
    tcp.stores.out_of_order_per_connection_max = 1 << rng.below(7);
    tcp.timeouts.syn_retries_max = 7;
    tcp.connection.copy_break = [0, 256, 2048][rng.below(3)];
    tcp.stores.segments_per_connection_max = [4, 64, 1024][rng.below(3)];
    tcp.stores.segments_max = [16, 64, 4096][rng.below(3)];
    if rng.below(4) == 0 {
        tcp.timeouts.keepalive = Some(Keepalive { idle_ms: 1000, interval_ms: 500, probes_max: 20 });
    }
    if rng.below(8) == 0 {
        tcp.tables.half_open_max = 1;
    }
    tcp
}

fn connect(hosts: &mut [Host; 2], now: Timestamp, v6: bool, number: u16, rng: &mut Rng) {
    let size = |rng: &mut Rng| {
        let bits = rng.below(18);
        rng.below(1 << bits)
    };
    // A client that sends nothing, and with a last handshake segment that was lost, is unknown to a
    // server that sent a cookie.
    let (up, down) = (1 + size(rng), size(rng));
    let local = SocketAddr::new(address(2, v6), 1000 + number);
    let remote = SocketAddr::new(address(1, v6), PORT);
    let id = hosts[1].stack.connect(now, Some(local), remote).expect("connecting starts");
    let talk = |id, says: u16, total, hears: u16, expected| Talk {
        id,
        says: Pattern::new(u64::from(says)),
        queued: 0,
        total,
        hears: Pattern::new(u64::from(hears)),
        heard: 0,
        expected,
        is_open: false,
        finished: false,
        closed: None,
    };
    hosts[1].talks.push(talk(id, 2 * number, up, 2 * number + 1, down));
    // The server knows it by its port until it is accepted.
    let placeholder = ConnectionId::new(u32::from(local.port()), u32::MAX);
    hosts[0].talks.push(talk(placeholder, 2 * number + 1, down, 2 * number, up));
}

pub(crate) fn run(seed: u64) {
    let mut rng = crate::rng(seed);
    let mut now = Timestamp::from_nanos(1_000_000_000 + rng.below(1 << 40) as u64);
    let v6 = rng.below(3) == 0;
    let mtu = if v6 { 1280 + rng.below(221) } else { 576 + rng.below(925) } as u16;
    let (a, b) = Loopback::pair(256);
    let offload = |end: Loopback, rng: &mut Rng| match rng.below(3) {
        0 => end.with_offloads([0, 8000][rng.below(2)]),
        _ => end,
    };
    let (a, b) = (offload(a, &mut rng), offload(b, &mut rng));
    let host = |number, end, rng: &mut Rng| {
        let (tcp, line) = (drawn_tcp(rng), ImpairConfig { frames_max: 256, ..ImpairConfig::drawn(rng) });
        Host::new((number, v6), (tcp, mtu), end, line, rng, now)
    };
    let mut hosts = [host(1, a, &mut rng), host(2, b, &mut rng)];
    let limits = ListenLimits { user_timeout_ms: 0, flight_bytes_max: 1 << 20, window_max: 1 << 18 };
    let any: SocketAddr = SocketAddr::new(address(1, v6), PORT);
    hosts[0].stack.listen(any, 8, limits).expect("a free port");
    for number in 0..1 + rng.below(4) as u16 {
        connect(&mut hosts, now, v6, number, &mut rng);
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drive(&mut hosts, &mut now, &mut rng);
    }));
    if let Err(failure) = result {
        hosts.iter().zip(["server", "client"]).for_each(|(host, name)| {
            let counters: Vec<_> = host.stack.counters().iter().filter(|(_, count)| *count > 0).collect();
            eprintln!("{name}: {counters:?}\n{:#?}\n{}", host.talks, host.stack.debug());
            host.dump(&format!("tcp-seed-{seed}-{name}"));
        });
        std::panic::resume_unwind(failure);
    }
}

fn drive(hosts: &mut [Host; 2], now: &mut Timestamp, rng: &mut Rng) {
    let end = *now + TIME_MAX;
    for round in 0.. {
        assert!(round < ROUNDS_MAX && *now < end, "no end after {round} rounds, {:?} left", end.since(*now));
        let first = rng.below(2);
        let any = hosts[first].turn(*now, rng) | hosts[1 - first].turn(*now, rng);
        hosts.iter().for_each(|host| host.stack.invariants());
        forgive_failed_handshakes(hosts);
        if hosts.iter().all(Host::is_done) {
            hosts.iter_mut().for_each(Host::let_go);
            if hosts.iter_mut().all(|host| host.stack.is_empty()) {
                break;
            }
        }
        if !any {
            let next = hosts.iter().filter_map(|host| host.next(*now)).min();
            *now = next.unwrap_or(*now + Duration::from_millis(10)).max(*now + Duration::from_micros(50));
        }
    }
    for host in hosts.iter() {
        for talk in host.talks.iter().filter(|talk| talk.is_open) {
            let failed = hosts.iter().any(|host| host.stack.counters().connections_failed > 0)
                || hosts.iter().any(|host| host.stack.counters().syn_timeouts > 0)
                || hosts.iter().any(|host| host.stack.counters().cookies_sent > 0);
            assert!(failed || talk.heard == talk.expected, "heard {} of {}", talk.heard, talk.expected);
        }
    }
}

/// A handshake that the line never let through ends on one side only.
fn forgive_failed_handshakes(hosts: &mut [Host; 2]) {
    let [server, client] = hosts;
    for (there, here) in server.talks.iter_mut().zip(&client.talks) {
        if here.closed.is_some() && !there.is_open && server.stack.levels()[1] == 0 {
            there.closed = here.closed;
        }
    }
}
