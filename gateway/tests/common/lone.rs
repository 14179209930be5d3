//! A worker that is the only one and its clients, on a simulated network: time is virtual, so a
//! test waits for a minute in a moment, and sees every byte that a client is sent.

use super::websocket::masked;
use super::{auth_body, frame, lone_worker};
use gateway_core::message::Message;
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::WorkerSettings;
use gateway_core::worker::Worker;
use gateway_proto::frame::{Frames, Header, Operation};
use gateway_proto::websocket::handshake::client_request;
use gateway_proto::websocket::{Opcode, split_frame};
use netpoll::sim::{FaultConfig, SimBackend, SimNetwork};
use netpoll::{Backend, BackendConfig, Completion, Completions, ConnectionId, MailboxSender, Queues};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What a client was sent, and whether that was all.
#[derive(Default)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub ended: bool,
}

pub struct Lone {
    pub network: SimNetwork,
    pub worker: Worker<SimBackend>,
    inbox: MailboxSender<Message>,
    pub clients: SimBackend,
    pub metrics: Arc<WorkerMetrics>,
    heard: HashMap<ConnectionId, Heard>,
    /// Turns that the worker has had.
    pub turns: usize,
}

impl Lone {
    /// A worker of `settings` on a backend of `sizes`; its clients have one of the same.
    pub fn new(seed: u64, mut settings: WorkerSettings, sizes: &BackendConfig) -> Lone {
        let network = SimNetwork::new(seed, FaultConfig::calm());
        let clients = network.backend(sizes).unwrap();
        let backend = network.backend(sizes).unwrap();
        settings.send_queue_bytes_max = sizes.send_queue_bytes_max;
        let metrics = Arc::new(WorkerMetrics::default());
        let (worker, inbox) = lone_worker(settings, backend, Arc::clone(&metrics));
        Lone { network, worker, inbox, clients, metrics, heard: HashMap::new(), turns: 0 }
    }

    /// Lets time pass until `done`.
    pub fn until(&mut self, what: &str, done: impl Fn(&Lone) -> bool) {
        for _ in 0..1_000_000 {
            if done(self) {
                return;
            }
            match self.network.step() {
                Some(0) => self.listen(),
                Some(_) => self.turn(),
                None => self.network.advance(Duration::from_millis(100)),
            }
        }
        panic!("waited in vain for {what}");
    }

    pub fn wait(&mut self, time: Duration) {
        let end = self.network.now() + time;
        self.until("time to pass", |world| world.network.now() >= end);
    }

    fn turn(&mut self) {
        self.worker.turn(Duration::from_secs(1)).unwrap();
        self.turns += 1;
        self.worker.invariants();
        let wait = self.worker.begin_wait(Duration::from_secs(1));
        self.network.set_wait(1, wait);
    }

    fn listen(&mut self) {
        let mut batch = Completions::with_capacity(256);
        self.clients.poll(Duration::from_secs(3600), &mut batch).unwrap();
        for completion in batch.drain() {
            match completion {
                Completion::Connected { connection } => {
                    self.heard.insert(connection, Heard::default());
                }
                Completion::Received { connection, buffer } => {
                    self.heard.get_mut(&connection).unwrap().bytes.extend_from_slice(buffer.as_slice());
                }
                Completion::PeerFinished { connection } | Completion::Closed { connection, .. } => {
                    self.heard.entry(connection).or_default().ended = true;
                }
                Completion::Accepted { .. } | Completion::Sent { .. } => {}
            }
        }
    }

    /// What a client was sent so far.
    pub fn heard(&self, client: ConnectionId) -> &Heard {
        &self.heard[&client]
    }

    pub fn has_ended(&self, client: ConnectionId) -> bool {
        self.heard(client).ended
    }

    /// Takes what a client was sent.
    pub fn take(&mut self, client: ConnectionId) -> Vec<u8> {
        std::mem::take(&mut self.heard.get_mut(&client).unwrap().bytes)
    }

    pub fn send(&mut self, from: ConnectionId, bytes: &[u8]) {
        let buffer = self.clients.pools().copy(bytes).expect("a block");
        let _ = self.clients.send(from, buffer.freeze()); // one that was closed sends no more
    }

    /// Sends `bytes` if all that it has sent before has left.
    pub fn send_if_empty(&mut self, from: ConnectionId, bytes: &[u8]) {
        if self.clients.queued_bytes(from) == 0 {
            self.send(from, bytes);
        }
    }

    /// Sends a request and waits until there is an answer, or the end.
    pub fn ask(&mut self, from: ConnectionId, bytes: &[u8]) -> Vec<u8> {
        self.take(from);
        self.send(from, bytes);
        let has_heard = |world: &Lone| !world.heard(from).bytes.is_empty() || world.has_ended(from);
        self.until("an answer", has_heard);
        self.take(from)
    }

    /// A message to the worker, as the control thread sends it.
    pub fn tell(&mut self, message: Message) {
        self.inbox.send(message).unwrap();
        self.network.nudge(1);
    }

    /// A connection to the listener of that number.
    pub fn connect(&mut self, listener: usize) -> ConnectionId {
        let address = self.worker.addresses()[listener];
        let id = self.clients.connect(None, address).unwrap();
        self.until("a connection", |world| world.heard.contains_key(&id));
        id
    }

    /// A client that is logged in over TCP.
    pub fn login(&mut self, mid: i64) -> ConnectionId {
        let id = self.connect(0);
        let reply = self.ask(id, &frame(Operation::AUTH, 1, &auth_body(mid, "", "")));
        assert_eq!(frames(&reply).len(), 1);
        id
    }

    /// A client that is logged in over WebSocket.
    pub fn login_websocket(&mut self, mid: i64) -> ConnectionId {
        let id = self.connect(1);
        let mut out = [0; 512];
        let (size, _) = client_request("/sub", "localhost", [7; 16], None, &mut out).unwrap();
        assert!(self.ask(id, &out[..size]).starts_with(b"HTTP/1.1 101"));
        let auth = frame(Operation::AUTH, 1, &auth_body(mid, "", ""));
        let reply = self.ask(id, &masked(Opcode::Binary, true, &auth));
        assert_eq!(messages(&reply).len(), 1);
        id
    }
}

/// The frames that `bytes` are.
///
/// # Panics
/// If the last one is cut.
pub fn frames(bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let whole = Frames::new(bytes, 1 << 24).map(|frame| frame.expect("a whole frame"));
    whole.map(|(header, body)| (header, body.to_vec())).collect()
}

/// The WebSocket frames that `bytes` are.
///
/// # Panics
/// If the last one is cut.
pub fn messages(bytes: &[u8]) -> Vec<(Opcode, Vec<u8>)> {
    let (mut rest, mut messages) = (bytes, vec![]);
    while !rest.is_empty() {
        let (opcode, payload, behind) = split_frame(rest).expect("a whole WebSocket frame");
        messages.push((opcode, payload.to_vec()));
        rest = behind;
    }
    messages
}
