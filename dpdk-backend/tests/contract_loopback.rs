//! The contract suite of netpoll over two stacks and a cable in memory: a perfect one, and lines
//! that lose, reorder, repeat and corrupt frames. Time is virtual.

use dpdk_backend::backend::{Clock, PollBackend, PollConfig};
use dpdk_backend::device::{Device, Impair, ImpairConfig, Loopback};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::wire::Mac;
use netpoll::{Backend, BackendConfig, Completions, Timestamp, Waker};
use netpoll_contract::{Setup, Side, World, contract_suite};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// How far time moves at once while nothing happens.
const STEP: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
struct VirtualClock(Rc<Cell<Timestamp>>);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.get()
    }

    fn idle(&mut self, at_most: Duration, _waker: &Waker) {
        self.0.set(self.0.get() + at_most.max(Duration::from_nanos(1)));
    }
}

trait Line {
    const NAME: &'static str;
    const SEEDS: &'static [u64] = &[1];
    fn config(seed: u64) -> ImpairConfig;
}

type EndBackend = PollBackend<Impair<Loopback>, VirtualClock>;

struct Cable<L: Line> {
    now: Rc<Cell<Timestamp>>,
    server: EndBackend,
    client: EndBackend,
    polls: u32,
    line: PhantomData<L>,
}

fn backend(
    config: &BackendConfig,
    ip: IpAddr,
    device: Impair<Loopback>,
    now: &Rc<Cell<Timestamp>>,
    seed: u64,
) -> EndBackend {
    let IpAddr::V4(v4) = ip else { panic!("IPv4") };
    let mac = Mac([2, 0, 0, 0, 0, v4.octets()[3]]);
    let interface = InterfaceConfig::new(mac, ip, 24);
    let mut config = PollConfig::new(config, interface, [seed, seed ^ 0x5555]);
    // The suite counts pieces of the store that it sizes.
    config.tcp.stores.flight_pieces_max = 0;
    // Beyond the orphans a close is a reset, which is sent once: a rough line loses some, and a
    // peer with nothing in flight never learns of the close. `crowd.rs` tests many resets.
    config.tcp.tables.orphans_max = config.tcp.tables.connections_max;
    config.tcp.tables.active_max = 2 * config.tcp.tables.connections_max;
    PollBackend::new(&config, device, VirtualClock(Rc::clone(now))).expect("pools")
}

impl<L: Line> World for Cable<L> {
    type Backend = EndBackend;
    const NAME: &'static str = L::NAME;
    const SEEDS: &'static [u64] = L::SEEDS;
    const IDLE_WAIT: Duration = Duration::ZERO;
    const REAL_TIME: bool = false;
    const DISCARDS_BY_WINDOW: bool = true;

    fn new(setup: &Setup) -> Self {
        let now = Rc::new(Cell::new(Timestamp::from_nanos(1_000_000_000)));
        let (a, b) = Loopback::pair(1024);
        let line = |end, seed| Impair::new(end, L::config(setup.seed), seed);
        Cable {
            server: backend(&setup.server, SERVER, line(a, setup.seed), &now, setup.seed),
            client: backend(&setup.client, CLIENT, line(b, setup.seed + 1), &now, setup.seed + 7),
            now,
            polls: 0,
            line: PhantomData,
        }
    }

    fn backend(&mut self, side: Side) -> &mut EndBackend {
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

    fn idle(&mut self) -> bool {
        if std::env::var_os("TRACE").is_some() {
            for side in Side::BOTH {
                let t = self.now.get();
                let b = self.backend(side);
                let c: Vec<_> = b.stack().counters().iter().filter(|c| c.1 > 0).collect();
                eprintln!("{t:?} {side:?} timer {:?} {:?} {c:?}", b.stack().next_timer(t), b.stack().debug());
            }
        }
        let now = self.now.get();
        let mut next = STEP;
        let mut soon = false;
        for side in Side::BOTH {
            let backend = self.backend(side);
            let arrival = backend.device().next_arrival().map(|at| at.since(now));
            let waiting = backend.device().inner().waiting() > 0;
            let timer = backend.stack().next_timer(now);
            // A lost FIN is sent again later.
            let parting = backend.stack().levels()[0] > 0;
            soon |= parting || waiting || arrival.is_some() || timer.is_some_and(|timer| timer <= STEP);
            next = [arrival, timer].into_iter().flatten().fold(next, Duration::min);
        }
        self.now.set(now + next.max(Duration::from_micros(10)));
        soon
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

struct Perfect;

impl Line for Perfect {
    const NAME: &'static str = "dpdk over a perfect cable";

    fn config(_seed: u64) -> ImpairConfig {
        ImpairConfig::calm(Duration::ZERO)
    }
}

mod perfect {
    use super::*;
    contract_suite!(Cable<Perfect>);
}

/// A line with a round trip of 10 ms.
struct Distant;

impl Line for Distant {
    const NAME: &'static str = "dpdk over a distant line";

    fn config(_seed: u64) -> ImpairConfig {
        ImpairConfig::calm(Duration::from_millis(5))
    }
}

mod distant {
    use super::*;
    contract_suite!(Cable<Distant>);
}

/// One frame in fifty is lost; some are late, some are delivered twice, some are broken.
struct Rough;

impl Line for Rough {
    const NAME: &'static str = "dpdk over a rough line";
    const SEEDS: &'static [u64] = &[1, 2];

    fn config(_seed: u64) -> ImpairConfig {
        ImpairConfig {
            drop: 0.02,
            duplicate: 0.02,
            corrupt: 0.01,
            reorder: 0.05,
            delay: Duration::from_millis(1),
            jitter: Duration::from_micros(200),
            reorder_delay: Duration::from_millis(3),
            frames_max: 4096,
        }
    }
}

mod rough {
    use super::*;
    contract_suite!(Cable<Rough>);
}

/// A host's thread without a processor for a while finds its timers due, and in its queue the
/// acknowledgements that they wait for. Nothing was lost, so nothing is sent again: neither data
/// nor a FIN, since the second copy of a FIN would be answered after its connection has ended.
#[test]
fn a_stall_of_the_host_is_no_loss() {
    let mut h = netpoll_contract::Harness::<Cable<Perfect>>::small(1);
    let pair = h.pair();
    let stall = |h: &mut netpoll_contract::Harness<Cable<Perfect>>| {
        h.poll(Side::Server, Duration::ZERO); // it leaves
        h.poll(Side::Client, Duration::ZERO); // it is received,
        h.poll(Side::Client, Duration::ZERO); // and answered
        h.world.now.set(h.world.now.get() + Duration::from_secs(3));
        h.poll(Side::Server, Duration::ZERO);
        h.until_quiet();
    };
    for number in 1..=40 {
        // Two segments, which are acknowledged at once.
        h.send(Side::Server, pair.server, &[7; 100]).unwrap();
        h.poll(Side::Server, Duration::ZERO);
        h.send(Side::Server, pair.server, &[8; 100]).unwrap();
        stall(&mut h);
        assert_eq!(h.client().received_bytes(pair.client), number * 200);
    }
    h.backend(Side::Server).finish(pair.server, None);
    stall(&mut h);
    let counters = *h.backend(Side::Server).stack().counters();
    assert_eq!(
        (counters.retransmits, counters.tail_loss_probes, counters.retransmission_timeouts),
        (0, 0, 0)
    );
    h.end();
}
