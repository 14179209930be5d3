//! What the system allows: descriptors, memory, cores.

use crate::cgroup::CpuQuota;
use crate::memory::Source;
use gateway_core::memory::Reading;
use netpoll::epoll::EpollBackend;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::path::Path;

/// What this process may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemLimits {
    /// RLIMIT_NOFILE, the hard one: the soft one is raised to it at the start.
    pub descriptors_max: u64,
    /// Whether a thread can have descriptors of its own, so that the limit is not that of all
    /// workers on epoll together.
    pub own_descriptors: bool,
    /// Cores that it may keep busy: those that it may run on, or fewer by a CPU quota, rounded
    /// down.
    pub cores: usize,
    /// The CPU quota, if it is below the cores that it may run on.
    pub cpu_quota: Option<CpuQuota>,
    /// What its cgroups leave it, in bytes; `None`: no limit.
    pub cgroup_memory: Option<u64>,
    /// MemAvailable, in bytes; `None` where the system does not say.
    pub memory_available: Option<u64>,
    /// What is left of RLIMIT_DATA or RLIMIT_AS, whichever is less, in bytes, and its name; `None`:
    /// no limit.
    pub own_memory: Option<(u64, &'static str)>,
    /// net.core.somaxconn, which caps every backlog.
    pub backlog_max: Option<u32>,
    /// The kernel's release.
    pub kernel: String,
}

impl SystemLimits {
    /// Asks the system.
    pub fn read() -> SystemLimits {
        SystemLimits {
            descriptors_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            own_descriptors: EpollBackend::probe_own_descriptors().is_ok(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_quota: CpuQuota::read(),
            cgroup_memory: Source::find(None).read(0).map(Reading::left),
            memory_available: memory_available(),
            own_memory: own_memory(),
            backlog_max: number("/proc/sys/net/core/somaxconn").and_then(|number| u32::try_from(number).ok()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// Raises the soft limit of descriptors to the hard one. Returns the soft limit that holds
    /// then.
    pub fn raise_descriptors() -> u64 {
        let limit = getrlimit(Resource::Nofile);
        // Refused only where a sandbox forbids it; then the old soft limit stays, and is what we
        // report.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }

    /// The memory left, in bytes, and the name of its limit.
    pub fn memory_left(&self) -> Option<(u64, &'static str)> {
        let cgroup = self.cgroup_memory.map(|bytes| (bytes, "cgroup's memory limit"));
        let machine = self.memory_available.map(|bytes| (bytes, "MemAvailable"));
        cgroup.into_iter().chain(machine).chain(self.own_memory).min()
    }
}

/// Bytes of a limit that are for the stacks of threads.
const STACKS: u64 = 16 << 20;

/// Memory left by setrlimit(2): RLIMIT_DATA bounds mappings that the process writes to, RLIMIT_AS
/// all of its mappings. Beyond them the kernel refuses memory even where some is free.
fn own_memory() -> Option<(u64, &'static str)> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    // proc_pid_statm(5): all, resident, shared, text, lib, data and stack; in pages.
    let pages: Vec<u64> = text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let left = |resource, field: usize, name| {
        let used = pages.get(field).copied().unwrap_or(0) * rustix::param::page_size() as u64;
        let limit = getrlimit(resource).current?;
        Some((limit.saturating_sub(used).saturating_sub(STACKS), name))
    };
    let both = [left(Resource::Data, 5, "RLIMIT_DATA"), left(Resource::As, 0, "RLIMIT_AS")];
    both.into_iter().flatten().min()
}

fn number(file: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}
