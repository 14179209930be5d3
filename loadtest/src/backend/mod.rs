//! Which backend drives the workers: the one place that names them.

use crate::client::Protocol;
use crate::error::Trouble;
use crate::plan::BackendKind;
use crate::worker::{Assignment, Worker, WorkerResult, backend_config};
use netpoll::epoll::EpollBackend;
use netpoll::{Backend, BackendConfig, UringBackend, UringConfig};
use std::io;

/// What `auto` means here.
pub(crate) fn best() -> BackendKind {
    if netpoll::uring::probe().is_ok() { BackendKind::IoUring } else { BackendKind::Epoll }
}

/// Whether the backend can be had at all.
///
/// # Errors
/// What stands in the way of io_uring.
pub(crate) fn check(kind: BackendKind) -> Result<(), Trouble> {
    match kind {
        BackendKind::Epoll => Ok(()),
        BackendKind::IoUring => netpoll::uring::probe().map(drop).map_err(|error| {
            Trouble::new(format!("io_uring is not to be had: {error}"), "use --backend epoll, or auto")
        }),
    }
}

/// Makes the backend of an assignment on the calling thread, and works on it until the end.
///
/// # Errors
/// What the system says to making it, or to using it.
pub(crate) fn work<P: Protocol>(
    kind: BackendKind,
    protocol: P,
    to: Assignment,
) -> Result<WorkerResult, Trouble> {
    match kind {
        BackendKind::Epoll => run(EpollBackend::new, protocol, to),
        BackendKind::IoUring => {
            // It accepts nothing; one slot is the least that is reserved for it.
            let uring = UringConfig { accepts_in_flight: 1, ..UringConfig::default() };
            run(|config| UringBackend::new(config, &uring), protocol, to)
        }
    }
}

fn run<B: Backend, P: Protocol>(
    make: impl FnOnce(&BackendConfig) -> io::Result<B>,
    protocol: P,
    to: Assignment,
) -> Result<WorkerResult, Trouble> {
    let config = backend_config(&to.plan, &to.duty);
    let memory = config.pools.bytes() >> 20;
    let backend = make(&config).map_err(|error| {
        Trouble::new(
            format!("cannot make a backend with {memory} MiB of buffers: {error}"),
            "lower --workers or --connections, or free memory",
        )
    })?;
    Worker::new(backend, protocol, to)
        .run()
        .map_err(|error| Trouble::new(format!("a worker's backend failed: {error}"), "see dmesg; try again"))
}
