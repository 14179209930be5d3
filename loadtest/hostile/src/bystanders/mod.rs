//! Well-behaved clients that an abuse must not disturb: long-lived members over TCP and WebSocket,
//! newcomers that log in all the time, and callers of the control port.
//!
//! All run on one thread of their own. They report into a [`Ledger`], from which the suite takes
//! one window after another.

mod control;
mod flows;
mod http;
pub(crate) mod ledger;
mod link;
mod member;
mod newcomers;
pub(crate) mod person;

use crate::error::RunError;
use crate::tokens::Signer;
use flows::Flows;
use ledger::Ledger;
pub(crate) use member::SERVICE_PUSH;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tokio::time::sleep;

/// The settings of bystanders.
pub(crate) struct Settings {
    pub(crate) count: u32,
    /// Time between two actions of a member.
    pub(crate) interval: Duration,
    /// Time between two logins of newcomers.
    pub(crate) login_interval: Duration,
    pub(crate) production: bool,
    pub(crate) tcp: SocketAddr,
    pub(crate) websocket: SocketAddr,
    pub(crate) control: SocketAddr,
    /// The login service's key pair, exported.
    pub(crate) key: String,
}

/// The phase of all bystanders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Gather = 0,
    Talk = 1,
    /// No more messages; those under way still arrive.
    Hush = 2,
    Leave = 3,
}

/// What tasks share, all on one thread.
struct Shared {
    count: u32,
    interval: Duration,
    login_interval: Duration,
    production: bool,
    tcp: SocketAddr,
    websocket: SocketAddr,
    control: SocketAddr,
    signer: Signer,
    ledger: Ledger,
    since: Instant,
    flows: RefCell<Flows>,
    open_since: RefCell<Vec<Option<Instant>>>,
    /// Members that are open.
    open: Arc<AtomicU32>,
    phase: Arc<AtomicU8>,
    next_login: Cell<u32>,
}

impl Shared {
    fn new(
        settings: &Settings,
        ledger: Ledger,
        phase: Arc<AtomicU8>,
        open: Arc<AtomicU32>,
    ) -> Result<Shared, RunError> {
        Ok(Shared {
            count: settings.count,
            interval: settings.interval,
            login_interval: settings.login_interval,
            production: settings.production,
            tcp: settings.tcp,
            websocket: settings.websocket,
            control: settings.control,
            signer: Signer::import(&settings.key)?,
            ledger,
            since: Instant::now(),
            flows: RefCell::default(),
            open_since: RefCell::new(vec![None; settings.count as usize]),
            open,
            phase,
            next_login: Cell::new(0),
        })
    }

    fn phase_is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn sends(&self) -> bool {
        self.phase_is(Phase::Talk)
    }

    fn leaves(&self) -> bool {
        self.phase_is(Phase::Leave)
    }

    fn listener(&self, websocket: bool) -> SocketAddr {
        if websocket { self.websocket } else { self.tcp }
    }

    fn auth(&self, mid: i64, rooms: &[String], more: &Value) -> Vec<u8> {
        let mut body = json!({ "mid": mid });
        if self.production {
            body["token"] = json!(self.signer.user(&json!(mid), rooms));
        }
        if let Some(more) = more.as_object() {
            more.iter().for_each(|(key, value)| body[key] = value.clone());
        }
        body.to_string().into_bytes()
    }

    fn is_open(&self, index: u32, again: bool) {
        if again {
            self.flows.borrow_mut().reconnected(index);
        }
        if let Some(since) = self.open_since.borrow_mut().get_mut(index as usize) {
            *since = Some(Instant::now());
            self.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_closed(&self, index: u32) {
        let was = self.open_since.borrow_mut().get_mut(index as usize).and_then(Option::take);
        if was.is_some() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a member has been open for so long.
    fn is_settled(&self, index: u32, time: Duration) -> bool {
        let since = self.open_since.borrow().get(index as usize).copied().flatten();
        since.is_some_and(|since| since.elapsed() >= time)
    }
}

/// Running bystanders. They leave when this is dropped.
pub(crate) struct Bystanders {
    pub(crate) ledger: Ledger,
    phase: Arc<AtomicU8>,
    open: Arc<AtomicU32>,
    count: u32,
    thread: Option<JoinHandle<()>>,
}

impl Bystanders {
    /// Starts them; returns when all are logged in.
    ///
    /// # Errors
    /// They are not within the patience.
    pub(crate) fn start(settings: Settings, patience: Duration) -> Result<Bystanders, RunError> {
        let ledger = Ledger::new();
        let (phase, open) = (Arc::new(AtomicU8::new(Phase::Gather as u8)), Arc::new(AtomicU32::new(0)));
        let (theirs, count) = ((ledger.clone(), phase.clone(), open.clone()), settings.count);
        let thread = std::thread::Builder::new().name("bystanders".into()).spawn(move || {
            // With priority over attackers, where the system allows it: the gateway is measured,
            // not the generator.
            let _ = rustix::process::nice(-10);
            serve(&settings, theirs.0, theirs.1, theirs.2);
        });
        let thread =
            thread.map_err(|error| RunError::new(format!("no thread: {error}"), "look at `ulimit -u`"))?;
        let bystanders = Bystanders { ledger, phase, open, count, thread: Some(thread) };
        let since = Instant::now();
        while bystanders.open() < count {
            if since.elapsed() > patience {
                let window = bystanders.ledger.take();
                return Err(RunError::new(
                    format!(
                        "only {} of {count} bystanders could log in: {:?}",
                        bystanders.open(),
                        window.notes
                    ),
                    "lower --well-behaved, or look at the gateway's log",
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Receivers count as present a second after their login.
        std::thread::sleep(Duration::from_millis(1100));
        bystanders.ledger.take();
        bystanders.enter(Phase::Talk);
        Ok(bystanders)
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Members that are logged in.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Stops sending. After `time` for what is under way all leave, and what is missing is in the
    /// window.
    pub(crate) fn finish(mut self, time: Duration) -> ledger::Window {
        self.enter(Phase::Hush);
        std::thread::sleep(time);
        self.enter(Phase::Leave);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.ledger.take()
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.enter(Phase::Leave);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread: until the phase is [`Phase::Leave`] and all have left.
fn serve(settings: &Settings, ledger: Ledger, phase: Arc<AtomicU8>, open: Arc<AtomicU32>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let Ok(shared) = Shared::new(settings, ledger, phase, open) else { return };
    let (shared, tasks) = (Rc::new(shared), LocalSet::new());
    runtime.block_on(tasks.run_until(async {
        let mut running = vec![];
        for index in 0..shared.count {
            running.push(tokio::task::spawn_local(member::live(shared.clone(), index)));
            // A storm of logins is an abuse of its own.
            if index % 20 == 19 {
                sleep(Duration::from_millis(20)).await;
            }
        }
        while shared.phase_is(Phase::Gather) {
            sleep(Duration::from_millis(10)).await;
        }
        running.extend(control::tasks(&shared));
        running.extend(newcomers::tasks(&shared));
        while !shared.leaves() {
            sleep(Duration::from_millis(10)).await;
        }
        count_missing(&shared);
        for task in running {
            let _ = task.await;
        }
    }));
}

fn count_missing(shared: &Shared) {
    let mut window = shared.ledger.lock();
    for (way, _, to, missing) in shared.flows.borrow().missing() {
        window.counts.lost += missing;
        window.note(format!("{way:?} messages to member {to} missing at the end"));
    }
}
