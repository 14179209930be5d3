//! The test peer: a small goim-compatible server on netpoll and gateway-proto, one thread, with
//! faults to order.
//!
//! It speaks goim over TCP and WebSocket, goim's HTTP push, bare TCP echo, bare TCP fan-out and
//! bare WebSocket echo, each on a port of its own, and can drop, duplicate, reorder or misdeliver
//! one push in so many.

mod http;
mod session;

use netpoll::epoll::EpollBackend;
use netpoll::{Backend, BackendConfig, Buffer, Completion, Completions, ConnectionId, ListenerConfig};
use session::Session;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The faults of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Drop one delivery in so many.
    pub drop: Option<u64>,
    /// Send one delivery in so many twice.
    pub duplicate: Option<u64>,
    /// Hold one delivery in so many back behind the next one.
    pub reorder: Option<u64>,
    /// Send one delivery in so many to another connection as well.
    pub misdeliver: Option<u64>,
    /// Answer application operations with an empty body, as goim does.
    pub empty_replies: bool,
    /// Send garbage instead of one delivery in so many.
    pub garbage: Option<u64>,
    /// Never answer auth.
    pub mute: bool,
    /// Refuse every Join.
    pub refuse_joins: bool,
    /// Close an HTTP connection, without an answer, at a request that comes after so long a
    /// silence: as if it had been closed just before.
    pub http_idle_max: Option<Duration>,
    /// End so long after five connections were there, with all ports and connections.
    pub vanish: Option<Duration>,
}

/// A running peer; it ends when dropped.
pub struct Peer {
    pub tcp: SocketAddr,
    pub websocket: SocketAddr,
    pub http: SocketAddr,
    pub raw: SocketAddr,
    pub raw_fan_out: SocketAddr,
    pub websocket_echo: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a listener speaks, in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    WebSocket,
    Http,
    Raw,
    RawFanOut,
    WebSocketEcho,
}

const KINDS: [Kind; 6] =
    [Kind::Tcp, Kind::WebSocket, Kind::Http, Kind::Raw, Kind::RawFanOut, Kind::WebSocketEcho];

pub(crate) struct Server {
    backend: EpollBackend,
    sessions: HashMap<ConnectionId, Session>,
    order: Vec<ConnectionId>,
    faults: Faults,
    deliveries: u64,
    held: Option<(ConnectionId, Vec<u8>)>,
}

impl Peer {
    pub fn start(faults: Faults) -> Peer {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let (announce, ports) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut config = BackendConfig::small(4096);
            config.pools.receive.count = 2048;
            config.pools.blocks.iter_mut().for_each(|pool| pool.count *= 8);
            let mut backend = EpollBackend::new(&config).unwrap();
            let any = || ListenerConfig::new("127.0.0.1:0".parse().unwrap());
            let ports: Vec<SocketAddr> = KINDS.iter().map(|_| backend.listen(&any()).unwrap().1).collect();
            announce.send(ports).unwrap();
            let (sessions, order) = (HashMap::new(), Vec::new());
            Server { backend, sessions, order, faults, deliveries: 0, held: None }.run(&flag);
        });
        let [tcp, websocket, http, raw, raw_fan_out, websocket_echo] = ports.recv().unwrap()[..] else {
            panic!()
        };
        Peer { tcp, websocket, http, raw, raw_fan_out, websocket_echo, stop, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

impl Server {
    fn run(&mut self, stop: &AtomicBool) {
        let mut batch = Completions::with_capacity(256);
        let mut first = None;
        while !stop.load(Relaxed) {
            first = first.or_else(|| (self.sessions.len() >= 5).then(Instant::now));
            if self.faults.vanish.is_some_and(|time| first.is_some_and(|first| first.elapsed() > time)) {
                return;
            }
            self.backend.poll(Duration::from_millis(5), &mut batch).unwrap();
            let completions: Vec<Completion> = batch.drain().collect();
            for completion in completions {
                match completion {
                    Completion::Accepted { connection, listener, .. } => {
                        let kind = KINDS[usize::from(listener.0)];
                        self.sessions.insert(connection, Session::new(kind));
                        self.order.push(connection);
                    }
                    Completion::Received { connection, buffer } => self.received(connection, buffer),
                    Completion::Closed { connection, .. } => {
                        self.sessions.remove(&connection);
                        self.order.retain(|id| *id != connection);
                    }
                    Completion::Connected { .. }
                    | Completion::Sent { .. }
                    | Completion::PeerFinished { .. } => {}
                }
            }
        }
    }

    fn received(&mut self, id: ConnectionId, buffer: Buffer) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.input.extend_from_slice(buffer.as_slice());
        let mut input = std::mem::take(&mut session.input);
        let kind = session.kind;
        let used = match kind {
            Kind::Raw => {
                self.send(id, &input);
                input.len()
            }
            Kind::RawFanOut => {
                let all: Vec<ConnectionId> = self.order.clone();
                let fans = all.into_iter().filter(|id| self.sessions[id].kind == Kind::RawFanOut);
                fans.collect::<Vec<_>>().into_iter().for_each(|id| self.send(id, &input));
                input.len()
            }
            Kind::Http if self.faults.http_idle_max.is_some_and(|max| session.used_at.elapsed() > max) => {
                return self.backend.close(id);
            }
            Kind::Http => http::serve(self, id, &input),
            Kind::Tcp => session::frames(self, id, &input),
            Kind::WebSocket | Kind::WebSocketEcho => session::messages(self, id, &mut input),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.input = input[used..].to_vec();
            session.used_at = Instant::now();
        }
    }

    pub(crate) fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        for chunk in bytes.chunks(64 << 10) {
            if let Some(buffer) = self.backend.pools().copy(chunk) {
                if self.backend.send(id, buffer.freeze()).is_err() {
                    self.backend.close(id);
                }
            } else {
                eprintln!("peer: no buffer for {} B", chunk.len());
                self.backend.close(id);
            }
        }
    }

    /// Delivers a push, with whatever fault is due.
    pub(crate) fn deliver(&mut self, id: ConnectionId, frame: &[u8]) {
        self.deliveries += 1;
        let number = self.deliveries;
        let due = |every: Option<u64>| every.is_some_and(|every| number.is_multiple_of(every));
        let faults = self.faults;
        if due(faults.drop) {
            return;
        }
        if due(faults.garbage) {
            return self.send(id, &[0xff; 32]);
        }
        if due(faults.reorder) && self.held.is_none() {
            self.held = Some((id, frame.to_vec()));
            return;
        }
        self.send_frame(id, frame);
        if due(faults.duplicate) {
            self.send_frame(id, frame);
        }
        if due(faults.misdeliver) {
            let others = self.order.iter().filter(|other| **other != id && self.sessions[*other].is_ready());
            if let Some(other) = others.copied().next() {
                self.send_frame(other, frame);
            }
        }
        if self.held.as_ref().is_some_and(|(held, _)| *held == id) {
            let (_, late) = self.held.take().unwrap();
            self.send_frame(id, &late);
        }
    }

    pub(crate) fn members(&self, belongs: impl Fn(&Session) -> bool) -> Vec<ConnectionId> {
        self.order.iter().copied().filter(|id| self.sessions.get(id).is_some_and(&belongs)).collect()
    }
}
