//! The workers that a started gateway gets: threads on the kernel's backends.

use super::memory_plan;
use super::threads::{BackendChoice, Plan, spawn};
use crate::config::{BackendKind, MemoryEntry};
use crate::settings::TableSizes;
use crate::start::{StartedWorkers, WorkerHost, WorkerOrder};
use netpoll::uring::probe;
use netpoll::{BackendConfig, UringConfig};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Workers on io_uring or epoll.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelWorkers;

impl WorkerHost for KernelWorkers {
    fn choose_backend(&self, wanted: Option<BackendKind>) -> Result<(BackendKind, String), String> {
        match (wanted, probe()) {
            (Some(BackendKind::Epoll), _) => Ok((BackendKind::Epoll, "as configured".into())),
            (_, Ok(features)) => Ok((BackendKind::IoUring, features.to_string())),
            (None, Err(error)) => Ok((BackendKind::Epoll, error.to_string())),
            (Some(BackendKind::IoUring), Err(error)) => {
                Err(format!("{error}; or write \"auto\", which falls back to epoll"))
            }
        }
    }

    fn memory(&self, tables: &TableSizes, workers: usize, backend: &BackendConfig) -> Vec<MemoryEntry> {
        let entry = |addend: super::Reservation| MemoryEntry::new(addend.owner, addend.bytes);
        memory_plan(tables, workers, backend).into_iter().map(entry).collect()
    }

    fn start(&self, order: WorkerOrder<'_>) -> io::Result<StartedWorkers> {
        let backend = match order.plan.backend {
            BackendKind::Epoll => BackendChoice::Epoll,
            BackendKind::IoUring => BackendChoice::Uring(UringConfig::default(), order.plan.threads),
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let plan = Plan {
            settings: order.settings,
            backend,
            backend_config: order.plan.backend_config.clone(),
            processors: if order.pin { (0..processors).collect() } else { vec![] },
            names: order.names,
            unix_now_ms: unix_now.as_millis() as u64,
            control: order.control,
            verifier: order.verifier,
        };
        spawn(&plan).map(super::Threads::into_started).map_err(io::Error::other)
    }
}
