//! netpoll's contract suite over two TAP devices and a bridge of the kernel between them.

use crate::host::{Host, Tap, Turn, host_on, wait_for_turn};
use crate::namespace::ip;
use dpdk_backend::ffi::{Offloads, PortFacts, Queue};
use netpoll::{Backend, BackendConfig, Completions};
use netpoll_contract::{Setup, Side, World, contract_suite};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
/// What is due within this time is waited for.
const SOON: Duration = Duration::from_millis(50);
/// Steps that a frame may take through the kernel.
const ON_THE_WAY_STEPS: u32 = 5;
/// Steps of about two milliseconds after which no frame is expected any more: a retransmission, and
/// the one after it.
const STILL_STEPS: u32 = 500;
/// The same while a closed connection still has bytes to deliver. Its retransmission timeout may
/// have been doubled several times, and stays so until a round trip is measured (RFC 6298, 5).
const ORPHAN_STILL_STEPS: u32 = 10_000;

struct Bridged {
    // In the order of their end: hosts, devices, and only then the next test.
    server: Host,
    client: Host,
    polls: u32,
    /// Frames of either side, and steps since they last changed.
    frames: [u64; 2],
    still: u32,
    _taps: [Tap; 2],
    _turn: Turn,
}

fn bridge(taps: &[Tap; 2]) {
    if !Path::new("/proc/thread-self/net/dev_snmp6/between").exists() {
        // The kernel does no neighbor discovery of its own on the devices.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("/proc/sys");
        let _ = std::process::Command::new("ip").args(["link", "add", "between", "type", "bridge"]).output();
        ip("link set between up");
    }
    for tap in taps {
        ip(&format!("link set {} master between up", tap.interface));
    }
}

/// A host with a store of pieces of the size that the suite gives it, with nothing added for bytes
/// in flight.
fn counted(config: &BackendConfig, queue: Queue, facts: &PortFacts, address: IpAddr, seed: u64) -> Host {
    host_on(config, queue, facts, &[address], seed, |tcp| tcp.stores.flight_pieces_max = 0)
}

impl World for Bridged {
    type Backend = Host;
    const NAME: &'static str = "dpdk on net_tap";
    const IDLE_STEPS_MAX: u32 = 2 * ORPHAN_STILL_STEPS;
    const DISCARDS_BY_WINDOW: bool = true;

    fn new(setup: &Setup) -> Self {
        let turn = wait_for_turn();
        let taps = [Tap::new("one"), Tap::new("two")];
        let open = |tap: &Tap, count: u32| {
            let (mut queues, facts) = tap.open(1, count, Offloads::All);
            (queues.remove(0), facts)
        };
        let (server, server_facts) = open(&taps[0], setup.server.pools.receive.count);
        let (client, client_facts) = open(&taps[1], setup.client.pools.receive.count);
        bridge(&taps);
        Bridged {
            server: counted(&setup.server, server, &server_facts, SERVER, setup.seed),
            client: counted(&setup.client, client, &client_facts, CLIENT, setup.seed + 7),
            polls: 0,
            frames: [0; 2],
            still: 0,
            _taps: taps,
            _turn: turn,
        }
    }

    fn backend(&mut self, side: Side) -> &mut Host {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }

    fn poll(&mut self, side: Side, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        let result = self.backend(side).poll(wait, batch);
        self.polls += 1;
        if self.polls.is_multiple_of(16) {
            self.backend(side).stack().invariants();
        }
        result
    }

    /// Acknowledgements and FINs are no completions, but more may follow them: continues while
    /// frames are exchanged, and a little longer than the smallest retransmission timeout.
    fn idle(&mut self) -> bool {
        let frames = Side::BOTH.map(|side| {
            let counters = *self.backend(side).stack().counters();
            counters.frames_received + counters.frames_sent
        });
        self.still = if std::mem::replace(&mut self.frames, frames) == frames { self.still + 1 } else { 0 };
        let mut patience = ON_THE_WAY_STEPS;
        for side in Side::BOTH {
            let backend = self.backend(side);
            let now = backend.now();
            let [orphans, half_open, _] = backend.stack().levels();
            let timer = backend.stack().next_timer(now);
            patience = match () {
                () if orphans > 0 => ORPHAN_STILL_STEPS,
                () if half_open > 0 || timer.is_some_and(|timer| timer <= SOON) => patience.max(STILL_STEPS),
                () => patience,
            };
        }
        self.still < patience
    }

    fn server_address(&self) -> SocketAddr {
        SocketAddr::new(SERVER, 0)
    }

    fn client_address(&self) -> SocketAddr {
        SocketAddr::new(CLIENT, 0)
    }

    fn vacant_address(&mut self) -> SocketAddr {
        SocketAddr::new(SERVER, 9)
    }
}

contract_suite!(Bridged);
