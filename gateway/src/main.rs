//! The gateway's program: its arguments, and what makes its workers.

use gateway::config::{BackendKind, MemoryEntry};
use gateway::settings::TableSizes;
use gateway::start::{StartedWorkers, WorkerHost, WorkerOrder};
use netpoll::BackendConfig;
use std::io;
use std::process::ExitCode;

/// Stands where the workers go: everything but a start works with it.
struct NoWorkers;

impl WorkerHost for NoWorkers {
    fn choose_backend(&self, wanted: Option<BackendKind>) -> Result<(BackendKind, String), String> {
        Ok((wanted.unwrap_or(BackendKind::Epoll), "not probed".into()))
    }

    fn memory(&self, _: &TableSizes, _: &BackendConfig) -> Vec<MemoryEntry> {
        Vec::new()
    }

    fn start(&self, _: WorkerOrder<'_>) -> io::Result<StartedWorkers> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no workers"))
    }
}

fn main() -> ExitCode {
    gateway::cli::main(std::env::args_os(), &NoWorkers)
}
