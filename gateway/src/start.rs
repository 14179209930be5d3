//! From a configuration to a running gateway, and back.
//!
//! ```text
//!   Config ── prepare ──► Prepared (backend chosen, sums made) ── run ──► workers, verifier, control thread ──► Exit
//! ```
//!
//! `gateway check` ends after `prepare`; a start goes on with the same result, so the two never disagree. What makes and
//! runs workers is behind [`WorkerHost`]: the real one, or a fake one in tests.

use gateway_auth::Verifier;
use gateway_config::{BackendKind, Config, MemoryEntry, Plan, Problems, Reserves, SystemLimits};
use gateway_control::notify::Notifier;
use gateway_control::ports::{self, Claims, Patience, PortError};
use gateway_control::{
    CaptureSource, Claim, ClaimError, ControlThread, Facts, LogHandle, MAILBOX_CAPACITY, Parts, PortSource,
    ReloadSource, Workers, control_waker,
};
use gateway_core::address::Fingerprints;
use gateway_core::memory::Signal;
use gateway_core::message::{ControlSender, Message, VerifySender, verify_queue};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::settings::{TableSizes, WorkerSettings};
use gateway_core::sources::AddressCounts;
use gateway_core::wall_clock::WallClock;
use netpoll::{BackendConfig, MailboxSender, mailbox};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// What a start may take once its ports are free, as the service manager is told.
const START_MAX: Duration = Duration::from_secs(60);

/// What makes workers.
pub trait WorkerHost {
    /// The backend to use when `wanted` is asked for (`None`: the best that works), and why it is this one, in a few
    /// words, e.g. `io_uring is forbidden here (EPERM): seccomp or kernel.io_uring_disabled`.
    ///
    /// # Errors
    /// Why the wanted one does not work here.
    fn choose_backend(&self, wanted: Option<BackendKind>) -> Result<(BackendKind, String), String>;

    /// What one of `workers` workers with a backend of this `kind` reserves besides pools and mailbox.
    fn memory(
        &self,
        kind: BackendKind,
        tables: &TableSizes,
        workers: usize,
        backend: &BackendConfig,
    ) -> Vec<MemoryEntry>;

    /// Whether the workers' backends can be made, tried without starting anything.
    ///
    /// # Errors
    /// What is short, and how to have more of it.
    fn try_backends(&self, _plan: &Plan) -> Result<(), String> {
        Ok(())
    }

    /// Starts all workers. Their listeners are open when this returns.
    ///
    /// # Errors
    /// What kept one from starting; those that run already are stopped. [`io::ErrorKind::OutOfMemory`]: a backend of another
    /// kind may be had.
    fn start(&self, order: WorkerOrder<'_>) -> io::Result<StartedWorkers>;

    /// Opens the port that `plan` wants, closes it again, and says what it is.
    ///
    /// # Errors
    /// Why it can't be opened.
    fn try_port(&self, _plan: &Plan) -> Result<String, String> {
        Err("there is no port to open: io.backend is not \"dpdk\"".into())
    }
}

/// What the workers are made from.
#[derive(Debug)]
pub struct WorkerOrder<'a> {
    /// Backend and sizes.
    pub plan: &'a Plan,
    /// One for each worker.
    pub settings: Vec<WorkerSettings>,
    /// Pin worker threads to cores, in turn.
    pub pin: bool,
    /// Put worker threads under `SCHED_BATCH`.
    pub batch_scheduling: bool,
    /// Where they report.
    pub control: ControlSender,
    /// Where tokens are checked; `None`: nowhere.
    pub verifier: Option<VerifySender>,
    /// How names become fingerprints.
    pub names: Fingerprints,
}

/// Workers that run.
#[derive(Debug)]
pub struct StartedWorkers {
    /// Their mailboxes, by number.
    pub senders: Vec<MailboxSender<Message>>,
    /// Their places for fan-outs.
    pub places: Arc<FanoutPlaces>,
    /// Their counts, by number.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// The listeners' addresses, by number.
    pub addresses: Vec<SocketAddr>,
    /// What their backends really run with, in a few words; `None`: what was said when the backend was chosen.
    pub backend: Option<String>,
    /// The last frames, where they keep some.
    pub capture: Option<CaptureSource>,
    /// What their port is like, where they have one.
    pub port: Option<PortSource>,
    /// Their threads.
    pub threads: Vec<JoinHandle<()>>,
}

/// A configuration that can start here.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// Workers and sizes.
    pub plan: Plan,
    /// Why this backend.
    pub backend_reason: String,
    /// What the system allows.
    pub system: SystemLimits,
}

/// Why a start failed, after the configuration was found good.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<PortError> for StartError {
    fn from(error: PortError) -> StartError {
        StartError(error.to_string())
    }
}

impl From<ClaimError> for StartError {
    fn from(error: ClaimError) -> StartError {
        StartError(error.to_string())
    }
}

fn failed(what: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError(format!("{what}: {error}"))
}

/// Chooses the backend and makes the sums.
///
/// # Errors
/// What does not fit this machine.
pub fn prepare(config: Config, system: SystemLimits, host: &dyn WorkerHost) -> Result<Prepared, Problems> {
    let (backend, reason) =
        host.choose_backend(config.io.backend).map_err(|why| not_to_be_had(&config, why))?;
    prepare_with(config, system, host, backend, reason)
}

/// As [`prepare`], for a check: the backends are tried, too. With `io.backend = "auto"` epoll takes the place of rings that
/// can't be had.
///
/// # Errors
/// What does not fit this machine.
pub fn prepare_and_try(
    config: Config,
    system: SystemLimits,
    host: &dyn WorkerHost,
) -> Result<Prepared, Problems> {
    let prepared = prepare(config, system, host)?;
    match host.try_backends(&prepared.plan) {
        Ok(()) => Ok(prepared),
        Err(why) if prepared.may_fall_back() => prepared.fall_back(host, &why),
        Err(why) => Err(not_to_be_had(&prepared.config, why)),
    }
}

fn not_to_be_had(config: &Config, why: String) -> Problems {
    let mut problems = Problems::default();
    config.source.values.complain(&mut problems, "io.backend", why);
    problems
}

impl Prepared {
    /// Whether another backend may be taken if this one can't be had after all.
    fn may_fall_back(&self) -> bool {
        self.config.io.backend.is_none() && self.plan.backend == BackendKind::IoUring
    }

    /// The same on epoll, and why.
    fn fall_back(self, host: &dyn WorkerHost, why: &str) -> Result<Prepared, Problems> {
        let reason = format!("io_uring can't be used: {why}");
        prepare_with(self.config, self.system, host, BackendKind::Epoll, reason)
    }
}

fn prepare_with(
    mut config: Config,
    system: SystemLimits,
    host: &dyn WorkerHost,
    backend: BackendKind,
    backend_reason: String,
) -> Result<Prepared, Problems> {
    let plan = Plan::new(
        &config,
        &system,
        backend,
        Reserves {
            worker: &|tables, workers, sizes| host.memory(backend, tables, workers, sizes),
            process: &gateway_control::memory_plan,
        },
    )?;
    for listener in &config.listeners {
        let kernel_limit = system.backlog_max.filter(|_| plan.backend != BackendKind::Dpdk);
        if let Some(max) = kernel_limit.filter(|max| *max < listener.socket.backlog) {
            let (name, wanted) = (&listener.name, listener.socket.backlog);
            let warning = format!(
                "listener {name}: the kernel cuts backlog {wanted} to net.core.somaxconn = {max}; raise it with sysctl"
            );
            if !config.source.warnings.contains(&warning) {
                config.source.warnings.push(warning);
            }
        }
    }
    for warning in
        plan.kernel_memory_warning(&config, &system).into_iter().chain(plan.table_warnings(&config))
    {
        if !config.source.warnings.contains(&warning) {
            config.source.warnings.push(warning);
        }
    }
    Ok(Prepared { config, plan, backend_reason, system })
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    /// The control thread; it ends the workers.
    pub control: ControlThread,
    /// Where the control port listens.
    pub control_address: SocketAddr,
    /// The listeners' addresses, by number.
    pub addresses: Vec<SocketAddr>,
    /// Why this backend, and what the workers run with.
    pub backend_reason: String,
    /// Workers and sizes, of the backend that was taken in the end.
    pub plan: Plan,
    threads: Vec<JoinHandle<()>>,
    /// Who can wake whom. Held until the threads have ended: where those have descriptors of their own, closing one there is
    /// not the end of it, and this is the process's table.
    _wakers: (Vec<MailboxSender<Message>>, ControlSender, Option<VerifySender>),
}

impl Running {
    /// Waits for the end. True when it was clean.
    ///
    /// # Errors
    /// What kept the control thread from running.
    pub fn join(self) -> io::Result<bool> {
        let exit = self.control.join()?;
        // Workers that did not end in time are left to the end of the process.
        let ended = self.threads.into_iter().filter(|thread| exit.clean || thread.is_finished());
        Ok(ended.map(JoinHandle::join).all(|joined| joined.is_ok()) && exit.clean)
    }
}

/// Starts everything.
///
/// # Errors
/// What kept it from starting.
pub fn start(
    prepared: Prepared,
    host: &dyn WorkerHost,
    reload: ReloadSource,
    log: LogHandle,
    signals: bool,
) -> Result<Running, StartError> {
    let (started, started_at) = (Instant::now(), SystemTime::now());
    let notifier = if signals { Notifier::from_environment() } else { Notifier::default() };
    let (listener, mut claims, journal) = take_ports(&prepared, &notifier)?;
    let control_address = listener.local_addr().map_err(failed("control.address"))?;
    let (waker, wake_ups) = control_waker().map_err(failed("no descriptor for the control thread"))?;
    let (control, inbox) = mailbox(MAILBOX_CAPACITY, waker);
    let auth = prepared.config.auth.as_ref();
    let queue = auth.map(|policy| verify_queue(policy.threads, policy.queue_requests_max));
    let queue = queue.transpose().map_err(failed("no descriptor for the verifier"))?;
    let (verifier, queue) = queue.unzip();
    let names = Fingerprints::new((random()?, random()?));
    let senders = (control, verifier);
    let (prepared, (memory, wall, sources), workers) = start_workers(prepared, host, &senders, names)?;
    let Prepared { config, plan, backend_reason, .. } = prepared;
    let StartedWorkers { senders: workers_senders, places, metrics, addresses, backend, .. } = workers;
    let (capture, port, threads) = (workers.capture, workers.port, workers.threads);
    claims.listening(if plan.backend == BackendKind::Dpdk { &[] } else { &addresses });
    let backend_reason = backend.unwrap_or(backend_reason);
    let (control, verifier) = senders;
    let senders = workers_senders;
    let wakers = (senders.clone(), control, verifier);
    let give_up = senders.clone();
    // Whatever fails from here on, the workers that run already are told to end.
    let stop = |error: StartError| {
        give_up.iter().for_each(|worker| drop(worker.send(Message::Stop)));
        error
    };
    let verifier = match (queue, &config.auth) {
        (Some(queue), Some(policy)) => {
            let started = Verifier::start(queue, Arc::clone(policy), &senders);
            Some(started.map_err(failed("verifier")).map_err(stop)?)
        }
        _ => None,
    };
    let listeners = config.listeners.iter().cloned().zip(addresses.iter().copied()).collect();
    let (plan_of_facts, reason) = (plan.clone(), backend_reason.clone());
    let facts =
        Facts { plan: plan_of_facts, backend_reason: reason, listeners, started, started_at, wall, sources };
    let workers = Workers::new(senders, places, metrics, names);
    let parts = Parts {
        config,
        facts,
        workers,
        memory,
        mailbox: inbox,
        wake_ups,
        verifier,
        capture,
        port,
        listener,
        claims,
        journal,
        notifier,
        reload,
        log,
        signals,
    };
    let control = ControlThread::start(parts).map_err(failed("control thread")).map_err(stop)?;
    Ok(Running { control, control_address, addresses, backend_reason, plan, threads, _wakers: wakers })
}

/// The control port, and the claims to the clients' ones and to the journal's folder; waits for what no living process has.
fn take_ports(
    prepared: &Prepared,
    notifier: &Notifier,
) -> Result<(TcpListener, Claims, Option<Claim>), StartError> {
    let Prepared { config, plan, .. } = prepared;
    let wait_max = config.io.bind_wait;
    let waiting = |line: &str| {
        tracing::warn!("{line}");
        notifier.extend_start(START_MAX, "waiting for a port, or for the journal's folder");
    };
    let patience = Patience::new(wait_max, &waiting);
    let listener = ports::bind_control(config.control.address, &patience)?;
    let claims = Claims::new(plan.kernel_ports(config), &patience)?;
    let journal = config.journal.as_ref().map(|journal| Claim::take(journal, &patience)).transpose()?;
    Ok((listener, claims, journal))
}

/// What control thread and workers share: how near the end of memory is, how far the wall clock was moved, what addresses hold.
type Shared = (Arc<Signal>, Arc<WallClock>, Option<AddressCounts>);

/// Starts the workers; with `io.backend = "auto"` on epoll where the rings can't be had. What was prepared in the end, and
/// where the workers are told of memory.
fn start_workers(
    mut prepared: Prepared,
    host: &dyn WorkerHost,
    (control, verifier): &(ControlSender, Option<VerifySender>),
    names: Fingerprints,
) -> Result<(Prepared, Shared, StartedWorkers), StartError> {
    loop {
        let Prepared { config, plan, .. } = &prepared;
        let settings = plan.worker_settings(config);
        let shared = (Arc::clone(&settings.memory), Arc::clone(&settings.wall), settings.sources.clone());
        let order = WorkerOrder {
            settings: vec![settings; plan.workers],
            plan,
            pin: config.io.pin_workers,
            batch_scheduling: config.io.batch_scheduling,
            control: control.clone(),
            verifier: verifier.clone(),
            names,
        };
        match host.start(order) {
            Ok(workers) => return Ok((prepared, shared, workers)),
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory && prepared.may_fall_back() => {
                tracing::warn!("io_uring can't be used, so epoll is (io.backend = \"auto\"): {error}");
                let why = error.to_string();
                prepared =
                    prepared.fall_back(host, &why).map_err(|problems| StartError(problems.to_string()))?;
            }
            Err(error) => return Err(failed("workers")(error)),
        }
    }
}

/// 64 bits from the system's generator.
fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| failed("no random numbers")(error.into()))?;
    Ok(u64::from_ne_bytes(bytes))
}
