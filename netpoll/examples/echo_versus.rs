//! What an echo costs a server on epoll and on io_uring, in one thread that alternates between the
//! two every few milliseconds, so that a noisy machine is as noisy for both:
//! `echo_versus [connections] [depth] [size] [seconds]`.
//!
//! The CPU time of the thread inside the server's part of each round is counted: its polls, and
//! passing the bytes back. On loopback that includes the client's TCP receive path for what the
//! server sends.

use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, Completion, Completions, ConnectionId, Introspect, ListenerConfig, PoolSize,
    SharedBuffer, UringBackend, UringConfig,
};
use rustix::time::{ClockId, clock_gettime};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SLICE: Duration = Duration::from_millis(10);

fn cpu_nanos() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A server with its own client, and what it has cost.
struct Side<B> {
    server: B,
    client: UringBackend,
    batch: Completions,
    ids: Vec<ConnectionId>,
    request: SharedBuffer,
    size: usize,
    nanos: u64,
    rounds: u64,
}

impl<B: Backend> Side<B> {
    fn open(mut server: B, config: &BackendConfig, count: usize, size: usize) -> Side<B> {
        let mut client = UringBackend::new(config, &UringConfig::default()).expect("a ring");
        let (_, address) =
            server.listen(&ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("a port");
        let mut batch = Completions::with_capacity(config.batch_max);
        let mut ids = Vec::new();
        let mut opened = 0;
        while opened < 2 * count {
            while ids.len() < count && ids.len() < opened + 200 {
                let local = SocketAddr::from(([127, 0, 0, 2 + (ids.len() % 16) as u8], 0));
                ids.push(client.connect(Some(local), address).expect("a connection"));
            }
            for _ in 0..2 {
                client.poll(Duration::ZERO, &mut batch).expect("a poll");
                opened += batch.drain().count();
                server.poll(Duration::ZERO, &mut batch).expect("a poll");
                opened += batch.drain().count();
            }
        }
        let mut request = client.pools().take(size).expect("a block");
        request.set_len(size);
        let request = request.freeze();
        Side { server, client, batch, ids, request, size, nanos: 0, rounds: 0 }
    }

    /// All connections send, and wait for the echo.
    fn round(&mut self) {
        for id in &self.ids {
            self.client.send(*id, self.request.clone()).expect("room");
        }
        let all = self.ids.len() * self.size;
        let mut back = 0;
        while back < all {
            self.client.poll(Duration::ZERO, &mut self.batch).expect("a poll");
            for completion in self.batch.drain() {
                if let Completion::Received { buffer, .. } = completion {
                    back += buffer.len();
                }
            }
            let before = cpu_nanos();
            self.server.poll(Duration::ZERO, &mut self.batch).expect("a poll");
            for completion in self.batch.drain() {
                if let Completion::Received { connection, buffer } = completion {
                    self.server.send(connection, buffer.freeze()).expect("room");
                }
            }
            self.nanos += cpu_nanos() - before;
        }
        self.rounds += 1;
    }

    /// Rounds for a slice of time; nanoseconds a message.
    fn slice(&mut self) -> f64 {
        (self.nanos, self.rounds) = (0, 0);
        let start = Instant::now();
        while start.elapsed() < SLICE {
            self.round();
        }
        self.nanos as f64 / (self.rounds * self.ids.len() as u64) as f64
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<usize>().expect("a number"));
    let mut next = |default| numbers.next().unwrap_or(default);
    let (count, depth, size, seconds) = (next(100), next(1), next(64), next(5));
    let mut config = BackendConfig::small(count + 8);
    config.pools.receive = PoolSize { size: 4096, count: 1024 };
    config.send_pieces_shared = 4 * count + 1024;
    let epoll = EpollBackend::new(&config).expect("epoll");
    let uring = UringBackend::new(&config, &UringConfig::default()).expect("a ring");
    let mut epoll = Side::open(epoll, &config, count, depth * size);
    let mut uring = Side::open(uring, &config, count, depth * size);
    let (mut of_epoll, mut of_uring, mut ratios) = (vec![], vec![], vec![]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds as u64) {
        let (one, other) = (epoll.slice(), uring.slice());
        of_epoll.push(one);
        of_uring.push(other);
        ratios.push(one / other);
    }
    let median = |values: &mut Vec<f64>, at: f64| {
        values.sort_by(f64::total_cmp);
        values[(values.len() as f64 * at) as usize]
    };
    let n = ratios.len();
    println!(
        "{count} × {depth} × {size} B, {n} slices: epoll {:.0} ns, io_uring {:.0} ns a round trip; least {:.0}, {:.0}; \
         epoll to io_uring {:.3} ({:.3}–{:.3})",
        median(&mut of_epoll, 0.5),
        median(&mut of_uring, 0.5),
        median(&mut of_epoll, 0.05),
        median(&mut of_uring, 0.05),
        median(&mut ratios, 0.5),
        median(&mut ratios, 0.25),
        median(&mut ratios, 0.75),
    );
    for counters in [epoll.server.counters(), uring.server.counters()] {
        println!("{:.1} events a poll", counters.events as f64 / counters.polls as f64);
    }
}
