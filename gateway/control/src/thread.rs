//! The control thread: its runtime, its tasks, and the order of its end.
//!
//! ```text
//!   SIGTERM, SIGINT ─► not ready ─► Drain ─► no connection left, or drain_ms over ─► Stop ─► exit 0
//!   a second one ────► exit at once: 128 + signal (143, 130)
//!   SIGHUP ──────────► reload
//! ```
//!
//! The runtime is tokio-uring where io_uring works, so that the journal's files never block the
//! thread, else plain tokio with the journal's writes on helper threads. HTTP runs on tokio's own
//! sockets in both.

use super::control::{Control, Facts};
use super::encoder::PushEncoder;
use super::health::watch_stores;
use super::heartbeats::Heartbeats;
use super::http::{ANSWERS_MAX, Admission, Budget};
use super::http_metrics::{HttpMetrics, Scrapes};
use super::journal::{Claim, Journal};
use super::lifecycle::{Lifecycle, Stage};
use super::lists::Lists;
use super::memory::watch_memory;
use super::memory_plan::inputs_max;
use super::memory_watch::MemoryWatch;
use super::port::watch_port;
use super::port_watch::PortWatch;
use super::refusals::Refusals;
use super::reload::{LogHandle, ReloadSource, reload, send_to_all};
use super::routes::permits;
use super::seldom::Seldom;
use super::sources::{CaptureSource, PortSource};
use super::store_watch::StoreWatch;
use super::tickets::{LIST_TICKETS_MAX, Tickets};
use super::wakes::WakeCoalescer;
use super::workers::Workers;
use super::{api, http};
use crate::notify::Notifier;
use crate::ports::Claims;
use gateway_auth::Verifier;
use gateway_config::memory::Source;
use gateway_config::{BackendKind, Config};
use gateway_core::message::{AuditEvent, AuditKind, ControlMessage, Message};
use gateway_proto::codes::CloseCode;
use netpoll::{Mailbox, Waker};
use serde_json::json;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

/// Workers get this long to end after `Stop`.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Interval at which turn counters are read.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A pause of the process that is worth a line of the log.
const PAUSE_SAID: Duration = Duration::from_secs(1);
/// As `systemctl status` shows it.
const SERVING: &str = "serving";
/// The last log line of a process that ends at once gets this long.
const LAST_LINE_MAX: Duration = Duration::from_millis(200);
/// Commands that may wait.
const COMMANDS_MAX: usize = 16;

/// A command to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Drain and end; a second time: end without waiting for clients.
    Terminate,
    /// Read the configuration again.
    Reload,
}

/// How the thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Every worker ended on `Stop`, and none before.
    pub clean: bool,
}

/// Everything that the thread is made from.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// What was fixed at the start.
    pub facts: Facts,
    /// The running workers.
    pub workers: Workers,
    /// The verifier of tokens, if tokens are checked.
    pub verifier: Option<Verifier>,
    /// The last frames, where the workers keep some.
    pub capture: Option<CaptureSource>,
    /// The port, where clients come by one.
    pub port: Option<PortSource>,
    /// The journal's folder, if one is written.
    pub journal: Option<Claim>,
    /// What the thread keeps to itself; its handlers share the rest.
    pub own: OwnParts,
}

/// What the thread keeps to itself: where orders come from, and what it gives back.
#[derive(Debug)]
pub struct OwnParts {
    /// Where workers' messages come in.
    pub mailbox: Mailbox<ControlMessage>,
    /// The other end of the mailbox's waker; see [`control_waker`].
    pub wake_ups: UnixStream,
    /// The bound control port.
    pub listener: std::net::TcpListener,
    /// The clients' ports; given back when the workers close their listeners.
    pub claims: Claims,
    /// The service manager.
    pub notifier: Notifier,
    /// Where a reload reads from.
    pub reload: ReloadSource,
    /// The log level.
    pub log: LogHandle,
    /// Whether to take the process's signals (tests of several in one process don't).
    pub signals: bool,
}

/// The running thread.
#[derive(Debug)]
pub struct ControlThread {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<io::Result<Exit>>,
}

impl ControlThread {
    /// Starts the thread, and waits until it takes signals. A signal that follows the start's last
    /// line must not meet its default action, which ends the process without a drain.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(parts: Parts) -> io::Result<ControlThread> {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let own = Orders { commands: commands.clone(), inbox, ready };
        let thread = netpoll::spawn_thread("control".into(), move || run(parts, own))?;
        // It hangs up when it can't start, which `join` says.
        let _ = is_ready.recv();
        Ok(ControlThread { commands, thread })
    }

    /// Sends a command. A command that does not fit is dropped: sixteen are waiting.
    pub fn command(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn join(self) -> io::Result<Exit> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the control thread panicked")))
    }
}

/// Commands to the thread, and the report that it takes them.
struct Orders {
    commands: mpsc::Sender<Command>,
    inbox: mpsc::Receiver<Command>,
    ready: std::sync::mpsc::Sender<()>,
}

fn run(parts: Parts, orders: Orders) -> io::Result<Exit> {
    if let Some(cpu) = parts.config.control.cpu
        && let Err(error) = netpoll::pin_current_thread(cpu)
    {
        tracing::warn!(cpu, %error, "the control thread can't be pinned; it runs anywhere (control.cpu)");
    }
    if parts.config.io.batch_scheduling
        && let Err(error) = netpoll::batch_current_thread()
    {
        tracing::warn!(%error, "SCHED_BATCH is refused; the threads run under the policy they have (io.scheduling)");
    }
    if let Err(error) = netpoll::lower_current_priority(parts.config.io.helper_nice) {
        tracing::warn!(%error, "nice(2) is refused; the control thread has the workers' priority (io.helper_nice)");
    }
    // With epoll by name, io_uring is not even tried: a sandbox may kill a process that does.
    if parts.config.io.backend != Some(BackendKind::Epoll) {
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => return runtime.block_on(live(parts, orders, true)),
            Err(error) => {
                tracing::info!(%error, "io_uring is not to be had; the control thread does without")
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, live(parts, orders, false))
}

/// Messages of workers, and what they are passed to.
struct Inbox {
    mailbox: Mailbox<ControlMessage>,
    wake_ups: tokio::net::UnixStream,
    stopped: Arc<AtomicUsize>,
    failed: Arc<AtomicBool>,
    commands: mpsc::Sender<Command>,
}

/// A waker for the control thread's mailbox, and what the thread sleeps on.
///
/// A socket pair and not an event descriptor, for that is what tokio watches in safe code. A worker
/// that wakes the thread writes eight bytes, at most once each time the thread has gone to sleep.
///
/// # Errors
/// When no descriptor is free.
pub fn control_waker() -> io::Result<(Waker, UnixStream)> {
    let (written, read) = UnixStream::pair()?;
    written.set_nonblocking(true)?;
    read.set_nonblocking(true)?;
    Ok((Waker::writing_to(written.into()), read))
}

/// What the handlers share, and what the thread keeps. With `io_uring` the journal is written
/// through it.
fn divided(parts: Parts, io_uring: bool) -> io::Result<(Arc<Control>, OwnParts)> {
    let Parts { config, facts, workers, verifier, capture, port, journal, own } = parts;
    let journal = journal.map_or_else(Journal::off, |claim| Journal::start(claim, io_uring));
    let (connections_max, requests_max) = (config.control.connections_max, config.control.requests_max);
    let frame_body_size_max = config.limits.frame_body_size_max;
    let signal = Arc::clone(&facts.shared.memory);
    let memory = MemoryWatch::new(Source::find(config.memory.memory_max), Arc::clone(&signal));
    let control = Arc::new(Control {
        encoder: PushEncoder::new(frame_body_size_max, signal)?.into(),
        config: RwLock::new(Arc::new(config)),
        facts,
        heartbeats: Heartbeats::new(&workers),
        stores: StoreWatch::new(workers.count()),
        memory,
        port: PortWatch::new(port),
        wakes: WakeCoalescer::new(workers.count()),
        input_budget: Budget::new(inputs_max(frame_body_size_max)),
        answer_budget: Budget::new(ANSWERS_MAX),
        admission: Admission::new(connections_max),
        refusals: Refusals::default(),
        lists: Lists::new(),
        sweeps: Arc::new(tokio::sync::Semaphore::new(gateway_core::worker::SWEEPS_MAX)),
        captures: Arc::new(tokio::sync::Semaphore::new(1)),
        scrapes: Scrapes::default(),
        workers,
        tickets: Tickets::default(),
        list_tickets: tokio::sync::Semaphore::new(LIST_TICKETS_MAX),
        lifecycle: Arc::new(Lifecycle::default()),
        journal,
        verifier,
        metrics: HttpMetrics::new(permits(requests_max)),
        capture,
        io_uring,
    });
    Ok((control, own))
}

async fn live(parts: Parts, orders: Orders, io_uring: bool) -> io::Result<Exit> {
    let Orders { commands, inbox: mut orders, ready } = orders;
    let (control, own) = divided(parts, io_uring)?;
    let OwnParts { mailbox, wake_ups, listener, claims, notifier, reload: source, log, signals } = own;
    let (stopped, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let inbox = Inbox {
        mailbox,
        wake_ups: tokio::net::UnixStream::from_std(wake_ups)?,
        stopped: Arc::clone(&stopped),
        failed: Arc::clone(&failed),
        commands: commands.clone(),
    };
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    if signals {
        listen_to_signals(&commands)?;
    }
    let _ = ready.send(());
    spawn_local(dispatch(inbox, Arc::clone(&control)));
    let notifier = Rc::new(notifier);
    spawn_local(watch(Arc::clone(&control), Rc::clone(&notifier)));
    spawn_local(watch_memory(Arc::clone(&control)));
    spawn_local(watch_stores(Arc::clone(&control)));
    spawn_local(watch_port(Arc::clone(&control)));
    spawn_local(wake_workers(Arc::clone(&control)));
    tokio::spawn(http::serve(listener, Arc::clone(&control)));
    control.lifecycle.advance(Stage::Ready);
    control.journal.record("ready", json!({ "io_uring": control.io_uring }));
    notifier.ready(SERVING);
    while orders.recv().await == Some(Command::Reload) {
        notifier.reloading();
        reload(&control, &source, &log).await;
        notifier.ready(SERVING);
    }
    notifier.stopping("draining: clients are being sent away");
    drain(&control, &mut orders, claims).await;
    let clean = stop(&control, &stopped).await && !failed.load(Ordering::Acquire);
    control.journal.record("stopped", json!({ "clean": clean }));
    if tokio::time::timeout(STOP_MAX, control.journal.finish()).await.is_err() {
        tracing::error!("the audit journal's disk hangs; its last lines may be lost");
    }
    Ok(Exit { clean })
}

/// Handles workers' messages in the order they come, some hundred at a time.
async fn dispatch(inbox: Inbox, control: Arc<Control>) {
    loop {
        let mut handled = 0;
        while let Some(message) = inbox.mailbox.pop() {
            inbox.handle(&control, message);
            handled += 1;
            if handled % 256 == 0 {
                tokio::task::yield_now().await;
            }
        }
        control.metrics.messages.fetch_add(handled, Ordering::Relaxed);
        if inbox.mailbox.prepare_sleep() {
            // Fails only when the runtime ends, and this task with it.
            let Ok(()) = inbox.wake_ups.readable().await else { return };
            while inbox.wake_ups.try_read(&mut [0; 64]).is_ok_and(|size| size > 0) {}
            inbox.mailbox.finish_sleep();
        }
    }
}

impl Inbox {
    fn handle(&self, control: &Control, message: ControlMessage) {
        match message {
            ControlMessage::Outcome { ticket, result } => control.tickets.outcome(ticket, result),
            ControlMessage::Inspected(inspection) => control.tickets.inspected(inspection),
            ControlMessage::Audit(event) => audit(&control.journal, &event),
            ControlMessage::Stopped(worker) => {
                self.stopped.fetch_add(1, Ordering::AcqRel);
                if control.lifecycle.stage() < Stage::Stopped {
                    tracing::error!(
                        worker = worker.0,
                        "a worker ended by itself; the gateway drains and exits with 1"
                    );
                    self.failed.store(true, Ordering::Release);
                    let _ = self.commands.try_send(Command::Terminate);
                }
            }
        }
    }
}

fn audit(journal: &Journal, event: &AuditEvent) {
    let connection = api::address_text(event.address);
    match event.kind {
        // At most one a minute and worker.
        AuditKind::Foreign(preface) => {
            tracing::warn!(
                connection,
                "a client's first bytes on a TCP listener are no goim frame: {preface}"
            )
        }
        kind => tracing::debug!(connection, mid = event.mid, "{kind:?}"),
    }
    if !journal.is_on() {
        return;
    }
    let by_server = |name, code: CloseCode| (name, Some("server"), Some(code.label()), Some(code.get()));
    // `by` and `reason` are the labels of gateway_connection_ends_total.
    let (name, by, reason, code) = match event.kind {
        AuditKind::Connected => ("connected", None, None, None),
        AuditKind::Disconnected(reason) => ("disconnected", Some("transport"), Some(reason.label()), None),
        AuditKind::Kicked(code) => by_server("kicked", code),
        AuditKind::Refused(code) => by_server("refused", code),
        AuditKind::Foreign(_) => return, // above, for the log
    };
    let fields = json!({
        "connection": api::address_text(event.address),
        "mid": (event.mid != 0).then(|| event.mid.to_string()),
        "by": by,
        "reason": reason,
        "code": code,
        "worker_clock_ms": event.at.as_millis(),
    });
    journal.record(name, fields);
}

/// Reads the workers' turn counters, so that a health check knows since when one stands still.
async fn watch(control: Arc<Control>, notifier: Rc<Notifier>) {
    let mut reported = Vec::new();
    let interval = notifier.interval().map_or(HEARTBEAT_INTERVAL, |wanted| wanted.min(HEARTBEAT_INTERVAL));
    let (mut accept_errors, mut refused) = (0, Seldom::default());
    loop {
        let asleep = Instant::now();
        tokio::time::sleep(interval).await;
        let late = asleep.elapsed().saturating_sub(interval);
        if late >= PAUSE_SAID {
            tracing::warn!(
                "the process stood still for {:.1} s: it was stopped (a signal, a debugger, a frozen cgroup), its machine was paused, or it got no processor; what clients sent meanwhile is read before their time is up (gateway_worker_late_seconds_total)",
                late.as_secs_f32()
            );
        }
        let all = control.workers.metrics().iter().map(|one| one.backend.accept_errors.get()).sum::<u64>();
        let times = all.saturating_sub(std::mem::replace(&mut accept_errors, all));
        if let Some(times) = refused.due(times, Instant::now()) {
            tracing::warn!(
                times,
                "client listeners can't accept connections; they try again and again. Mostly no descriptor is free: raise RLIMIT_NOFILE, or lower limits.connections_max (gateway_backend_accept_errors_total)"
            );
        }
        control.refusals.write_suppressed(&control.journal);
        let silent = control.heartbeats.silent(&control.workers, Instant::now());
        if silent != reported && !silent.is_empty() && control.lifecycle.stage() < Stage::Stopped {
            tracing::error!("workers {silent:?} have stopped turning; /healthz fails until they go on");
        }
        // Workers that end do not turn; how long that may take is the unit's TimeoutStopSec.
        if silent.is_empty() || control.lifecycle.stage() >= Stage::Stopped {
            notifier.alive();
        }
        reported = silent;
    }
}

/// Wakes the workers that were sent pushes, once for all pushes of the other tasks.
async fn wake_workers(control: Arc<Control>) {
    loop {
        control.wakes.wake_due(&control.workers).await;
    }
}

fn listen_to_signals(commands: &mpsc::Sender<Command>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let reloads = commands.clone();
    spawn_local(async move {
        while hangup.recv().await.is_some() {
            let _ = reloads.try_send(Command::Reload);
        }
    });
    // Their default is to end the process, without a drain. They mean nothing here.
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        let mut ignored = signal(kind)?;
        spawn_local(async move {
            while ignored.recv().await.is_some() {
                tracing::info!("signal {} is ignored; SIGHUP reloads, SIGTERM drains", kind.as_raw_value());
            }
        });
    }
    let seen = Arc::<AtomicBool>::default();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut end, commands, seen) = (signal(kind)?, commands.clone(), Arc::clone(&seen));
        spawn_local(async move {
            while end.recv().await.is_some() {
                if seen.swap(true, Ordering::AcqRel) {
                    tracing::warn!("a second signal: exiting at once");
                    crate::output::flush_log(LAST_LINE_MAX);
                    std::process::exit(128 + kind.as_raw_value());
                }
                let _ = commands.try_send(Command::Terminate);
            }
        });
    }
    Ok(())
}

/// Drains: asks the clients to reconnect elsewhere, and waits until they have left.
async fn drain(control: &Control, orders: &mut mpsc::Receiver<Command>, claims: Claims) {
    let drain = control.config().drain;
    control.lifecycle.advance(Stage::Draining);
    let connections = control.workers.connections();
    tracing::info!(
        connections,
        "draining for at most {} s; a second signal exits at once",
        drain.as_secs_f32()
    );
    control.journal.record("draining", json!({ "connections": connections }));
    let deadline = tokio::time::Instant::now() + drain;
    // Departures end a little before the deadline, so that the last notices arrive.
    send_to_all(control, || Message::Drain { over: drain * 3 / 4 }).await;
    // Listeners close with it, so a successor may have the ports while the last clients are sent
    // away; the journal's folder first, for it is looked at once the ports are there.
    control.journal.hand_over();
    drop(claims);
    while control.workers.connections() > 0 && tokio::time::Instant::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            order = orders.recv() => match order {
                Some(Command::Terminate) => return,
                Some(Command::Reload) => tracing::warn!("the gateway drains; the configuration is not read again"),
                None => {}
            },
        }
    }
}

/// Ends the workers; true when all have ended.
async fn stop(control: &Control, stopped: &AtomicUsize) -> bool {
    control.lifecycle.advance(Stage::Stopped);
    let left = control.workers.connections();
    tracing::info!(connections = left, "stopping the workers");
    send_to_all(control, || Message::Stop).await;
    let deadline = tokio::time::Instant::now() + STOP_MAX;
    while stopped.load(Ordering::Acquire) < control.workers.count() {
        if tokio::time::Instant::now() >= deadline {
            tracing::error!(
                "{} workers did not end in time",
                control.workers.count() - stopped.load(Ordering::Acquire)
            );
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
