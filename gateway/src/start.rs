//! Start and end of a gateway: from a configuration to a running one, and back.
//!
//! ```text
//!   Config ── prepare ──► Plan (backend chosen, sums made) ── start ──► Spawn (what workers are made from)
//!                                                                │
//!   Running (workers, verifier, control thread) ◄────────────────┘
//! ```
//!
//! `gateway check` ends after `prepare`; a start goes on with the same result, so the two never
//! disagree. What makes and runs workers is behind [`WorkerHost`]: the real one, or a fake one in
//! tests.

use crate::workers::{Placement, RunningWorkers, Spawn, WorkerHost};
use gateway_auth::Verifier;
use gateway_config::{BackendKind, Config, Plan, Problems, Reserves, SystemLimits};
use gateway_control::notify::Notifier;
use gateway_control::ports::{self, Claims, Patience, PortError};
use gateway_control::{
    Claim, ClaimError, ControlThread, Facts, LogHandle, MAILBOX_CAPACITY, OwnParts, Parts, ReloadSource,
    Workers, control_waker,
};
use gateway_core::address::Fingerprints;
use gateway_core::message::{ControlSender, Message, VerifySender, verify_queue};
use gateway_core::settings::Shared;
use netpoll::{MailboxSender, mailbox};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest start once its ports are free, as reported to the service manager.
const START_MAX: Duration = Duration::from_secs(60);

/// A configuration that can start here.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// Workers and sizes.
    pub plan: Plan,
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

/// As [`prepare`], for a check: the backends are tried, too. With `io.backend = "auto"` epoll takes
/// the place of rings that can't be had.
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
    let mut plan = Plan::new(
        &config,
        &system,
        backend,
        Reserves {
            worker: &|tables, workers, sizes| host.memory(backend, tables, workers, sizes),
            process: &gateway_control::memory_plan,
        },
    )?;
    plan.backend_reason = backend_reason;
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
    Ok(Prepared { config, plan, system })
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
    /// Workers and sizes, of the backend that was taken in the end.
    pub plan: Plan,
    threads: Vec<JoinHandle<()>>,
    /// The wakers of all threads. Held until the threads have ended: where those have descriptors
    /// of their own, closing one there is not the end of it, and this is the process's table.
    _wakers: (Vec<MailboxSender<Message>>, Exits),
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
    let exits = Exits { control, verifier };
    let (Prepared { config, plan, .. }, shared, workers) = start_workers(prepared, host, &exits, names)?;
    let RunningWorkers { senders, places, metrics, addresses, capture, port, threads, .. } = workers;
    claims.listening(if plan.backend == BackendKind::Dpdk { &[] } else { &addresses });
    let wakers = (senders.clone(), exits);
    // Whatever fails from here on, the workers that run already are stopped.
    let stop = |error: StartError| {
        wakers.0.iter().for_each(|worker| drop(worker.send(Message::Stop)));
        error
    };
    let verifier = match (queue, &config.auth) {
        (Some(queue), Some(policy)) => {
            let started = Verifier::start(queue, Arc::clone(policy), &senders, config.io.helper_nice);
            Some(started.map_err(failed("verifier")).map_err(stop)?)
        }
        _ => None,
    };
    let listeners = config.listeners.iter().cloned().zip(addresses.iter().copied()).collect();
    let parts = Parts {
        config,
        facts: Facts { plan: plan.clone(), listeners, started, started_at, shared },
        workers: Workers::new(senders, places, metrics, names),
        verifier,
        capture,
        port,
        journal,
        own: OwnParts { mailbox: inbox, wake_ups, listener, claims, notifier, reload, log, signals },
    };
    let control = ControlThread::start(parts).map_err(failed("control thread")).map_err(stop)?;
    Ok(Running { control, control_address, addresses, plan, threads, _wakers: wakers })
}

/// The control port, and the claims to the clients' ones and to the journal's folder; waits for
/// what no living process has.
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

/// Where workers send what is not for each other.
#[derive(Clone, Debug)]
struct Exits {
    control: ControlSender,
    verifier: Option<VerifySender>,
}

/// Starts the workers; with `io.backend = "auto"` on epoll where the rings can't be had. Returns
/// what was prepared in the end, with what the backends run with, and the state that is shared.
fn start_workers(
    mut prepared: Prepared,
    host: &dyn WorkerHost,
    exits: &Exits,
    names: Fingerprints,
) -> Result<(Prepared, Shared, RunningWorkers), StartError> {
    loop {
        let Prepared { config, plan, .. } = &prepared;
        let settings = plan.worker_settings(config);
        let shared = settings.shared.clone();
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let spawn = Spawn {
            settings,
            placement: Placement::of(&config.io),
            names,
            unix_now_ms: unix_now.as_millis() as u64,
            control: exits.control.clone(),
            verifier: exits.verifier.clone(),
        };
        match host.start(plan, spawn) {
            Ok(workers) => {
                if let Some(text) = workers.backend_text() {
                    prepared.plan.backend_reason = text;
                }
                return Ok((prepared, shared, workers));
            }
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
