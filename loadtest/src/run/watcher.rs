//! Samples through the whole run: processes, kernel memory, and now and then the server's own
//! metrics, which a thread of its own fetches so that a slow answer delays nothing.

use crate::monitor::{self, Usage, Watched, kernel};
use crate::report::Sample;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often processes are sampled, ns.
const SAMPLE_EVERY: u64 = 500_000_000;
/// How often the kernel's slab is read, in ns: it takes three milliseconds of a processor, and a
/// kernel without preemption runs nothing else there meanwhile, so a worker that was due sends that
/// much later.
const SLAB_EVERY: u64 = 5_000_000_000;
/// The least time between two samples, in ns: rates over less are noise.
const APART_MIN: u64 = 200_000_000;
/// How often the server's metrics are fetched: rarely, because it costs the server time.
const FETCH_EVERY: Duration = Duration::from_secs(5);
/// The metrics that samples keep.
const KEPT: [&str; 6] = [
    "gateway_connections",
    "gateway_mailbox_messages",
    "gateway_fanouts_pending",
    "gateway_turn_duration_seconds_sum",
    "gateway_turn_duration_seconds_count",
    "gateway_worker_turns_total",
];

/// The readings of the last sample.
#[derive(Clone, Copy)]
struct Last {
    time: u64,
    server: Usage,
    generator: u64,
    machine: u64,
}

/// See the module's text.
pub(super) struct Watcher {
    watched: Watched,
    /// When the slab is read next, and the stage in which it was read last; `None`: it can't be
    /// read.
    slab: Option<(u64, usize)>,
    samples: Vec<Sample>,
    last: Last,
    fetched: Arc<Mutex<Option<BTreeMap<String, f64>>>>,
    stop: Arc<AtomicBool>,
    fetcher: Option<JoinHandle<()>>,
}

impl Watcher {
    /// A watcher of this server, with its metrics where `metrics` is given. The first sample is
    /// taken now, before any connection.
    pub(super) fn new(watched: Watched, metrics: Option<SocketAddr>) -> Watcher {
        let (fetched, stop) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (to, until) = (fetched.clone(), stop.clone());
        let fetch = move |address| {
            while !until.load(Relaxed) {
                let all = monitor::metrics::scrape(address);
                let kept = all.into_iter().filter(|(name, _)| KEPT.contains(&name.as_str())).collect();
                if let Ok(mut place) = to.lock() {
                    *place = Some(kept);
                }
                std::thread::park_timeout(FETCH_EVERY);
            }
        };
        let thread =
            |address| std::thread::Builder::new().name("metrics".to_owned()).spawn(move || fetch(address));
        let fetcher = metrics.and_then(|address| thread(address).ok());
        let last = Last { time: 0, server: watched.read(), generator: 0, machine: kernel::busy() };
        let slab = kernel::slab_is_readable().then_some((0, 0));
        let first = Sample {
            server_rss: last.server.rss,
            generator_rss: monitor::own_rss(),
            slab: slab.map(|_| kernel::slab()).unwrap_or_default(),
            memory_available: kernel::memory_available(),
            ..Sample::default()
        };
        Watcher { watched, slab, samples: vec![first], last, fetched, stop, fetcher }
    }

    pub(super) fn pids(&self) -> &[i32] {
        &self.watched.pids
    }

    /// The server's usage now.
    pub(super) fn read(&self) -> Usage {
        self.watched.read()
    }

    /// Whether the next sample is due.
    pub(super) fn is_due(&self, now: u64) -> bool {
        now >= self.last.time + SAMPLE_EVERY
    }

    /// Takes one sample: `ready` connections, and `cpu` of the generator's threads so far.
    pub(super) fn sample(&mut self, now: u64, ready: u64, cpu: u64, stage: usize) {
        if now < self.last.time + APART_MIN {
            return;
        }
        let usage = self.watched.read();
        let last = self.last;
        let elapsed = now.saturating_sub(last.time).max(1) as f64;
        let since = usage.since(&last.server);
        let machine = kernel::busy();
        let server_cpu = since.cpu().as_nanos() as f64 / elapsed;
        let generator_cpu = cpu.saturating_sub(last.generator) as f64 / elapsed;
        let all = machine.saturating_sub(last.machine) as f64 / elapsed;
        let slab = self.read_slab(now, stage);
        let each_second = |count: u64| count as f64 * 1e9 / elapsed;
        self.samples.push(Sample {
            time: now as f64 / 1e9,
            stage,
            ready,
            server_rss: usage.rss,
            server_cpu,
            server_wakeups: each_second(since.voluntary),
            server_preemptions: each_second(since.involuntary),
            generator_cpu,
            other_cpu: (all - server_cpu - generator_cpu).max(0.0),
            generator_rss: monitor::own_rss(),
            slab,
            memory_available: kernel::memory_available(),
            metrics: self.fetched.lock().ok().and_then(|mut place| place.take()).unwrap_or_default(),
        });
        self.last = Last { time: now, server: usage, generator: cpu, machine };
    }

    /// Reads the kernel's slab where it is due: now and then, and at once in each stage.
    fn read_slab(&mut self, now: u64, stage: usize) -> BTreeMap<String, u64> {
        match &mut self.slab {
            Some((due, last)) if now >= *due || stage != *last => {
                (*due, *last) = (now + SLAB_EVERY, stage);
                kernel::slab()
            }
            _ => BTreeMap::new(),
        }
    }

    /// All samples.
    pub(super) fn finish(&mut self) -> Vec<Sample> {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.fetcher.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        std::mem::take(&mut self.samples)
    }
}
