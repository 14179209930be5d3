//! The connections that RLIMIT_NOFILE leaves room for, and the workers that they take.
//!
//! | | a connection's descriptor is | the process's own table has |
//! | --- | --- | --- |
//! | io_uring | a direct one of its ring, up to the limit | rings, listeners, wakers of threads |
//! | epoll | in the process's table, or its worker's | all, or wakers and the control port's |
//!
//! So on io_uring a low limit bounds the rings, too.

use super::backend::BackendKind;
use super::config::Config;
use super::problem::Problems;
use super::system::SystemLimits;
use super::units::grouped;
use super::values::Values;
use gateway_core::address::WORKERS_MAX;
use netpoll::CONNECTIONS_PER_BACKEND_MAX;

/// Connections to hold when the configuration does not say how many.
const CONNECTIONS_DEFAULT: usize = 10_000;
/// Direct descriptors that an io_uring ring may have, whatever RLIMIT_NOFILE says.
const RING_DESCRIPTORS_MAX: u64 = 1 << 20;
/// Direct descriptors of a ring that are not for connections: accepts in flight, listeners and some
/// to spare.
const RING_RESERVE: u64 = netpoll::UringConfig::ACCEPTS_IN_FLIGHT as u64 + 32;
/// Descriptors of the process that belong to no worker and no connection.
const PROCESS_RESERVE: u64 = 64;
/// Descriptors of a worker besides its connections: ring or epoll, waker, listeners.
const WORKER_RESERVE: u64 = 12;

/// One worker's share of `connections`: the kernel spreads them by hash, so each needs some to
/// spare (5 %, or four standard deviations where those are more).
pub(super) fn share(connections: usize, workers: usize) -> usize {
    let even = connections.div_ceil(workers);
    (even + (even / 20).max(4 * even.isqrt())).min(connections)
}

/// What descriptors there are for.
pub(super) struct Descriptors {
    pub(super) backend: BackendKind,
    /// RLIMIT_NOFILE.
    pub(super) max: u64,
    /// Workers on epoll can have a table of descriptors each.
    pub(super) own_tables: bool,
    /// Threads that workers on io_uring share.
    pub(super) threads: usize,
    /// Listeners, which each worker opens.
    pub(super) listeners: usize,
}

impl Descriptors {
    /// Workers that the process has descriptors for when connections take none of them: a ring and
    /// listeners each, and a waker each thread.
    fn rings_max(&self) -> usize {
        let left = self.max.saturating_sub(PROCESS_RESERVE + self.threads as u64);
        (left / (1 + self.listeners as u64)).min(WORKERS_MAX as u64) as usize
    }

    /// Connections that one of `workers` workers may have.
    fn per_worker(&self, workers: usize, control_connections: usize) -> usize {
        let usable = match self.backend {
            BackendKind::IoUring if workers > self.rings_max() => 0,
            BackendKind::IoUring => self.max.min(RING_DESCRIPTORS_MAX).saturating_sub(RING_RESERVE),
            BackendKind::Dpdk => u64::from(CONNECTIONS_PER_BACKEND_MAX),
            BackendKind::Epoll => {
                let one = self.in_one_table(workers, control_connections);
                if self.own_tables { one.max(self.in_own_table(workers, control_connections)) } else { one }
            }
        };
        usable.min(u64::from(CONNECTIONS_PER_BACKEND_MAX)) as usize
    }

    /// Connections that each of `workers` workers may have where all share the process's table.
    pub(super) fn in_one_table(&self, workers: usize, control_connections: usize) -> u64 {
        let reserve = PROCESS_RESERVE + control_connections as u64 + WORKER_RESERVE * workers as u64;
        self.max.saturating_sub(reserve) / workers as u64
    }

    /// The same with a table each, which begins as a copy: the wakers of all threads are in it. The
    /// process's own must hold the rest.
    fn in_own_table(&self, workers: usize, control_connections: usize) -> u64 {
        if self.of_process(workers, control_connections) > self.max {
            return 0;
        }
        self.max.saturating_sub(PROCESS_RESERVE + WORKER_RESERVE + workers as u64)
    }

    /// Descriptors of the process where its workers have their own: wakers, and the control port's
    /// connections.
    fn of_process(&self, workers: usize, control_connections: usize) -> u64 {
        PROCESS_RESERVE + control_connections as u64 + workers as u64
    }

    /// How many workers, and how many connections they hold together.
    pub(super) fn workers_and_connections(
        &self,
        config: &Config,
        system: &SystemLimits,
        values: &Values,
    ) -> Result<(usize, usize), Problems> {
        let control = config.control.connections_max;
        let fits = |connections, workers| share(connections, workers) <= self.per_worker(workers, control);
        let first = config.io.workers.unwrap_or(system.cores.clamp(1, WORKERS_MAX));
        let last = config.io.workers.unwrap_or(WORKERS_MAX);
        let wanted = config.limits.connections_max.unwrap_or(CONNECTIONS_DEFAULT);
        if let Some(workers) = (first..=last).find(|workers| fits(wanted, *workers)) {
            return Ok((workers, wanted));
        }
        let room =
            |workers| (1..=wanted).rev().step_by((wanted / 1000).max(1)).find(|count| fits(*count, workers));
        if config.limits.connections_max.is_none()
            && let Some(most) = most(first..=last, room)
        {
            return Ok(most);
        }
        let found = room(first);
        let mut problems = Problems::default();
        let path = if config.io.workers.is_some() { "io.workers" } else { "limits.connections_max" };
        values.complain(&mut problems, path, self.too_few(wanted, first, found.unwrap_or(0), control));
        Err(problems)
    }

    fn too_few(&self, wanted: usize, workers: usize, room: usize, control: usize) -> String {
        let (limit, each) = (grouped(self.max as usize), grouped(share(wanted, workers)));
        let sum = format!(
            "{} connections need {workers} × {each} descriptors (some to spare, for the kernel spreads them unevenly)",
            grouped(wanted)
        );
        let enough =
            (1..=WORKERS_MAX).find(|workers| share(wanted, *workers) <= self.per_worker(*workers, control));
        let itself = self.of_process(workers, control);
        match (self.backend, enough) {
            (BackendKind::Epoll, None) if itself >= self.max => format!(
                "the gateway itself needs {itself} descriptors, {control} of them for control.connections_max, but RLIMIT_NOFILE allows \
                 {limit}; lower control.connections_max, or raise RLIMIT_NOFILE"
            ),
            (BackendKind::IoUring, Some(enough)) => format!(
                "{sum}, but RLIMIT_NOFILE allows {limit} a ring; write io.workers = {enough}, or raise RLIMIT_NOFILE"
            ),
            (BackendKind::IoUring, None) => format!(
                "{sum}, but RLIMIT_NOFILE allows {limit} a ring, {RING_RESERVE} of them for other things, and there are at most \
                 {} rings; raise RLIMIT_NOFILE",
                self.rings_max()
            ),
            (BackendKind::Dpdk, _) => format!(
                "{} a worker are too many: a worker holds {} at most; write more io.workers",
                each,
                grouped(CONNECTIONS_PER_BACKEND_MAX as usize)
            ),
            (BackendKind::Epoll, Some(enough)) => format!(
                "{sum}, but RLIMIT_NOFILE allows {limit} {}; write io.workers = {enough}, or raise RLIMIT_NOFILE",
                if self.own_tables { "a worker" } else { "in the whole process" },
            ),
            (BackendKind::Epoll, None) if self.own_tables => format!(
                "{sum}, but RLIMIT_NOFILE allows {limit} a worker, some {} of them for other things, and there are at most \
                 {WORKERS_MAX} workers; raise RLIMIT_NOFILE",
                PROCESS_RESERVE + WORKER_RESERVE
            ),
            (BackendKind::Epoll, None) => format!(
                "{sum}, but RLIMIT_NOFILE allows {limit} in the whole process, and close_range(2), by which \
                 workers would get descriptors of their own, is forbidden here or unknown; {}raise RLIMIT_NOFILE to {}, or \
                 use io.backend = \"io_uring\"",
                if room > 0 { format!("write limits.connections_max = {room}, ") } else { String::new() },
                share(wanted, workers) * workers
                    + control
                    + (PROCESS_RESERVE + WORKER_RESERVE * workers as u64) as usize
            ),
        }
    }
}

/// The fewest workers that hold as many connections as any number of them does, and how many
/// connections that are.
fn most(
    workers: impl Iterator<Item = usize>,
    room: impl Fn(usize) -> Option<usize>,
) -> Option<(usize, usize)> {
    let rooms = workers.filter_map(|workers| Some((workers, room(workers)?)));
    rooms.reduce(|best, next| if next.1 > best.1 { next } else { best })
}
