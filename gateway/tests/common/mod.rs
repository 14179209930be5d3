//! A gateway's workers on loopback, and clients that speak to them over real sockets.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test binary uses its part

#[cfg(feature = "dpdk")]
mod dpdk;
pub mod lone;
pub mod program;
pub mod websocket;

use gateway::workers::{Placement, RunningWorkers, Spawn, spawn};
use gateway_core::access::PushOperations;
use gateway_core::address::{Fingerprints, WorkerId};
use gateway_core::listener::{Application, Framing, Security};
use gateway_core::message::{ControlMessage, EncodedPush, Message, MessageClass, VerifySender};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::settings::{
    AuthMode, BusMode, LINGER, ListenerSettings, Reloadable, TableSizes, WorkerSettings,
};
use gateway_core::worker::{Context, Peers, Worker};
use gateway_proto::auth::{Accepts, AuthRequest};
use gateway_proto::body::{Name, RoomKey, SendMessage, Target};
use gateway_proto::frame::{HEADER_SIZE, Header, Operation};
use netpoll::{
    Backend, BackendConfig, BufferPools, ListenerConfig, Mailbox, MailboxSender, UringConfig, Waker, mailbox,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What a case runs on.
#[derive(Clone, Debug)]
pub enum BackendChoice {
    Epoll,
    /// On so many threads; 0: each worker on its own.
    Uring(usize),
    /// A TAP device of the case's own, the kernel of a network namespace as its peer.
    #[cfg(feature = "dpdk")]
    Dpdk,
}

/// Runs each case, a function of a backend, as a test on epoll, as one on io_uring, as one on
/// io_uring with all workers on one thread, and with the feature `dpdk` as one on a TAP device,
/// which needs root.
#[macro_export]
macro_rules! on_each_backend {
    ($($case:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $case() { super::$case(&$crate::common::BackendChoice::Epoll); })*
        }
        mod io_uring {
            $(#[test] fn $case() { super::$case(&$crate::common::BackendChoice::Uring(0)); })*
        }
        mod gang {
            $(#[test] fn $case() { super::$case(&$crate::common::BackendChoice::Uring(1)); })*
        }
        #[cfg(feature = "dpdk")]
        mod dpdk {
            $(#[test] fn $case() { super::$case(&$crate::common::BackendChoice::Dpdk); })*
        }
    };
}

/// A worker that is the only one, without a verifier, on a backend that the test polls, and the way
/// into its mailbox.
pub fn lone_worker<B: Backend>(
    settings: WorkerSettings,
    backend: B,
    metrics: Arc<WorkerMetrics>,
) -> (Worker<B>, MailboxSender<Message>) {
    let capacity = settings.tables.mailbox_capacity;
    let (sender, inbox) = mailbox(capacity, backend.waker());
    let (control, _) = mailbox(capacity, Waker::flag());
    let places = Arc::new(FanoutPlaces::new(1, settings.tables.fanouts()));
    let peers = Peers { workers: vec![sender.clone()], control, places, verifier: None };
    let context = Context { id: WorkerId(0), settings, names: Fingerprints::new((11, 12)), unix_start_ms: 0 };
    (Worker::new(context, backend, inbox, peers, metrics).unwrap(), sender)
}

/// Settings of a small gateway on free ports: TCP, WebSocket and echo.
pub fn settings(workers: usize, connections_max: usize) -> WorkerSettings {
    let listener = |name: &str, (framing, application), message_size_max| ListenerSettings {
        name: name.into(),
        framing,
        security: Security::None,
        application,
        socket: ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))),
        path: "/sub".into(),
        origins: vec![],
        protocols: vec!["goim.v2".into(), "goim.v1".into()],
        head_size_max: 16 << 10,
        message_size_max,
        fragments_max: 1 << 20,
        demo_page: true,
    };
    WorkerSettings {
        workers,
        listeners: vec![
            listener("tcp", (Framing::Tcp, Application::Goim), 0),
            listener("websocket", (Framing::WebSocket, Application::Goim), 65_552),
            listener("echo", (Framing::WebSocket, Application::Echo), 16 << 20),
        ],
        tables: TableSizes::for_connections(connections_max, workers),
        frame_body_size_max: 65_536,
        auth_body_size_max: 8192,
        auth: AuthMode::None,
        bus: BusMode::Echo,
        completions_per_turn_max: 256,
        fanout_slice: 512,
        send_queue_bytes_max: 1 << 20,
        default_push_operation: 1000,
        linger: LINGER,
        audit: false,
        shared: gateway_core::settings::Shared::new(None, 64),
        reloadable: Reloadable {
            client_push_operations: PushOperations::parse(&["1000-2147483647".to_owned()]).unwrap(),
            ..Reloadable::default()
        },
    }
}

/// Running workers; they end with the value.
pub struct Gateway {
    pub threads: Option<RunningWorkers>,
    pub control: Mailbox<ControlMessage>,
    pub addresses: Vec<SocketAddr>,
    pub names: Fingerprints,
    /// Goes when the workers are gone.
    #[cfg(feature = "dpdk")]
    link: Option<dpdk::Link>,
}

impl Gateway {
    pub fn start_on(backend: &BackendChoice, settings: WorkerSettings) -> Gateway {
        let backend_config = BackendConfig::small(settings.tables.connections_max);
        Gateway::start_with(settings, backend_config, backend.clone())
    }

    pub fn start_with(
        settings: WorkerSettings,
        backend_config: BackendConfig,
        backend: BackendChoice,
    ) -> Gateway {
        Gateway::start_verified(settings, backend_config, backend, None)
    }

    /// Whose logins wait in this queue of a verifier's.
    pub fn start_verified(
        mut settings: WorkerSettings,
        backend_config: BackendConfig,
        backend: BackendChoice,
        verifier: Option<VerifySender>,
    ) -> Gateway {
        settings.send_queue_bytes_max = backend_config.send_queue_bytes_max;
        #[cfg(feature = "dpdk")]
        let link = matches!(backend, BackendChoice::Dpdk).then(|| dpdk::Link::new(&mut settings));
        let backend = match backend {
            BackendChoice::Epoll => gateway::workers::BackendChoice::Epoll { own_descriptors: false },
            BackendChoice::Uring(threads) => {
                gateway::workers::BackendChoice::Uring(UringConfig::default(), threads)
            }
            #[cfg(feature = "dpdk")]
            BackendChoice::Dpdk => {
                let link = link.as_ref().expect("made just now");
                gateway::workers::BackendChoice::Dpdk(link.port(settings.workers, &backend_config))
            }
        };
        let (sender, control) = mailbox(4096, Waker::event_fd().unwrap());
        let names = Fingerprints::new((11, 12));
        let order = Spawn {
            settings,
            placement: Placement::default(),
            names,
            unix_now_ms: 1_700_000_000_000,
            control: sender,
            verifier,
        };
        let threads = spawn(&order, &backend, &backend_config).unwrap();
        #[cfg(feature = "dpdk")]
        if let Some(link) = &link {
            link.reach();
        }
        Gateway {
            addresses: threads.addresses.clone(),
            threads: Some(threads),
            control,
            names,
            #[cfg(feature = "dpdk")]
            link,
        }
    }

    /// Heap allocations of all worker threads, read after each has published its counts again.
    pub fn allocations(&self) -> u64 {
        let metrics = &self.threads.as_ref().unwrap().metrics;
        let turns: Vec<u64> = metrics.iter().map(|metrics| metrics.turns.get()).collect();
        std::thread::sleep(Duration::from_millis(700));
        // The turn that had begun may have counted before; the one behind it ends with a count of
        // now.
        while metrics.iter().zip(&turns).any(|(metrics, before)| metrics.turns.get() < before + 2) {
            std::thread::sleep(Duration::from_millis(20));
        }
        metrics.iter().map(|metrics| metrics.allocations.get()).sum()
    }

    pub fn tell(&self, worker: usize, message: Message) {
        self.threads.as_ref().unwrap().senders[worker].send(message).unwrap();
    }

    /// To every worker, with the places for fan-outs that the control thread takes for it.
    #[allow(dead_code)] // each test program uses its part
    pub fn tell_all(&self, message: impl Fn() -> Message) {
        let threads = self.threads.as_ref().unwrap();
        assert!(threads.places.take_for_everyone(), "no place for a broadcast");
        (0..threads.senders.len()).for_each(|worker| self.tell(worker, message()));
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addresses[0])
    }

    pub fn login(&self, mid: i64, room: &str) -> Client {
        let mut client = self.client();
        client.login(mid, "", room);
        client
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        for sender in &threads.senders {
            let _ = sender.send(Message::Stop);
        }
        let ended = threads.join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A blocking goim client.
pub struct Client {
    pub stream: TcpStream,
}

/// A frame as it came.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Frame {
    pub operation: i32,
    pub sequence: i32,
    pub body: Vec<u8>,
}

pub fn frame(operation: Operation, sequence: i32, body: &[u8]) -> Vec<u8> {
    let header = Header::new(operation, sequence, body.len() as u32);
    [&header.to_bytes()[..], body].concat()
}

/// A push of `bodies`, a frame each; `None` while no block is free.
pub fn push(
    pools: &mut BufferPools,
    class: MessageClass,
    operation: i32,
    bodies: &[&[u8]],
) -> Option<EncodedPush> {
    let block = pools.take(EncodedPush::encoded_size(bodies).unwrap())?;
    Some(EncodedPush::encode(block, class, Operation(operation), bodies))
}

/// The body of operation 4.
pub fn encoded(message: &SendMessage<'_>) -> Vec<u8> {
    let mut out = vec![0; message.encoded_size()];
    message.emit(&mut out).unwrap();
    out
}

/// The same of a message with the default operation, which is answered.
pub fn send_message(target: Target<'_>, payload: &[u8], not_to_self: bool) -> Vec<u8> {
    let quiet = false;
    encoded(&SendMessage { target, not_to_self, quiet, push_operation: None, traceparent: None, payload })
}

pub fn auth_body(mid: i64, key: &str, room: &str) -> Vec<u8> {
    let mut accepts = Accepts::default();
    (1000..1003).for_each(|operation| accepts.push(Operation(operation)).unwrap());
    let request = AuthRequest {
        mid,
        key: Name::parse(key.as_bytes()).ok(),
        room: RoomKey::parse(room.as_bytes()).ok(),
        accepts,
        ..AuthRequest::default()
    };
    let mut out = [0; 1024];
    let size = request.emit(&mut out).unwrap();
    out[..size].to_vec()
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { stream }
    }

    /// The same from one of this machine's addresses, 127.0.0.`last`.
    pub fn connect_from(last: u8, address: SocketAddr) -> Client {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        connect(&socket, &address).unwrap();
        Client::of(TcpStream::from(socket))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, operation: Operation, sequence: i32, body: &[u8]) {
        self.write(&frame(operation, sequence, body));
    }

    pub fn read(&mut self) -> Frame {
        self.try_read().expect("a frame")
    }

    /// The next frame, or `None` at the end of the stream.
    pub fn try_read(&mut self) -> Option<Frame> {
        let mut header = [0; HEADER_SIZE];
        self.stream.read_exact(&mut header).ok()?;
        let word = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(0) as usize - HEADER_SIZE];
        self.stream.read_exact(&mut body).ok()?;
        Some(Frame { operation: word(8), sequence: word(12), body })
    }

    pub fn login(&mut self, mid: i64, key: &str, room: &str) {
        self.send(Operation::AUTH, 1, &auth_body(mid, key, room));
        let reply = self.read();
        assert_eq!((reply.operation, reply.sequence, reply.body.len()), (8, 1, 0), "{reply:?}");
    }

    pub fn ask(&mut self, operation: Operation, sequence: i32, body: &[u8]) -> Frame {
        self.send(operation, sequence, body);
        self.read()
    }
}
