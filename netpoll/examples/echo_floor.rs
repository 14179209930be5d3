//! The least that a backend costs: a server that echoes 64-byte messages and does nothing else.
//!
//! ```text
//!   cargo run --release -p netpoll --example echo_floor \
//!       [connections] [cycles] [milliseconds] [epoll|io_uring|both] [lent]
//! ```
//!
//! `lent` bounds the receive buffers that the server lends to the kernel.
//!
//! The server runs on processor 0, the client on processor 1: 1000 connections in a closed loop,
//! each sending a window of `depth` messages in one piece and waiting for all of it. The client is
//! an io_uring backend for every server. Runs alternate between the backends, because a shared
//! machine drifts. Of each three pairs the one counts in which the threads queued least for their
//! processors (`/proc/thread-self/schedstat`). Ratios are within pairs, and medians are reported.

use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, BackendCounters, Completion, Completions, ListenerConfig, PoolSize, UringBackend,
    UringConfig, pin_current_thread,
};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const MESSAGE: usize = 64;
const WAIT: Duration = Duration::from_millis(10);
/// Time that is not measured: pages and caches are touched for the first time.
const WARM_UP: Duration = Duration::from_millis(150);

/// Orders from the client to the server.
#[derive(Default)]
struct Phase {
    measure: AtomicBool,
    stop: AtomicBool,
}

/// One measurement.
struct Run {
    messages_per_second: f64,
    server_cpu_ns: f64,
    server_busy: f64,
    client_busy: f64,
    events_per_poll: f64,
    /// Share of the time in which a thread could have run and another one did.
    disturbed: f64,
}

/// The number of pairs of runs of which the quietest counts.
const TRIES_PER_CYCLE: usize = 3;

fn config(connections: usize) -> BackendConfig {
    let mut config = BackendConfig::small(connections);
    config.pools.receive = PoolSize { size: 2048, count: 4096 };
    config.batch_max = 1024;
    config
}

fn uring(config: &BackendConfig) -> io::Result<UringBackend> {
    let mut uring = UringConfig::default();
    let lent = std::env::args().nth(5).and_then(|text| text.parse().ok());
    uring.receive_ring_max = lent.unwrap_or(uring.receive_ring_max);
    UringBackend::new(config, &uring)
}

/// Echoes until stopped; returns the processor time of the measured part.
fn serve<B: Backend>(
    mut backend: B,
    phase: &Phase,
    address: &mpsc::Sender<SocketAddr>,
) -> io::Result<(Usage, BackendCounters)> {
    let (_, at) = backend.listen(&ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    let _ = address.send(at);
    let mut batch = Completions::with_capacity(1024);
    let mut start = None;
    while !phase.stop.load(Ordering::Relaxed) {
        backend.poll(WAIT, &mut batch)?;
        if start.is_none() && phase.measure.load(Ordering::Relaxed) {
            start = Some(Meter::start());
        }
        for completion in batch.drain() {
            if let Completion::Received { connection, buffer } = completion {
                drop(backend.send(connection, buffer.freeze()));
            }
        }
    }
    Ok((start.unwrap_or_else(Meter::start).stop(), backend.counters()))
}

/// What a thread used, and how long it waited to be run.
struct Usage {
    wall: Duration,
    cpu: Duration,
    queued: Duration,
}

/// Measures the calling thread from its creation on.
struct Meter(Instant, Duration, Duration);

impl Meter {
    fn start() -> Meter {
        Meter(Instant::now(), thread_time(), thread_queued())
    }

    fn stop(&self) -> Usage {
        Usage {
            wall: self.0.elapsed(),
            cpu: thread_time().saturating_sub(self.1),
            queued: thread_queued().saturating_sub(self.2),
        }
    }
}

impl Usage {
    fn disturbed(&self) -> f64 {
        self.queued.as_secs_f64() / self.wall.as_secs_f64()
    }
}

fn thread_queued() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let queued = stat.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(queued.unwrap_or(0))
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Drives the server; returns messages echoed and the time it took.
fn drive(
    to: SocketAddr,
    phase: &Phase,
    connections: usize,
    depth: usize,
    time: Duration,
) -> io::Result<(u64, Usage)> {
    let mut backend = uring(&config(connections))?;
    let mut batch = Completions::with_capacity(1024);
    let window = {
        let mut buffer = backend.pools().take(MESSAGE * depth).ok_or(io::ErrorKind::OutOfMemory)?;
        buffer.append(&vec![b'x'; MESSAGE * depth]);
        buffer.freeze()
    };
    let mut open = Vec::with_capacity(connections);
    while open.len() < connections {
        for _ in 0..64.min(connections - open.len()) {
            backend.connect(None, to).map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        let expected = (open.len() + 64).min(connections);
        while open.len() < expected {
            backend.poll(WAIT, &mut batch)?;
            for completion in batch.drain() {
                if let Completion::Connected { connection } = completion {
                    open.push(connection);
                }
            }
        }
    }
    let mut outstanding = vec![0; connections];
    for id in &open {
        outstanding[id.index()] = window.len();
        drop(backend.send(*id, window.clone()));
    }
    let mut meter = Meter::start();
    let mut messages = 0;
    while meter.0.elapsed() < time || !phase.measure.load(Ordering::Relaxed) {
        if meter.0.elapsed() > WARM_UP && !phase.measure.swap(true, Ordering::Relaxed) {
            meter = Meter::start();
            messages = 0;
        }
        backend.poll(WAIT, &mut batch)?;
        for completion in batch.drain() {
            let Completion::Received { connection, buffer } = completion else { continue };
            let left = &mut outstanding[connection.index()];
            *left -= buffer.len();
            if *left == 0 {
                *left = window.len();
                messages += depth as u64;
                drop(backend.send(connection, window.clone()));
            }
        }
    }
    phase.stop.store(true, Ordering::Relaxed);
    Ok((messages, meter.stop()))
}

fn run<B: Backend>(
    make: impl FnOnce(&BackendConfig) -> io::Result<B> + Send,
    connections: usize,
    depth: usize,
    time: Duration,
) -> io::Result<Run> {
    let phase = Phase::default();
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin_current_thread(0)?;
            serve(make(&config(connections))?, &phase, &sender)
        });
        let address = receiver.recv().map_err(io::Error::other)?;
        let driven = drive(address, &phase, connections, depth, time);
        phase.stop.store(true, Ordering::Relaxed);
        let (used, counters) = server.join().map_err(|_| io::Error::other("the server panicked"))??;
        let (messages, client) = driven?;
        Ok(Run {
            messages_per_second: messages as f64 / client.wall.as_secs_f64(),
            server_cpu_ns: used.cpu.as_nanos() as f64 / messages as f64,
            server_busy: used.cpu.as_secs_f64() / used.wall.as_secs_f64(),
            client_busy: client.cpu.as_secs_f64() / client.wall.as_secs_f64(),
            events_per_poll: counters.events as f64 / counters.polls as f64,
            disturbed: used.disturbed().max(client.disturbed()),
        })
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> io::Result<()> {
    let argument = |position, default| {
        std::env::args().nth(position).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let connections = argument(1, 1000);
    let cycles = argument(2, 9);
    let time = Duration::from_millis(argument(3, 700) as u64);
    let only = std::env::args().nth(4);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name || only == "both");
    match netpoll::uring::probe() {
        Ok(features) => println!("{features}"),
        Err(error) => return Err(io::Error::other(error)),
    }
    pin_current_thread(1)?;
    for depth in [1, 16] {
        let mut pairs = Vec::new();
        for _ in 0..cycles * TRIES_PER_CYCLE {
            pairs.push([
                wanted("epoll").then(|| run(EpollBackend::new, connections, depth, time)).transpose()?,
                wanted("io_uring").then(|| run(uring, connections, depth, time)).transpose()?,
            ]);
        }
        let disturbed =
            |pair: &[Option<Run>; 2]| pair.iter().flatten().map(|run| run.disturbed).fold(0.0, f64::max);
        pairs.sort_by(|a, b| disturbed(a).total_cmp(&disturbed(b)));
        pairs.truncate(cycles);
        let noise = pairs.last().map_or(0.0, disturbed);
        let (mut epoll, mut ring) = (Vec::new(), Vec::new());
        for [of_epoll, of_ring] in pairs {
            epoll.extend(of_epoll);
            ring.extend(of_ring);
        }
        println!("{connections} connections, depth {depth}, {cycles} cycles, disturbed at most {noise:.2}:");
        for (name, runs) in [("epoll", &epoll), ("io_uring", &ring)] {
            if runs.is_empty() {
                continue;
            }
            println!(
                "  {name:9} {:>10.0} messages/s  {:>6.0} ns server CPU/message (least {:.0})  busy {:.2} (client {:.2})  {:.0} events/poll",
                median(runs.iter().map(|run| run.messages_per_second).collect()),
                median(runs.iter().map(|run| run.server_cpu_ns).collect()),
                runs.iter().map(|run| run.server_cpu_ns).fold(f64::MAX, f64::min),
                median(runs.iter().map(|run| run.server_busy).collect()),
                median(runs.iter().map(|run| run.client_busy).collect()),
                median(runs.iter().map(|run| run.events_per_poll).collect()),
            );
        }
        if epoll.is_empty() || ring.is_empty() {
            continue;
        }
        let pairs = || ring.iter().zip(&epoll);
        let rate = median(pairs().map(|(a, b)| a.messages_per_second / b.messages_per_second).collect());
        let cpu = median(pairs().map(|(a, b)| b.server_cpu_ns / a.server_cpu_ns).collect());
        println!("  io_uring / epoll: rate {rate:.2}, messages per server CPU {cpu:.2}");
    }
    Ok(())
}
