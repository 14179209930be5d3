//! Workers that answer the control thread without a single socket.

use gateway::start::{Running, prepare, start};
use gateway::workers::{RunningWorkers, Spawn, WorkerHost};
use gateway_config::{BackendKind, Config, MemoryEntry, Plan, Problems, Sources, SystemLimits};
use gateway_control::{Command, LogHandle, ReloadSource};
use gateway_core::InlineText;
use gateway_core::address::{Address, Fingerprint, Fingerprints, WorkerId};
use gateway_core::message::{
    AuditEvent, AuditKind, ConnectionRow, ControlMessage, ControlSender, EncodedPush, Inspection, KickTarget,
    Message, Origin, Query, RoomRow,
};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::router::places::FanoutSizes;
use gateway_core::settings::TableSizes;
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{BackendConfig, ConnectionId, Mailbox, Timestamp, Waker, mailbox};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Connections of each worker.
pub const CONNECTIONS: usize = 5;
/// Rooms that have members: on each worker, two of them.
pub const ROOMS: [&str; 2] = ["live://1", "game://2"];

/// What was said to workers: who, and a short word.
pub type Seen = Arc<Mutex<Vec<(usize, String)>>>;

#[derive(Clone, Copy, Default)]
pub struct Behaviour {
    /// Says nothing to anyone.
    pub mute: bool,
    /// Never leaves when drained.
    pub stays: bool,
    /// Ends by itself at the first push.
    pub dies: bool,
    /// Does not take messages out of its mailbox.
    pub stuck: bool,
    /// Reports what it kicked only once it is told to go.
    pub kicks_late: bool,
    /// Not of the workers: epoll is asked for by name, so the control thread does without io_uring
    /// too.
    pub plain_files: bool,
}

pub struct FakeHost {
    pub seen: Seen,
    /// Visits to workers for lists.
    pub inspections: Arc<AtomicUsize>,
    pub pushes: Arc<Mutex<Vec<EncodedPush>>>,
    pub behaviour: Behaviour,
}

impl WorkerHost for FakeHost {
    fn choose_backend(&self, wanted: Option<BackendKind>) -> Result<(BackendKind, String), String> {
        match wanted {
            Some(BackendKind::IoUring) => Err("io_uring is forbidden here; write \"epoll\"".into()),
            _ => Ok((BackendKind::Epoll, "a fake for \"tests\"".into())),
        }
    }

    fn memory(&self, _: BackendKind, tables: &TableSizes, _: usize, _: &BackendConfig) -> Vec<MemoryEntry> {
        vec![MemoryEntry::new("sessions", tables.connections_max * 256)]
    }

    fn start(&self, _: &Plan, order: Spawn) -> io::Result<RunningWorkers> {
        let listeners = order.settings.listeners.iter().zip(3101..);
        let addresses =
            listeners.map(|(listener, port)| (listener.socket.address.ip(), port).into()).collect();
        let mut started = RunningWorkers {
            senders: vec![],
            // Fake workers deliver nothing, so they return no place either.
            places: Arc::new(FanoutPlaces::new(
                order.settings.workers,
                FanoutSizes { rooms: 1 << 20, everyone: 1 << 20 },
            )),
            metrics: vec![],
            addresses,
            backends: vec![],
            capture: None,
            port: None,
            threads: vec![],
        };
        for index in 0..order.settings.workers {
            let waker = Waker::event_fd()?;
            let (sender, mailbox) = mailbox(order.settings.tables.mailbox_capacity, waker.clone());
            let metrics = Arc::<WorkerMetrics>::default();
            metrics.connections[0].set(CONNECTIONS as u64);
            metrics.block_pools[0].size.set(256);
            metrics.receive_pool.size.set(4096);
            metrics.turn_time.record(30_000, 5);
            metrics.count_end(gateway_core::metrics::EndReason::Code(CloseCode::KICKED));
            let worker = FakeWorker {
                id: WorkerId(index as u8),
                waker,
                mailbox,
                metrics: Arc::clone(&metrics),
                control: order.control.clone(),
                names: order.names,
                seen: Arc::clone(&self.seen),
                inspections: Arc::clone(&self.inspections),
                pushes: Arc::clone(&self.pushes),
                behaviour: self.behaviour,
                leaving: None,
                kicked: Vec::new(),
            };
            started.threads.push(std::thread::spawn(move || worker.run()));
            started.senders.push(sender);
            started.metrics.push(metrics);
        }
        Ok(started)
    }
}

struct FakeWorker {
    id: WorkerId,
    waker: Waker,
    mailbox: Mailbox<Message>,
    metrics: Arc<WorkerMetrics>,
    control: ControlSender,
    names: Fingerprints,
    seen: Seen,
    inspections: Arc<AtomicUsize>,
    pushes: Arc<Mutex<Vec<EncodedPush>>>,
    behaviour: Behaviour,
    leaving: Option<Instant>,
    /// Kicks that are not reported yet.
    kicked: Vec<(u64, u32)>,
}

impl FakeWorker {
    fn run(mut self) {
        loop {
            while let Some(message) = self.next() {
                if !self.handle(message) {
                    self.tell(ControlMessage::Stopped(self.id));
                    return;
                }
            }
            if self.leaving.is_some_and(|at| Instant::now() >= at) {
                self.metrics.connections[0].set(0);
            }
            if !self.behaviour.kicks_late || self.is_told("go") {
                for (ticket, closed) in std::mem::take(&mut self.kicked) {
                    self.outcome(Origin::Control { ticket }, closed);
                }
            }
            self.metrics.turns.add(1);
            if self.behaviour.stuck {
                std::thread::sleep(Duration::from_millis(10));
            } else if self.mailbox.prepare_sleep() {
                self.waker.wait(Duration::from_millis(20));
                self.mailbox.finish_sleep();
            }
        }
    }

    /// A stuck worker takes messages only once the test says so, or when there are more than pushes
    /// may be: it is told to stop.
    fn next(&mut self) -> Option<Message> {
        self.behaviour.stuck = self.behaviour.stuck && self.mailbox.len() <= 62 && !self.is_told("free");
        if self.behaviour.stuck { None } else { self.mailbox.pop() }
    }

    /// Whether the test has said `word`.
    fn is_told(&self, word: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|(_, said)| said == word)
    }

    fn tell(&self, message: ControlMessage) {
        self.control.send(message).unwrap();
    }

    fn saw(&self, word: impl Into<String>) {
        self.seen.lock().unwrap().push((self.id.index(), word.into()));
    }

    fn pushed(&self, word: &str, push: EncodedPush, origin: Origin, receivers: u32) -> bool {
        self.saw(format!("{word} {} {}", push.operation(), push.class().label()));
        self.pushes.lock().unwrap().push(push);
        self.outcome(origin, receivers);
        !self.behaviour.dies
    }

    fn outcome(&self, origin: Origin, receivers: u32) {
        if let Origin::Control { ticket } = origin
            && !self.behaviour.mute
        {
            self.tell(ControlMessage::Outcome { ticket, result: Ok(receivers) });
        }
    }

    fn knows(&self, name: Fingerprint) -> bool {
        [self.names.mid(7), self.names.uid("seven"), self.names.key("key-7")].contains(&name)
    }

    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::ToName { name, origin: Origin::Control { ticket }, .. }
            | Message::ToRoom { room: name, origin: Origin::Control { ticket }, .. }
                if [self.names.mid(503), self.names.room("live://503")].contains(&name) =>
            {
                self.tell(ControlMessage::Outcome { ticket, result: Err(ErrorCode::BUSY) });
            }
            Message::ToRoom { room, origin: Origin::Control { ticket }, .. }
                if room == self.names.room("live://404") =>
            {
                self.tell(ControlMessage::Outcome { ticket, result: Err(ErrorCode::NOT_FOUND) });
            }
            Message::ToName { name, push, origin, .. } => {
                return self.pushed("name", push, origin, u32::from(self.knows(name)));
            }
            Message::ToRoom { push, origin, .. } => return self.pushed("room", push, origin, 3),
            Message::ToAll { push, rate, origin } => {
                return self.pushed(&format!("all@{rate}"), push, origin, 10);
            }
            Message::Kick { target, code, reason, ticket } => {
                let closed = match target {
                    KickTarget::Many(_) => true,
                    KickTarget::Name(name) => self.knows(name),
                    KickTarget::MadeKey(connection, _) => connection.index() < CONNECTIONS,
                    KickTarget::Connection(connection) => connection.index() < CONNECTIONS,
                };
                let reason = reason.map(|reason| format!(" {}", String::from_utf8_lossy(&reason)));
                self.saw(format!("kick {}{}", code.get(), reason.unwrap_or_default()));
                if closed {
                    let address = self.address(0);
                    let kind = AuditKind::Kicked(code);
                    self.tell(ControlMessage::Audit(AuditEvent {
                        at: Timestamp::ZERO,
                        address,
                        kind,
                        mid: 7,
                    }));
                }
                self.kicked.push((ticket, u32::from(closed)));
            }
            Message::Inspect(mut inspection) => {
                self.inspections.fetch_add(1, Ordering::Relaxed);
                self.inspect(&mut inspection);
                if !self.behaviour.mute {
                    self.tell(ControlMessage::Inspected(inspection));
                }
            }
            Message::Reload(new) => self.saw(format!("reload {}", new.idle_timeout.as_secs())),
            Message::Drain { over } => {
                self.saw(format!("drain {}", over.as_millis()));
                let stay = if self.behaviour.stays { 3600 } else { 0 };
                self.leaving = Some(Instant::now() + Duration::from_secs(stay) + Duration::from_millis(100));
            }
            Message::Stop => {
                self.saw("stop");
                return false;
            }
            other => self.saw(format!("{other:?}")),
        }
        true
    }

    fn address(&self, index: usize) -> Address {
        Address::new(self.id, ConnectionId::new(index as u32, 1))
    }

    fn inspect(&self, inspection: &mut Inspection) {
        match inspection.query() {
            Query::Connections { from, user, key } => {
                let wanted = user.or(key).is_none_or(|name| self.knows(name));
                let mut at = from;
                while at < CONNECTIONS && !inspection.is_full() {
                    if wanted && (user.or(key).is_none() || at == 2) {
                        inspection.push_connection(self.row(at));
                    }
                    at += 1;
                }
                inspection.finish((at < CONNECTIONS).then_some(at));
            }
            Query::Connection(connection) => {
                if connection.index() < CONNECTIONS && connection.generation() == 1 {
                    inspection.push_connection(self.row(connection.index()));
                }
            }
            Query::Rooms { from } => {
                let mut at = from;
                while at < ROOMS.len() && !inspection.is_full() {
                    inspection.push_room(self.room(at));
                    at += 1;
                }
                inspection.finish((at < ROOMS.len()).then_some(at));
            }
            Query::Room(room) => {
                if let Some(at) = ROOMS.iter().position(|name| self.names.room(name) == room) {
                    inspection.push_room(self.room(at));
                }
            }
        }
    }

    fn room(&self, at: usize) -> RoomRow {
        let name = ROOMS[at];
        let (local_members, total_members) = (2, 4 + at as u32);
        RoomRow {
            room: self.names.room(name),
            name: InlineText::truncated(name),
            local_members,
            total_members,
        }
    }

    fn row(&self, index: usize) -> ConnectionRow {
        ConnectionRow {
            address: self.address(index),
            listener: 0,
            authenticated: true,
            mid: i64::MAX,
            uid: InlineText::EMPTY,
            key: InlineText::truncated(&format!("key-{index}")),
            peer: ([127, 0, 0, 1], 1000 + index as u16).into(),
            connected_ms: 10,
            idle_ms: 5,
            rooms: 1,
            queued_bytes: 0,
            accepts: 2,
        }
    }
}

/// A gateway with two fake workers.
pub struct Gateway {
    pub running: Option<Running>,
    pub seen: Seen,
    pub inspections: Arc<AtomicUsize>,
    pub pushes: Arc<Mutex<Vec<EncodedPush>>>,
    pub base: String,
    pub log_levels: Arc<Mutex<Vec<String>>>,
    file: Arc<Mutex<String>>,
}

/// Peers that the kernel would choose: those of the defaults are claimed, and gateways of other
/// tests have them. The fake workers say 3101 and 3102.
const COMMON: &str = "[[listener]]\nname = \"tcp\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"websocket\"\nkind = \"websocket\"\naddress = \"127.0.0.1:0\"\n[io]\nworkers = 2\n[control]\naddress = \"127.0.0.1:0\"\n";

fn load(text: &str) -> Result<Config, Problems> {
    let sources = Sources { file: Some(("gateway.toml".into(), text.into())), ..Sources::default() };
    Config::load(&sources, &|file| std::fs::read(file))
}

impl Gateway {
    /// With further lines of configuration; those of `[control]` come first.
    pub fn start(more: &str) -> Gateway {
        Gateway::start_with(more, Behaviour::default())
    }

    pub fn start_with(more: &str, behaviour: Behaviour) -> Gateway {
        let backend = if behaviour.plain_files { "[io]\nbackend = \"epoll\"\n" } else { "[io]\n" };
        let file = Arc::new(Mutex::new(format!("{}{more}", COMMON.replace("[io]\n", backend))));
        let config = load(&file.lock().unwrap()).unwrap_or_else(|problems| panic!("{problems}"));
        let (seen, pushes) = (Seen::default(), Arc::default());
        let inspections = Arc::<AtomicUsize>::default();
        let host = FakeHost {
            seen: Arc::clone(&seen),
            inspections: Arc::clone(&inspections),
            pushes: Arc::clone(&pushes),
            behaviour,
        };
        let prepared =
            prepare(config, SystemLimits::read(), &host).unwrap_or_else(|problems| panic!("{problems}"));
        let reloaded = Arc::clone(&file);
        let reload = ReloadSource::new(move || load(&reloaded.lock().unwrap()));
        let log_levels = Arc::<Mutex<Vec<String>>>::default();
        let levels = Arc::clone(&log_levels);
        let log = LogHandle::new(move |level| levels.lock().unwrap().push(level.to_string()));
        let running = start(prepared, &host, reload, log, false).unwrap();
        let base = format!("http://{}", running.control_address);
        let gateway = Gateway { running: Some(running), seen, inspections, pushes, base, log_levels, file };
        gateway.until(|gateway| gateway.get("/readyz").status == 200);
        gateway
    }

    pub fn address(&self) -> String {
        self.base.trim_start_matches("http://").to_owned()
    }

    pub fn until(&self, done: impl Fn(&Gateway) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn command(&self, command: Command) {
        self.running.as_ref().unwrap().control.command(command);
    }

    /// Replaces the file, and reloads.
    pub fn reload(&self, more: &str) {
        *self.file.lock().unwrap() = format!("{COMMON}{more}");
        self.command(Command::Reload);
    }

    /// Replaces the whole file, and reloads.
    pub fn reload_whole(&self, text: &str) {
        text.clone_into(&mut self.file.lock().unwrap());
        self.command(Command::Reload);
    }

    pub fn saw(&self, word: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(_, seen)| seen == word).count()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.call("POST", path, &[("content-type", "application/json")], body)
    }

    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(60)))
                .build(),
        );
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = agent.run(request.body(body).unwrap());
        let mut response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let headers = response.headers().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().read_to_string().unwrap();
        Answer { status: response.status().as_u16(), retry_after: header("retry-after"), text }
    }

    /// A gateway that obeys this process's signals, until it ends. For a process of its own.
    pub fn obey_signals(behaviour: Behaviour) -> bool {
        let host = FakeHost {
            seen: Seen::default(),
            inspections: Arc::default(),
            pushes: Arc::default(),
            behaviour,
        };
        let config = load(&format!("{COMMON}[drain]\ndrain_ms = 20000\n"))
            .unwrap_or_else(|problems| panic!("{problems}"));
        let prepared =
            prepare(config, SystemLimits::read(), &host).unwrap_or_else(|problems| panic!("{problems}"));
        let reload = ReloadSource::new(|| {
            println!("reloads");
            load("[log]\nlevel = \"debug\"\n")
        });
        let log = LogHandle::new(|level| println!("level {level}"));
        let running = start(prepared, &host, reload, log, true).unwrap();
        println!("address {}", running.control_address);
        running.join().unwrap()
    }

    /// Ends it; true when the end was clean.
    pub fn end(mut self) -> bool {
        let running = self.running.take().unwrap();
        running.control.command(Command::Terminate);
        running.join().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.control.command(Command::Terminate);
            running.control.command(Command::Terminate);
            let _ = running.join();
        }
    }
}

pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or("none").to_owned())
    }
}
