//! The whole: workers, hosts of clients and the control plane in one thread, over one network and
//! one clock.
//!
//! ```text
//!   tick ─► control plane's messages ─► SimNetwork::step: "it is backend 3's turn" ─► worker 3's turn
//!                                                                            └──────► a host's turn: its clients
//! ```
//!
//! A stalled backend is not given its turns for a while: a starved worker, whose mailbox fills, or
//! a host of slow readers. Between its turns a worker sleeps as far as its mailbox knows, so a
//! wake-up that is missing shows as a message that lies there for longer than any fault explains.

use crate::clients::{Client, Fate, Phase};
use crate::control::Control;
use crate::model::Message;
use crate::plan::Plan;
use crate::tally::Tally;
use crate::verifier::Verifier;
use gateway_core::address::{Fingerprints, WorkerId};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::worker::{Context, Peers, Turn, Worker};
use netpoll::sim::{Mutation, Rng, SimBackend, SimNetwork};
use netpoll::{Backend, BackendConfig, Completions, ConnectionId, MailboxSender, Timestamp, mailbox};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds since 1970 at the beginning of a run.
pub const UNIX_START_MS: u64 = 4_000_000_000_000;
/// How late a message may be seen: a delayed wake-up (`FaultConfig::delay_max`) and a turn that
/// found nothing.
const MAIL_LATE_MAX: Duration = Duration::from_millis(20);

/// Turns of a worker after which its tables are looked through; a prime, so that no rhythm of the
/// schedule hides one.
const INVARIANTS_EVERY: u64 = 7;

/// Chance that a worker without connections gives memory back after a turn, long before it would by
/// itself.
const TRIM_CHANCE: f64 = 0.1;

/// A worker and what the scheduler knows of it.
pub struct Shard {
    pub worker: Worker<SimBackend>,
    pub metrics: Arc<WorkerMetrics>,
    pub sender: MailboxSender<gateway_core::message::Message>,
    pub stopped: bool,
    turns: u64,
    /// Since when it has had something to do and no turn, stalls not counted.
    waits_since: Option<Timestamp>,
}

/// A host of clients.
pub struct Host {
    pub backend: SimBackend,
    batch: Completions,
    pub clients: BTreeMap<u64, usize>,
}

/// A run.
pub struct World {
    pub plan: Plan,
    pub network: SimNetwork,
    pub rng: Rng,
    /// When workers give memory back: of its own, for it changes nothing else.
    trim_rng: Rng,
    pub names: Fingerprints,
    pub places: Arc<FanoutPlaces>,
    pub shards: Vec<Shard>,
    pub hosts: Vec<Host>,
    pub addresses: Vec<SocketAddr>,
    pub clients: Vec<Client>,
    pub messages: Vec<Message>,
    pub control: Control,
    /// The room of the last race: whoever enters it is pushed to.
    pub contested: Option<usize>,
    /// The client that floods, and when it said something last.
    pub flooder: Option<(usize, Timestamp)>,
    /// Where clients bring tokens.
    pub verifier: Option<Verifier>,
    /// By backend: no turns until then.
    stalled_until: Vec<Timestamp>,
    /// By backend: since when it has had none, and the longest time that it has been so.
    stalls: Vec<(Timestamp, Duration)>,
    /// Clients that read nothing.
    pub deaf: Vec<usize>,
    skipped: usize,
    /// Anything that changes who is there was done; the receivers of a message cannot be told then.
    pub churn: u64,
    pub stopping: bool,
    pub draining: bool,
    log: VecDeque<String>,
    log_size: usize,
    pub ticks: u64,
    pub tally: Tally,
}

/// Keeps one line of the run's log: `note!(world, "format", …)`.
#[macro_export]
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.is_logging() {
            let line = format!($($text)*);
            $world.keep_line(line);
        }
    };
}

impl World {
    /// `start` is what the clock shows at the beginning.
    pub fn new(start: Timestamp, seed: u64, mutation: Option<Mutation>, log_size: usize) -> World {
        let plan = Plan::drawn(seed);
        let network = SimNetwork::starting_at(start, seed, plan.faults.clone());
        network.keep_trace(log_size);
        if let Some(mutation) = mutation {
            network.mutate(mutation);
        }
        let names = Fingerprints::new((seed, 12));
        let backends: Vec<_> =
            (0..plan.settings.workers).map(|_| network.backend(&plan.backend).expect("pools")).collect();
        let verifier = plan.verifier_queue.map(Verifier::new);
        let places = Arc::new(FanoutPlaces::new(plan.settings.workers, plan.settings.tables.fanouts()));
        let (shards, control, addresses) = introduce(&plan, names, backends, verifier.as_ref(), &places);
        let host = |_| Host {
            backend: network.backend(&BackendConfig::small(64)).expect("pools"),
            batch: Completions::with_capacity(256),
            clients: BTreeMap::new(),
        };
        let hosts: Vec<_> = (0..plan.hosts).map(host).collect();
        World {
            deaf: vec![],
            stalled_until: vec![Timestamp::ZERO; shards.len() + hosts.len()],
            stalls: vec![(Timestamp::ZERO, Duration::ZERO); shards.len() + hosts.len()],
            rng: Rng::new(seed ^ 0x776f_726b),
            trim_rng: Rng::new(seed ^ 0x7472_696d),
            plan,
            network,
            names,
            places,
            shards,
            hosts,
            addresses,
            clients: vec![],
            messages: vec![],
            control,
            contested: None,
            flooder: None,
            verifier,
            skipped: 0,
            churn: 0,
            stopping: false,
            draining: false,
            log: VecDeque::new(),
            log_size,
            ticks: 0,
            tally: Tally::default(),
        }
    }

    // --- the log -----------------------------------------------------------------------------------------------------

    pub fn is_logging(&self) -> bool {
        self.log_size > 0
    }

    pub fn keep_line(&mut self, line: String) {
        if self.log.len() == self.log_size {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:>12} ns {line}", self.network.now().as_nanos()));
    }

    pub fn print_log(&self) {
        eprintln!("{:#?}", self.plan);
        self.log.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("the network's last events:");
        let trace = self.network.trace();
        trace.iter().rev().take(40).rev().for_each(|event| eprintln!("{event:?}"));
    }

    // --- the scheduler -----------------------------------------------------------------------------------------------

    /// Keeps a backend, drawn, from its turns for a while.
    pub fn stall(&mut self) {
        let number = self.rng.below(self.stalled_until.len());
        let micros = [50, 1000, 30_000][self.rng.below(3)];
        let time = Duration::from_micros(1 + self.rng.below(micros) as u64);
        self.stall_for(number, time);
    }

    /// Keeps the backend of that number from its turns.
    pub fn stall_for(&mut self, number: usize, time: Duration) {
        let now = self.network.now();
        let until = now + time;
        note!(self, "backend {number} stalls until {}", until.as_nanos());
        let (since, longest) = &mut self.stalls[number];
        if self.stalled_until[number] < now {
            *since = now;
        }
        *longest = (*longest).max(until.since(*since));
        self.stalled_until[number] = until;
    }

    /// The longest time that a host of clients may have left its sockets unread, what was on its
    /// way included.
    pub fn longest_silence(&self, host: usize) -> Duration {
        let faults = &self.plan.faults;
        let way = faults.latency + faults.jitter + faults.delay_max;
        self.stalls[self.shards.len() + host].1 + 2 * way
    }

    /// One turn of somebody.
    pub fn tick(&mut self) {
        self.ticks += 1;
        self.feed_flood();
        self.control_turn();
        self.verifier_turn();
        let Some(number) = self.network.step() else {
            self.network.advance(Duration::from_millis(100));
            return;
        };
        let now = self.network.now();
        let is_stopped = self.shards.get(number).is_some_and(|shard| shard.stopped);
        if now < self.stalled_until[number] || is_stopped {
            if is_stopped {
                self.rest_for_ever(number);
            }
            self.skip(now);
            return;
        }
        self.skipped = 0;
        match number.checked_sub(self.shards.len()) {
            None => self.worker_turn(number),
            Some(host) => self.host_turn(host),
        }
    }

    /// A stopped worker's backend must not ask for turns.
    fn rest_for_ever(&mut self, number: usize) {
        let backend = self.shards[number].worker.backend();
        let mut batch = Completions::with_capacity(8);
        let _ = backend.poll(Duration::from_secs(1 << 30), &mut batch);
        assert!(batch.is_empty(), "a stopped worker has news");
    }

    /// Only stalled backends may be due: after a few refusals time passes.
    fn skip(&mut self, now: Timestamp) {
        self.skipped += 1;
        if self.skipped > 8 {
            self.skipped = 0;
            let ends = self.stalled_until.iter().filter(|until| **until > now);
            let limit = ends.map(|until| until.since(now)).min().unwrap_or(Duration::from_millis(1));
            self.network.advance(limit);
            // What was due meanwhile could have had its turn only now.
            self.shards.iter_mut().for_each(|shard| shard.waits_since = None);
        }
    }

    fn worker_turn(&mut self, number: usize) {
        let now = self.network.now();
        let shard = &mut self.shards[number];
        if let Some(since) = shard.waits_since.take() {
            let waited = now.since(since);
            let stalled = self.stalled_until[number] > since;
            assert!(waited <= MAIL_LATE_MAX || stalled, "wake-up: worker {number} left work for {waited:?}");
        }
        let turn = shard.worker.turn(Duration::from_secs(1)).expect("a turn");
        shard.turns += 1;
        if self.trim_rng.chance(TRIM_CHANCE) {
            shard.worker.trim();
        }
        if shard.turns.is_multiple_of(INVARIANTS_EVERY) || turn == Turn::Stopped {
            shard.worker.invariants();
        }
        if turn == Turn::Stopped {
            shard.stopped = true;
            note!(self, "worker {number} has stopped");
            return self.note_mail();
        }
        let wait = shard.worker.begin_wait(Duration::from_secs(1));
        self.network.set_wait(number, wait);
        self.note_mail();
    }

    /// Notes since when workers have had something to do.
    pub fn note_mail(&mut self) {
        let now = self.network.now();
        for shard in self.shards.iter_mut().filter(|shard| !shard.stopped) {
            let waits = !shard.worker.is_idle();
            shard.waits_since = if waits { shard.waits_since.or(Some(now)) } else { None };
        }
    }

    fn host_turn(&mut self, host: usize) {
        let entry = &mut self.hosts[host];
        let mut batch = std::mem::replace(&mut entry.batch, Completions::with_capacity(0));
        entry.backend.poll(Duration::from_secs(1 << 30), &mut batch).expect("a poll");
        for completion in batch.drain() {
            self.completion(host, completion);
        }
        self.hosts[host].batch = batch;
        self.send_outputs(host);
    }

    /// Hands over a part of what the host's clients have to say, cut anywhere.
    fn send_outputs(&mut self, host: usize) {
        let mut left = false;
        let ids: Vec<usize> = self.hosts[host].clients.values().copied().collect();
        for id in ids {
            let client = &mut self.clients[id];
            if client.output.is_empty() || client.phase == Phase::Connecting {
                continue;
            }
            let mut size = client.output.len();
            if self.rng.chance(0.3) {
                size = 1 + self.rng.below(size);
            }
            let backend = &mut self.hosts[host].backend;
            let part: Vec<u8> = client.output.drain(..size).collect();
            left |= !client.output.is_empty();
            for chunk in part.chunks(4096) {
                let buffer = backend.pools().copy(chunk).expect("clients have buffers enough");
                let _ = backend.send(client.connection, buffer.freeze()); // closed: its `Closed` comes
            }
        }
        if left {
            self.network.nudge(self.shards.len() + host);
        }
    }

    /// The client with this connection.
    pub fn client_of(&self, host: usize, connection: ConnectionId) -> Option<usize> {
        self.hosts[host].clients.get(&connection.pack(0)).copied()
    }

    /// The clients' time, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        UNIX_START_MS + self.network.now().as_millis()
    }

    /// Whether nothing is under way anywhere.
    pub fn is_at_rest(&self) -> bool {
        let waits = |client: &Client| match client.phase {
            Phase::Gone => false,
            // It may be the beginning of something.
            _ if matches!(client.fate, Fate::Garbage | Fate::Hog) => !client.output.is_empty(),
            // It goes on until it is closed.
            _ if client.fate == Fate::Flooder => self.flooder.is_some() || !client.output.is_empty(),
            Phase::Echoing => !World::echo_rests(client),
            Phase::Open => !(client.is_well() && client.output.is_empty() && client.pending.is_empty()),
            _ => true,
        };
        self.control.is_at_rest()
            && self.verifier.as_ref().is_none_or(Verifier::is_at_rest)
            && self.shards.iter().all(|shard| shard.stopped || shard.worker.is_idle())
            // Behind what is left unread a client may have left.
            && self.shards.iter().all(|shard| shard.stopped || shard.metrics.rate_stopped.get() == 0)
            && !self.clients.iter().any(waits)
            && self.network.is_quiet()
    }
}

/// Workers on `backends` that know one another and the control plane.
pub fn introduce(
    plan: &Plan,
    names: Fingerprints,
    backends: Vec<SimBackend>,
    verifier: Option<&Verifier>,
    places: &Arc<FanoutPlaces>,
) -> (Vec<Shard>, Control, Vec<SocketAddr>) {
    let capacity = plan.settings.tables.mailbox_capacity;
    let (senders, mailboxes): (Vec<_>, Vec<_>) =
        backends.iter().map(|backend| mailbox(capacity, backend.waker())).unzip();
    let (control_sender, control) = mailbox(4096, netpoll::Waker::flag());
    let mut addresses = vec![];
    let entries = backends.into_iter().zip(mailboxes).enumerate();
    let shards = entries.map(|(index, (backend, mailbox))| {
        let verifier = verifier.map(|verifier| verifier.sender.clone());
        let (control, places) = (control_sender.clone(), Arc::clone(places));
        let peers = Peers { workers: senders.clone(), control, places, verifier };
        let settings = plan.settings.clone();
        let id = WorkerId(index as u8);
        let context = Context { id, settings, names, unix_start_ms: UNIX_START_MS };
        let metrics = Arc::new(WorkerMetrics::default());
        let worker =
            Worker::new(context, backend, mailbox, peers, Arc::clone(&metrics)).expect("a worker listens");
        addresses = worker.addresses().to_vec();
        Shard { worker, metrics, sender: senders[index].clone(), stopped: false, turns: 0, waits_since: None }
    });
    let shards: Vec<_> = shards.collect();
    (shards, Control::new(control, plan.settings.workers), addresses)
}
