//! Workers on threads: which backend they get, how their threads start and know one another, and several on one thread.

#[cfg(feature = "dpdk")]
mod dpdk;
mod gang;
mod host;
mod threads;

pub use host::KernelWorkers;
pub use threads::{BackendChoice, Plan, SpawnError, Threads, spawn};
