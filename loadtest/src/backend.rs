//! Which backend drives the workers: the one place that names them.

use crate::client::Protocol;
use crate::error::Trouble;
use crate::plan::BackendKind;
use crate::worker::{Assignment, Worker, WorkerResult, backend_config};
use netpoll::epoll::EpollBackend;
use netpoll::{Backend, BackendConfig};
use std::io;

/// What `auto` means here.
pub(crate) fn best() -> BackendKind {
    BackendKind::Epoll
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
        BackendKind::IoUring => Err(Trouble::new(
            "this build has no io_uring backend",
            "use --backend epoll (or auto) until netpoll::uring is there",
        )),
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
