//! The gateway: one worker, made from a configuration as the program makes it, without the control
//! thread.

use super::announce::announce;
use gateway_config::{BackendKind, Config, Plan, Reserves, Sources, SystemLimits};
use gateway_core::address::{Fingerprints, WorkerId};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::settings::WorkerSettings;
use gateway_core::worker::{Context, Peers, Worker};
use netpoll::epoll::EpollBackend;
use netpoll::{Backend, BackendConfig, UringBackend, UringConfig, Waker, mailbox};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is not named here, or in the listeners' part behind it, has its default.
const CONFIGURATION: &str = r#"
[limits]
connections_max = 11000
[rate]
messages_per_second_max = 0
bytes_per_second_max = 0
user_messages_per_second_max = 0
user_bytes_per_second_max = 0
[application]
bus = "echo"
[io]
workers = 1
"#;

/// Its listeners where the kernel's TCP serves.
const ON_LOOPBACK: &str = include_str!("../../../loopback.toml");

pub(super) fn serve_epoll() -> io::Result<()> {
    let (settings, backend) = epoll()?;
    serve(settings, backend, |_| ())
}

pub(super) fn serve_uring() -> io::Result<()> {
    let (settings, backend) = uring()?;
    serve(settings, backend, |_| ())
}

/// The worker's settings, and its backend on epoll.
pub(super) fn epoll() -> io::Result<(WorkerSettings, EpollBackend)> {
    let (settings, backend) = planned(BackendKind::Epoll, ON_LOOPBACK)?;
    Ok((settings, EpollBackend::new(&backend)?))
}

/// The worker's settings, and its backend on io_uring.
pub(super) fn uring() -> io::Result<(WorkerSettings, UringBackend)> {
    let (settings, backend) = planned(BackendKind::IoUring, ON_LOOPBACK)?;
    Ok((settings, UringBackend::new(&backend, &UringConfig::default())?))
}

/// The worker's settings and its backend's sizes, with `more` behind the configuration, from its
/// section `[io]` on.
pub(crate) fn planned(backend: BackendKind, more: &str) -> io::Result<(WorkerSettings, BackendConfig)> {
    let file = Some(("bench.toml".to_owned(), format!("{CONFIGURATION}{more}")));
    let sources = Sources { file, environment: vec![], flags: vec![] };
    let config = Config::load(&sources, &|_| Err(io::ErrorKind::NotFound.into())).map_err(failed)?;
    let plan = Plan::new(&config, &SystemLimits::read(), backend, Reserves::NONE).map_err(failed)?;
    Ok((plan.worker_settings(&config), plan.backend_config))
}

fn failed(problems: impl std::fmt::Display) -> io::Error {
    io::Error::other(problems.to_string())
}

/// Turns for ever; `after_turn` sees the backend after each.
pub(crate) fn serve<B: Backend>(
    settings: WorkerSettings,
    backend: B,
    mut after_turn: impl FnMut(&mut B),
) -> io::Result<()> {
    let capacity = settings.tables.mailbox_capacity;
    let (worker, mailbox_end) = mailbox(capacity, backend.waker());
    let (control, _control_end) = mailbox(capacity, Waker::event_fd()?);
    let places = Arc::new(FanoutPlaces::new(1, settings.tables.fanouts()));
    let peers = Peers { workers: vec![worker], control, places, verifier: None };
    let context = Context { id: WorkerId(0), settings, names: Fingerprints::new((11, 12)), unix_start_ms: 0 };
    let mut worker = Worker::new(context, backend, mailbox_end, peers, Arc::new(WorkerMetrics::default()))
        .map_err(io::Error::other)?;
    announce(&worker.addresses().iter().map(SocketAddr::port).collect::<Vec<_>>());
    loop {
        worker.turn(Duration::from_secs(1))?;
        after_turn(worker.backend());
    }
}
