//! The coordinator: starts the workers, moves them from phase to phase, watches processes, collects.
//!
//! ```text
//!   preflight ─► workers connect ─► traffic: warm-up, window ─► settle ─► finish ─► results
//! ```

use crate::backend;
use crate::client::Protocol;
use crate::client::goim::Goim;
use crate::client::raw::{Raw, WebSocketRaw};
use crate::client::websocket::Upgrade;
use crate::error::Trouble;
use crate::histogram::{fresh, merge};
use crate::limits;
use crate::monitor::{self, Usage};
use crate::plan::{Plan, ProtocolKind, Role};
use crate::progress::Progress;
use crate::report::{Sample, Second};
use crate::worker::control::{Control, Gauges, Interval, Window};
use crate::worker::{Assignment, WorkerResult};
use hdrhistogram::Histogram;
use netpoll::MonotonicClock;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the coordinator looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often processes are sampled.
const SAMPLE_EVERY: u64 = 500_000_000;
/// Time between the word to start and the first operation.
const START_DELAY: u64 = 20_000_000;

/// Everything a run brought home, not yet summed up.
pub(crate) struct Findings {
    pub(crate) results: Vec<WorkerResult>,
    pub(crate) window: Window,
    pub(crate) seconds: Vec<Second>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) pids: Vec<i32>,
    pub(crate) usage: Usages,
    pub(crate) metrics: BTreeMap<String, [f64; 2]>,
    pub(crate) unsettled: bool,
    pub(crate) interrupted: bool,
}

/// Readings of the server at the seams of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usages {
    pub(crate) before: Usage,
    pub(crate) connected: Usage,
    pub(crate) start: Usage,
    pub(crate) end: Usage,
    pub(crate) after: Usage,
}

/// What is watched beside the workers.
pub(crate) struct Watch {
    pub(crate) server_pid: Option<i32>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) quiet: bool,
}

struct Crew {
    gauges: Vec<Arc<Gauges>>,
    threads: Vec<JoinHandle<Result<WorkerResult, Trouble>>>,
    intervals: Vec<mpsc::Receiver<Interval>>,
}

struct Run<'a> {
    plan: Arc<Plan>,
    control: Arc<Control>,
    clock: MonotonicClock,
    crew: Crew,
    pids: Vec<i32>,
    samples: Vec<Sample>,
    last: (u64, Usage, u64),
    seconds: BTreeMap<u32, (Second, Histogram<u64>)>,
    stop: &'a AtomicBool,
    progress: Progress,
}

/// Runs `plan` to its end, or until `stop`.
///
/// # Errors
/// Why it could not run.
pub(crate) fn execute(plan: Plan, watch: &Watch, stop: &AtomicBool) -> Result<Findings, Trouble> {
    let limit = limits::raise_descriptors();
    backend::check(plan.machinery.backend)?;
    limits::check_descriptors(&plan, limit)?;
    reach("server", plan.endpoints.server)?;
    if let Some(http) = plan.endpoints.http {
        reach("http", http)?;
    }
    let pids = match watch.server_pid {
        Some(pid) => vec![pid],
        None => monitor::listening_on(plan.endpoints.server),
    };
    // In this order: what the server needs to be asked for its metrics is no cost of connections.
    let metrics_before = watch.metrics.map(monitor::metrics::scrape).unwrap_or_default();
    let before = Usage::read(&pids);
    let (plan, control, clock) = (Arc::new(plan), Arc::new(Control::default()), MonotonicClock::start());
    let crew = start(&plan, &control, clock)?;
    let mut run = Run {
        plan,
        control,
        clock,
        crew,
        pids,
        samples: Vec::new(),
        last: (0, before, 0),
        seconds: BTreeMap::new(),
        stop,
        progress: Progress::new(watch.quiet),
    };
    run.connect();
    let mut usage = Usages { before, connected: Usage::read(&run.pids), ..Usages::default() };
    let window = run.traffic(&mut usage);
    let unsettled = run.settle(&window);
    usage.after = Usage::read(&run.pids);
    let metrics = deltas(metrics_before, watch.metrics);
    run.finish(window, usage, metrics).map(|findings| Findings { unsettled, ..findings })
}

/// A plain connect says soonest whether anybody is there.
fn reach(flag: &str, address: SocketAddr) -> Result<(), Trouble> {
    match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Trouble::new(
            format!("cannot reach {address}: {error}"),
            format!("start the server, or name its address with --{flag}"),
        )),
    }
}

fn deltas(before: BTreeMap<String, f64>, address: Option<SocketAddr>) -> BTreeMap<String, [f64; 2]> {
    let after = address.map(monitor::metrics::scrape).unwrap_or_default();
    after
        .into_iter()
        .map(|(name, value)| (name.clone(), [before.get(&name).copied().unwrap_or(0.0), value]))
        .collect()
}

fn start(plan: &Arc<Plan>, control: &Arc<Control>, clock: MonotonicClock) -> Result<Crew, Trouble> {
    let (senders, intervals): (Vec<_>, Vec<_>) = plan.flows.iter().map(|_| mpsc::channel()).unzip();
    let mut crew = Crew { gauges: Vec::new(), threads: Vec::new(), intervals };
    for (number, duty) in plan.crew().into_iter().enumerate() {
        let gauges = Arc::new(Gauges::default());
        crew.gauges.push(gauges.clone());
        let to = Assignment {
            plan: plan.clone(),
            duty,
            control: control.clone(),
            gauges,
            clock,
            intervals: senders.clone(),
        };
        let work = move || {
            let pin = &to.plan.machinery.pin;
            if let Some(cpu) = pin.get(number % pin.len().max(1)) {
                netpoll::pin_current_thread(*cpu).map_err(|error| {
                    Trouble::new(
                        format!("cannot pin a worker to processor {cpu}: {error}"),
                        "check --pin against nproc",
                    )
                })?;
            }
            speak(to)
        };
        let thread = std::thread::Builder::new().name(format!("loadtest-{number}")).spawn(work);
        crew.threads.push(thread.map_err(|error| {
            Trouble::new(format!("cannot start worker {number}: {error}"), "lower --workers")
        })?);
    }
    Ok(crew)
}

/// Chooses the protocol; the backend is chosen by [`backend::work`].
fn speak(to: Assignment) -> Result<WorkerResult, Trouble> {
    let plan = to.plan.clone();
    let kind = plan.machinery.backend;
    let path = plan.endpoints.websocket_path.clone();
    let upgrade = Upgrade { path, host: plan.endpoints.server_name.clone() };
    match plan.protocol {
        ProtocolKind::Raw => {
            let size = plan.flows.first().map_or(crate::stamp::STAMP_SIZE, |flow| flow.payload_size);
            backend::work(kind, Raw { size }, to)
        }
        ProtocolKind::WebSocketRaw => backend::work(kind, WebSocketRaw { upgrade }, to),
        ProtocolKind::Goim => {
            let upgrade = plan.websocket.then_some(upgrade);
            work_goim(kind, Goim { identity: Arc::new(plan.identity.clone()), upgrade, run: plan.run }, to)
        }
    }
}

fn work_goim(
    kind: crate::plan::BackendKind,
    protocol: impl Protocol,
    to: Assignment,
) -> Result<WorkerResult, Trouble> {
    backend::work(kind, protocol, to)
}

impl Run<'_> {
    fn now(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    fn sum(&self, of: fn(&Gauges) -> &AtomicU64) -> u64 {
        self.crew.gauges.iter().map(|gauges| of(gauges).load(Relaxed)).sum()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed) || self.crew.threads.iter().any(JoinHandle::is_finished)
    }

    /// One look: intervals in, a sample now and then.
    fn look(&mut self) {
        std::thread::sleep(LOOK_EVERY);
        self.collect();
        let now = self.now();
        if now >= self.last.0 + SAMPLE_EVERY {
            self.sample(now);
        }
    }

    fn collect(&mut self) {
        for receiver in &self.crew.intervals {
            while let Ok(interval) = receiver.try_recv() {
                let entry = self.seconds.entry(interval.second);
                let (second, latency) = entry.or_insert_with(|| (Second::default(), fresh(2)));
                second.second = interval.second;
                second.owed += interval.sent;
                second.delivered += interval.delivered;
                merge(latency, &interval.latency);
            }
        }
    }

    fn sample(&mut self, now: u64) {
        let usage = Usage::read(&self.pids);
        let cpu = self.sum(|gauges| &gauges.cpu);
        let (then, before, cpu_before) = self.last;
        let elapsed = (now - then).max(1) as f64;
        let server = usage.cpu().saturating_sub(before.cpu()).as_nanos() as f64;
        self.samples.push(Sample {
            time: now as f64 / 1e9,
            ready: self.sum(|gauges| &gauges.ready),
            server_rss: usage.rss,
            server_cpu: server / elapsed,
            generator_cpu: cpu.saturating_sub(cpu_before) as f64 / elapsed,
        });
        self.last = (now, usage, cpu);
    }

    /// Waits until every connection is ready or given up.
    fn connect(&mut self) {
        let total = u64::from(self.plan.connections_total());
        let attempts = u32::from(self.plan.connect.retries) + 1;
        let ramp = self.plan.connect.rate.map_or(0.0, |rate| total as f64 / rate.per_second());
        let slack = Duration::from_secs_f64(30.0 + ramp + total as f64 / 2000.0);
        let deadline = self.now() + (self.plan.connect.timeout * attempts + slack).as_nanos() as u64;
        self.progress.phase("connecting", total);
        while !self.stopped() && self.now() < deadline {
            self.look();
            let (ready, failed) = (self.sum(|gauges| &gauges.ready), self.sum(|gauges| &gauges.failed));
            self.progress.at(ready, &format!("{ready} ready, {failed} given up"));
            if ready + failed >= total && self.sum(|gauges| &gauges.unanswered) == 0 {
                break;
            }
        }
        self.sample(self.now());
    }

    /// Warm-up and window.
    fn traffic(&mut self, usage: &mut Usages) -> Window {
        let start = self.now() + START_DELAY;
        let measure = start + self.plan.phases.warmup.as_nanos() as u64;
        let end = measure + self.plan.phases.measure.as_nanos() as u64;
        let mut window = Window { traffic_start: start, start: measure, end };
        if self.stopped() {
            window.end = window.start;
        }
        self.control.start(window);
        self.progress.phase("warming up", (measure - start) / 1_000_000);
        self.wait_until(measure, start, &window);
        usage.start = Usage::read(&self.pids);
        self.progress.phase("measuring", window.end.saturating_sub(measure) / 1_000_000);
        self.wait_until(window.end, measure, &window);
        if self.stopped() && self.now() < window.end {
            window.end = self.now().max(window.start);
            self.control.measure_end.store(window.end, Relaxed);
        }
        usage.end = Usage::read(&self.pids);
        window
    }

    fn wait_until(&mut self, time: u64, from: u64, window: &Window) {
        let mut last = (self.now(), 0);
        while self.now() < time && !self.stopped() {
            let left = Duration::from_nanos(time.saturating_sub(self.now()));
            if left > LOOK_EVERY {
                self.look();
            } else {
                std::thread::sleep(left);
            }
            let (now, delivered) = (self.now(), self.sum(|gauges| &gauges.delivered));
            if now >= last.0 + 200_000_000 {
                let rate = (delivered - last.1.min(delivered)) as f64 * 1e9 / (now - last.0) as f64;
                let p99 = self.recent_p99(window);
                self.progress
                    .at(now.saturating_sub(from) / 1_000_000, &format!("{rate:.0} deliveries/s{p99}"));
                last = (now, delivered);
            }
        }
    }

    fn recent_p99(&self, _: &Window) -> String {
        let last = self.seconds.values().next_back().filter(|(_, latency)| !latency.is_empty());
        last.map_or_else(String::new, |(_, latency)| {
            format!(", p99 {}", crate::report::units::nanos(latency.value_at_quantile(0.99) as f64))
        })
    }

    /// Waits for what is still on its way, at most as long as allowed; true when it was still coming in then.
    fn settle(&mut self, window: &Window) -> bool {
        let patience = self.plan.phases.settle_max.as_nanos() as u64;
        let deadline = self.now() + patience;
        let (mut quiet_since, mut last) = (self.now(), (u64::MAX, 0));
        let mut unsettled = true;
        self.progress.phase("settling", self.plan.phases.settle_max.as_millis() as u64);
        while self.now() < deadline && !self.crew.threads.iter().any(JoinHandle::is_finished) {
            let delivered = self.sum(|gauges| &gauges.delivered);
            let unanswered = self.sum(|gauges| &gauges.unanswered);
            let done = delivered >= self.sum(|gauges| &gauges.owed) && unanswered == 0;
            if done && self.now() > window.end + 50_000_000 {
                unsettled = false;
                break;
            }
            if (delivered, unanswered) != last {
                (quiet_since, last) = (self.now(), (delivered, unanswered));
            }
            // Half of the time without anything: nothing more will come.
            if self.now() > quiet_since + patience / 2 {
                unsettled = false;
                break;
            }
            self.look();
        }
        // What comes twice comes late: one more moment for it.
        std::thread::sleep(Duration::from_millis(50));
        self.sample(self.now());
        unsettled
    }

    fn finish(
        mut self,
        window: Window,
        usage: Usages,
        metrics: BTreeMap<String, [f64; 2]>,
    ) -> Result<Findings, Trouble> {
        self.progress.phase("closing", 0);
        self.control.finish.store(true, Relaxed);
        let threads = std::mem::take(&mut self.crew.threads);
        let mut results = Vec::new();
        for thread in threads {
            let result = thread.join().map_err(|_| {
                Trouble::new(
                    "a worker panicked",
                    "that is a bug in loadtest; please report it with the message above",
                )
            })?;
            results.push(result?);
        }
        self.collect();
        // Settling adds seconds in which nothing happens.
        while self.seconds.last_entry().is_some_and(|last| last.get().0.owed + last.get().0.delivered == 0) {
            self.seconds.pop_last();
        }
        self.progress.end();
        none_connected(&self.plan, &results)?;
        Ok(Findings {
            results,
            window,
            seconds: self.seconds.into_values().map(|(second, latency)| seal(second, &latency)).collect(),
            samples: self.samples,
            pids: self.pids,
            usage,
            metrics,
            unsettled: false,
            interrupted: self.stop.load(Relaxed),
        })
    }
}

fn seal(second: Second, latency: &Histogram<u64>) -> Second {
    let at = |quantile| if latency.is_empty() { 0 } else { latency.value_at_quantile(quantile) };
    Second { p50: at(0.5), p99: at(0.99), max: latency.max(), ..second }
}

/// Nobody connected at all: then nothing was measured.
fn none_connected(plan: &Plan, results: &[WorkerResult]) -> Result<(), Trouble> {
    let network = results.iter().find_map(|result| result.network_error.clone());
    let established: u64 = results.iter().map(|result| result.fleet.established).sum();
    if established > 0 || !results.iter().any(|result| result.role != Role::Slow) {
        return network.map_or(Ok(()), |error| Err(Trouble::new(error, "check --http and the server's log")));
    }
    let why = results.iter().flat_map(|result| result.fleet.failures.keys().chain(result.violations.keys()));
    let mut why: Vec<&str> = why.map(String::as_str).collect();
    why.sort_unstable();
    why.dedup();
    Err(Trouble::new(
        format!("none of {} connections became ready: {}", plan.connections_total(), why.join(", ")),
        "check --transport, --protocol and --server against what listens there, and the server's log",
    ))
}
