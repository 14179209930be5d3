//! The gateway: one worker, the code and the default sizes that it has in production, without the control thread.

use super::announce;
use gateway::address::{Fingerprints, WorkerId};
use gateway::metrics::WorkerMetrics;
use gateway::settings::{
    AuthMode, BusMode, ListenerKind, ListenerSettings, Reloadable, TableSizes, WorkerSettings,
};
use gateway::worker::{Context, Ports, Worker};
use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, ListenerConfig, PoolSize, PoolsConfig, UringBackend, UringConfig, Waker, mailbox,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const CONNECTIONS_MAX: usize = 10_000;

pub(super) fn serve_epoll() -> io::Result<()> {
    serve(EpollBackend::new(&backend_config())?)
}

pub(super) fn serve_uring() -> io::Result<()> {
    serve(UringBackend::new(&backend_config(), &UringConfig::default())?)
}

fn serve<B: Backend>(backend: B) -> io::Result<()> {
    let settings = settings();
    let capacity = settings.tables.mailbox_capacity;
    let (worker, mailbox_end) = mailbox(capacity, backend.waker());
    let (control, _control_end) = mailbox(capacity, Waker::event_fd()?);
    let ports = Ports { workers: vec![worker], control, verifier: None };
    let context = Context { id: WorkerId(0), settings, names: Fingerprints::new((11, 12)), unix_start_ms: 0 };
    let mut worker = Worker::new(context, backend, mailbox_end, ports, Arc::new(WorkerMetrics::default()))
        .map_err(io::Error::other)?;
    announce(&worker.addresses().iter().map(SocketAddr::port).collect::<Vec<_>>());
    loop {
        worker.turn(Duration::from_secs(1))?;
    }
}

fn settings() -> WorkerSettings {
    let listener = |name: &str, kind, message_size_max| ListenerSettings {
        name: name.into(),
        kind,
        socket: ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))),
        path: "/sub".into(),
        origins: vec![],
        message_size_max,
        fragments_max: 1 << 16,
        demo_page: false,
    };
    WorkerSettings {
        workers: 1,
        listeners: vec![
            listener("tcp", ListenerKind::Tcp, 0),
            listener("websocket", ListenerKind::WebSocket, 65_552),
        ],
        tables: TableSizes::for_connections(CONNECTIONS_MAX, 1),
        frame_body_size_max: 65_536,
        auth: AuthMode::None,
        bus: BusMode::Echo,
        fanout_slice: 2048,
        default_push_operation: 1000,
        audit: false,
        reloadable: Reloadable::default(),
        seed: 7,
    }
}

/// The configuration's defaults for this many connections.
fn backend_config() -> BackendConfig {
    let pool = |size, count| PoolSize { size, count };
    BackendConfig {
        connections_max: CONNECTIONS_MAX,
        batch_max: 512,
        pools: PoolsConfig {
            receive: pool(4096, (CONNECTIONS_MAX / 16) as u32),
            blocks: vec![
                pool(256, (CONNECTIONS_MAX / 8) as u32),
                pool(1024, 256),
                pool(4096, 128),
                pool(16 << 10, 32),
                pool(68 << 10, 16),
            ],
            huge_pages: false,
        },
        send_pieces_max: 16 << 10,
        send_queue_bytes_max: 1 << 20,
        copy_break: 512,
        idle_demote: None,
    }
}
