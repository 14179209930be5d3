//! The workers that a started gateway gets: threads on the kernel's backends.

use super::startup::SpawnError;
use super::threads::{BackendChoice, spawn};
use super::{RunningWorkers, Spawn, WorkerHost};
use gateway_config::{BackendKind, MemoryEntry, Plan};
use gateway_control::CaptureSource;
use gateway_control::PortSource;
#[cfg(feature = "dpdk")]
use gateway_control::PortState;
use gateway_core::settings::TableSizes;
use gateway_core::worker::{Reservation, memory_plan};
use netpoll::uring::{probe, probe_rings};
use netpoll::{BackendConfig, UringConfig};
use rustix::process::{Resource, getrlimit};
use std::io;

/// Workers on io_uring or epoll.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelWorkers;

impl WorkerHost for KernelWorkers {
    fn choose_backend(&self, wanted: Option<BackendKind>) -> Result<(BackendKind, String), String> {
        if wanted == Some(BackendKind::Dpdk) {
            return dpdk_version();
        }
        if wanted == Some(BackendKind::Epoll) {
            return Ok((BackendKind::Epoll, "as configured".into()));
        }
        let why = match probe() {
            Ok(features) => return Ok((BackendKind::IoUring, features.to_string())),
            Err(error) if error.error.kind() == io::ErrorKind::OutOfMemory => {
                format!("io_uring can't be used: {}", locked_memory_short())
            }
            Err(error) => error.to_string(),
        };
        match wanted {
            None => Ok((BackendKind::Epoll, why)),
            Some(_) => Err(format!("{why}; or write \"auto\", which falls back to epoll")),
        }
    }

    fn memory(
        &self,
        kind: BackendKind,
        tables: &TableSizes,
        workers: usize,
        backend: &BackendConfig,
    ) -> Vec<MemoryEntry> {
        let entry = |addend: Reservation| MemoryEntry::new(addend.owner, addend.bytes);
        let entries = memory_plan(tables, workers, backend).into_iter().map(entry);
        match kind {
            BackendKind::Dpdk => in_user_space(entries, backend),
            BackendKind::IoUring | BackendKind::Epoll => entries.collect(),
        }
    }

    fn try_backends(&self, plan: &Plan) -> Result<(), String> {
        if plan.backend != BackendKind::IoUring {
            return Ok(());
        }
        let tried = probe_rings(plan.workers, &plan.backend_config, &UringConfig::default());
        tried.map_err(|(made, error)| match error.kind() {
            io::ErrorKind::OutOfMemory => locked_memory_short(),
            _ => format!("ring {} of {} can't be made: {error}", made + 1, plan.workers),
        })
    }

    fn start(&self, plan: &Plan, order: Spawn) -> io::Result<RunningWorkers> {
        let backend = match plan.backend {
            BackendKind::Epoll => BackendChoice::Epoll { own_descriptors: plan.own_descriptors },
            BackendKind::IoUring => BackendChoice::Uring(UringConfig::default(), plan.threads),
            BackendKind::Dpdk => dpdk_choice(plan)?,
        };
        let running = spawn(&order, &backend, &plan.backend_config).map_err(|error| match error {
            SpawnError::System(error) if is_short_of_rings(&backend, &error) => {
                io::Error::new(io::ErrorKind::OutOfMemory, locked_memory_short())
            }
            error => io::Error::other(error),
        })?;
        Ok(RunningWorkers { capture: capture(&backend), port: port(&backend), ..running })
    }

    #[cfg(feature = "dpdk")]
    fn try_port(&self, plan: &Plan) -> Result<String, String> {
        let config = plan.dpdk.as_ref().ok_or("io.backend is not \"dpdk\"")?;
        let port = super::dpdk::open(config, plan.workers, &plan.backend_config);
        port.map(|port| port.describe()).map_err(|error| error.to_string())
    }
}

fn is_short_of_rings(backend: &BackendChoice, error: &io::Error) -> bool {
    matches!(backend, BackendChoice::Uring(..)) && error.kind() == io::ErrorKind::OutOfMemory
}

/// Why not all rings can be had, and what to do, whichever of them was the first that could not:
/// they are charged against RLIMIT_MEMLOCK, over all processes of a user, and for a moment after
/// they have ended.
fn locked_memory_short() -> String {
    let limit = getrlimit(Resource::Memlock).current;
    let limit = limit.map_or("unlimited".to_owned(), gateway_config::bytes_text);
    format!(
        "locked memory is short: the workers' rings do not fit, however small; RLIMIT_MEMLOCK is {limit} for all that this user runs: \
         raise it (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1; shell: ulimit -l), grant CAP_IPC_LOCK, \
         start fewer workers (io.workers), or write io.backend = \"epoll\""
    )
}

#[cfg(feature = "dpdk")]
fn dpdk_version() -> Result<(BackendKind, String), String> {
    Ok((BackendKind::Dpdk, dpdk_backend::ffi::Eal::version()))
}

#[cfg(not(feature = "dpdk"))]
fn dpdk_version() -> Result<(BackendKind, String), String> {
    Err("this binary was built without DPDK: build one with cargo build --release -p gateway --features dpdk \
         (docs/dpdk.md says what that needs), or write \"auto\""
        .into())
}

/// With connections in user space: the engine's tables are the ones of the backend, not sockets'
/// slots and queues.
#[cfg(feature = "dpdk")]
fn in_user_space(entries: impl Iterator<Item = MemoryEntry>, backend: &BackendConfig) -> Vec<MemoryEntry> {
    let engine = dpdk_backend::backend::PollConfig::engine(backend).memory();
    let tables = engine.iter().map(|(_, bytes)| bytes).sum();
    let kept = entries.filter(|entry| !["connections", "send queues"].contains(&entry.owner.as_str()));
    std::iter::once(MemoryEntry::new("TCP connections", tables)).chain(kept).collect()
}

#[cfg(not(feature = "dpdk"))]
fn in_user_space(entries: impl Iterator<Item = MemoryEntry>, _: &BackendConfig) -> Vec<MemoryEntry> {
    entries.collect()
}

/// The last frames of a port's queues, where they are kept.
#[cfg(feature = "dpdk")]
fn capture(backend: &BackendChoice) -> Option<CaptureSource> {
    let BackendChoice::Dpdk(port) = backend else { return None };
    let rings = port.captures().to_vec();
    (!rings.is_empty()).then(|| CaptureSource::new(move || dpdk_backend::device::pcap(&rings)))
}

#[cfg(not(feature = "dpdk"))]
fn capture(_: &BackendChoice) -> Option<CaptureSource> {
    None
}

/// State of the port, where there is one.
#[cfg(feature = "dpdk")]
fn port(backend: &BackendChoice) -> Option<PortSource> {
    let BackendChoice::Dpdk(port) = backend else { return None };
    let watch = port.watch();
    Some(PortSource::new(move || PortState {
        link_up: watch.is_link_up(),
        waits_for_peer: watch.waits_for_peer(),
        checking: watch.is_checking_addresses(),
        taken: watch.taken_addresses(),
    }))
}

#[cfg(not(feature = "dpdk"))]
fn port(_: &BackendChoice) -> Option<PortSource> {
    None
}

#[cfg(feature = "dpdk")]
fn dpdk_choice(plan: &Plan) -> io::Result<BackendChoice> {
    let config = plan.dpdk.as_ref().ok_or_else(|| io::Error::other("[dpdk] is missing"))?;
    let port = super::dpdk::open(config, plan.workers, &plan.backend_config)?;
    Ok(BackendChoice::Dpdk(std::sync::Arc::new(port)))
}

#[cfg(not(feature = "dpdk"))]
fn dpdk_choice(_: &Plan) -> io::Result<BackendChoice> {
    dpdk_version().map_err(io::Error::other).and(Ok(BackendChoice::Epoll { own_descriptors: false }))
}
