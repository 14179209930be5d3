//! The plan of a start: workers, sizes of their tables, and memory. Its sums name the owner of each
//! addend, and are checked against the system's limits before anything is reserved.

use super::backend::BackendKind;
use super::config::Config;
use super::descriptors::{Descriptors, share};
use super::dpdk::DpdkConfig;
use super::pools::blocks;
use super::problem::Problems;
use super::system::SystemLimits;
use super::units::{bytes_text, grouped};
use gateway_core::listener::Application;
use gateway_core::memory::KERNEL_BYTES_PER_CONNECTION;
use gateway_core::settings::{LINGER, Shared, TableSizes, WorkerSettings};
use gateway_core::sources::{AddressCounts, Sources};
use netpoll::{BackendConfig, PoolSize, PoolsConfig};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Memory with an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// The owner.
    pub owner: String,
    /// Bytes, over all workers.
    pub bytes: u64,
}

impl MemoryEntry {
    /// `bytes` of `owner`.
    pub fn new(owner: impl Into<String>, bytes: usize) -> MemoryEntry {
        MemoryEntry { owner: owner.into(), bytes: bytes as u64 }
    }
}

/// Everything that is reserved at the start.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlan {
    /// The addends.
    pub entries: Vec<MemoryEntry>,
}

impl MemoryPlan {
    /// The sum, in bytes.
    pub fn total(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.bytes))
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            let plus = if index == 0 { "" } else { " + " };
            write!(f, "{plus}{} {}", entry.owner, bytes_text(entry.bytes))?;
        }
        Ok(())
    }
}

/// Fewest deliveries of fan-outs in a turn of a worker: with fewer, the turns themselves cost more
/// than a tenth (docs/decisions/0013).
const FANOUT_SLICE_MIN: usize = 32;

/// Sums of owners above the configuration.
#[derive(Clone, Copy)]
pub struct Reserves<'a> {
    /// What one worker reserves besides its pools and mailbox, of how many workers.
    pub worker: &'a dyn Fn(&TableSizes, usize, &BackendConfig) -> Vec<MemoryEntry>,
    /// What threads that are no workers reserve.
    pub process: &'a dyn Fn(&Config) -> Vec<MemoryEntry>,
}

impl Reserves<'_> {
    /// Nothing, for sizes without a sum.
    pub const NONE: Reserves<'static> = Reserves { worker: &|_, _, _| Vec::new(), process: &|_| Vec::new() };
}

/// What the workers are made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How bytes move.
    pub backend: BackendKind,
    /// Why this backend, in a few words; once the workers run, what they run with.
    pub backend_reason: String,
    /// Workers.
    pub workers: usize,
    /// Threads that run them: on io_uring those that have to be more than the cores share them.
    pub threads: usize,
    /// Connections to hold in all.
    pub connections_max: usize,
    /// RLIMIT_NOFILE that this was computed with.
    pub descriptors_max: u64,
    /// On epoll: each worker has a table of descriptors of its own, for one is too small for all
    /// connections.
    pub own_descriptors: bool,
    /// Sizes of one worker's backend; its `connections_max` is the worker's share, with some to
    /// spare.
    pub backend_config: BackendConfig,
    /// Sizes of one worker's tables.
    pub tables: TableSizes,
    /// The card, where the backend is DPDK.
    pub dpdk: Option<DpdkConfig>,
    /// All memory.
    pub memory: MemoryPlan,
}

impl Plan {
    /// Makes the sums for `backend`.
    ///
    /// # Errors
    /// What does not fit, with the sum and what to write instead.
    pub fn new(
        config: &Config,
        system: &SystemLimits,
        backend: BackendKind,
        reserves: Reserves<'_>,
    ) -> Result<Plan, Problems> {
        let plan = Plan::unchecked(config, system, backend, reserves)?;
        let again = |config: &Config| Plan::unchecked(config, system, backend, reserves).ok();
        plan.check_memory(config, system, &again)?;
        Ok(plan)
    }

    /// The sums, whether there is memory for them or not.
    fn unchecked(
        config: &Config,
        system: &SystemLimits,
        backend: BackendKind,
        reserves: Reserves<'_>,
    ) -> Result<Plan, Problems> {
        let room = Descriptors {
            backend,
            max: system.descriptors_max,
            own_tables: system.own_descriptors,
            threads: config.io.threads.unwrap_or(system.cores),
            listeners: config.listeners.len(),
        };
        let values = &config.source.values;
        let (workers, connections_max) = room.workers_and_connections(config, system, values)?;
        let per_worker = share(connections_max, workers);
        let mut backend_config = backend_config(config, per_worker, workers);
        if let Some(dpdk) = &config.dpdk {
            let count = config.memory.receive_buffers.unwrap_or((per_worker / 32).clamp(1024, 16_384) as u32);
            backend_config.pools.receive = PoolSize { size: dpdk.receive_buffer_size(), count };
        }
        let mut tables = TableSizes::for_connections(per_worker, workers);
        tables.rooms_per_connection_max = config.limits.rooms_per_connection_max;
        let limits = &config.limits;
        tables.rooms_max = limits.rooms.unwrap_or(tables.rooms_max);
        tables.memberships_max = limits.memberships.unwrap_or(tables.memberships_max);
        tables.text_cells_max = limits.text_bytes.map_or(tables.text_cells_max, |bytes| bytes.div_ceil(36));
        tables.mailbox_capacity = config.limits.mailbox_messages_max;
        let memory = memory_plan(config, workers, &tables, &backend_config, reserves);
        let descriptors_max = system.descriptors_max;
        let own_descriptors = backend == BackendKind::Epoll
            && room.in_one_table(workers, config.control.connections_max) < per_worker as u64;
        let dpdk = config.dpdk.clone().filter(|_| backend == BackendKind::Dpdk);
        let threads = match backend {
            BackendKind::IoUring => config.io.threads.unwrap_or(system.cores).clamp(1, workers),
            BackendKind::Epoll | BackendKind::Dpdk => workers,
        };
        Ok(Plan {
            backend,
            backend_reason: String::new(),
            workers,
            threads,
            connections_max,
            descriptors_max,
            own_descriptors,
            backend_config,
            tables,
            dpdk,
            memory,
        })
    }

    /// Addresses that clients reach through the kernel, each with its key; with DPDK there are
    /// none.
    pub fn kernel_ports(&self, config: &Config) -> impl Iterator<Item = (String, SocketAddr)> {
        let listeners = config.listeners.iter().filter(|_| self.backend != BackendKind::Dpdk);
        listeners.map(|one| (format!("listener.{}.address", one.name), one.socket.address))
    }

    /// Settings of each worker; clones share the state that is published to all workers at once.
    pub fn worker_settings(&self, config: &Config) -> WorkerSettings {
        WorkerSettings {
            workers: self.workers,
            listeners: config.listeners.clone(),
            tables: self.tables,
            frame_body_size_max: config.limits.frame_body_size_max,
            auth_body_size_max: config.limits.auth_body_size_max,
            auth: config.auth_mode(),
            bus: config.application.bus,
            completions_per_turn_max: config.io.completions_per_turn_max,
            send_queue_bytes_max: config.limits.send_queue_bytes_max,
            fanout_slice: self.fanout_slice(config.limits.fanout_deliveries_per_turn_max),
            default_push_operation: config.application.default_push_operation,
            linger: LINGER,
            audit: config.journal.is_some() || config.log.level >= tracing::Level::DEBUG,
            shared: Shared::new(self.address_counts(config), verifier_queue(config)),
            reloadable: config.reloadable.clone(),
        }
    }

    fn address_counts(&self, config: &Config) -> Option<AddressCounts> {
        let max = config.limits.connections_per_address_max?;
        Some((Arc::new(Sources::new(self.connections_max)), max))
    }

    /// A worker's share of the deliveries in one turn of its thread: what others on the thread wait
    /// for is the sum.
    fn fanout_slice(&self, per_turn_max: usize) -> usize {
        (per_turn_max / self.workers.div_ceil(self.threads)).max(FANOUT_SLICE_MIN)
    }

    /// "room for … connections: …".
    pub fn room_text(&self) -> String {
        let per_worker = self.backend_config.connections_max;
        let total = grouped(per_worker * self.workers);
        let workers = if self.workers == 1 { "worker" } else { "workers" };
        if let Some(dpdk) = &self.dpdk {
            let (count, each) = (self.workers, grouped(per_worker));
            return format!(
                "room for {total} connections: {count} {workers} × {each} (a queue of {} each)",
                dpdk.port
            );
        }
        format!(
            "room for {total} connections: {} {workers}{} × {} (RLIMIT_NOFILE {}{})",
            self.workers,
            if self.threads < self.workers { format!(" on {}", self.threads_text()) } else { String::new() },
            grouped(per_worker),
            if self.descriptors_max == u64::MAX {
                "unlimited".into()
            } else {
                grouped(self.descriptors_max as usize)
            },
            match (self.backend, self.own_descriptors) {
                (BackendKind::IoUring, _) => " a ring",
                (_, true) => " a worker: each has a table of descriptors of its own",
                _ => "",
            },
        )
    }

    fn threads_text(&self) -> String {
        if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) }
    }

    /// Warns when tables and pools fit, but not the kernel's part of as many connections.
    pub fn kernel_memory_warning(&self, config: &Config, system: &SystemLimits) -> Option<String> {
        let (limit, source) = Self::memory_limit(config, system)?;
        let percent = config.memory.thresholds.refuse_percent;
        let usable = limit / 100 * u64::from(percent);
        let room = usable.saturating_sub(self.memory.total()) / KERNEL_BYTES_PER_CONNECTION;
        (room < self.connections_max as u64).then(|| {
            format!(
                "{percent} % of {} ({source}) hold about {} of {} connections once all that is reserved here ({}) is in use, \
                 for the kernel takes about 4 KiB for each; then new ones are refused",
                bytes_text(limit),
                grouped(room as usize),
                grouped(self.connections_max),
                bytes_text(self.memory.total()),
            )
        })
    }

    /// The limit of all memory, in bytes, and its name.
    fn memory_limit(config: &Config, system: &SystemLimits) -> Option<(u64, &'static str)> {
        let configured = config.memory.memory_max.map(|bytes| (bytes, "memory.memory_max_bytes"));
        configured.or(system.memory_left())
    }

    fn check_memory(
        &self,
        config: &Config,
        system: &SystemLimits,
        again: &dyn Fn(&Config) -> Option<Plan>,
    ) -> Result<(), Problems> {
        let Some((limit, source)) = Self::memory_limit(config, system) else { return Ok(()) };
        let total = self.memory.total();
        if total <= limit {
            return Ok(());
        }
        let advice = format!(
            "{} would be reserved, but {source} leaves {}: {}; {}",
            bytes_text(total),
            bytes_text(limit),
            self.memory,
            self.what_fits(config, limit, again),
        );
        let mut problems = Problems::default();
        let path = if config.memory.memory_max.is_some() {
            "memory.memory_max_bytes"
        } else {
            "limits.connections_max"
        };
        config.source.values.complain(&mut problems, path, advice);
        Err(problems)
    }

    /// Advice on what to write so that the plan fits `limit`. It is tried, not estimated: pools
    /// have least sizes, and each worker takes some memory however few connections it has.
    fn what_fits(&self, config: &Config, limit: u64, again: &dyn Fn(&Config) -> Option<Plan>) -> String {
        let total = |connections: usize, workers: Option<usize>| {
            let mut smaller = config.clone();
            smaller.limits.connections_max = Some(connections);
            smaller.io.workers = workers.or(smaller.io.workers);
            again(&smaller).map_or(u64::MAX, |plan| plan.memory.total())
        };
        let fits = |connections| total(connections, None) <= limit;
        if fits(1) {
            let (mut most, mut too_many) = (1, self.connections_max);
            while most + 1 < too_many {
                let middle = most.midpoint(too_many);
                *(if fits(middle) { &mut most } else { &mut too_many }) = middle;
            }
            let unit = 10_usize.pow(most.ilog10().saturating_sub(1));
            let round = most / unit * unit;
            let most = if fits(round) { round } else { most };
            return format!("write limits.connections_max = {most}, or give it more memory");
        }
        let (least, single) = (total(1, None), total(1, Some(1)));
        if self.workers > 1 && single <= limit {
            let most = (1..self.workers).rev().find(|workers| total(1, Some(*workers)) <= limit).unwrap_or(1);
            return format!(
                "with {} workers even one connection needs {}; write io.workers = {most}, then this check says how many connections fit",
                self.workers,
                bytes_text(least)
            );
        }
        format!(
            "even one connection on one worker needs {}: give it that, or lower limits.frame_body_size_max, \
             limits.mailbox_messages_max, memory.receive_buffers_per_worker, control.connections_max",
            bytes_text(single)
        )
    }
}

fn backend_config(config: &Config, connections: usize, workers: usize) -> BackendConfig {
    let tokens_max = verifier_queue(config).div_ceil(workers);
    let receive_count = config.memory.receive_buffers.unwrap_or((connections / 64).clamp(128, 4096) as u32);
    BackendConfig {
        connections_max: connections,
        batch_max: config.io.completions_per_turn_max,
        pools: PoolsConfig {
            receive: PoolSize { size: config.memory.receive_buffer_size, count: receive_count },
            blocks: blocks(config.limits.frame_body_size_max, connections, tokens_max),
            huge_pages: config.memory.huge_pages,
        },
        send_pieces_shared: config.limits.send_pieces.unwrap_or((2 * connections).max(64 << 10)),
        send_queue_bytes_max: config.limits.send_queue_bytes_max,
        copy_break: config.memory.copy_break,
        idle_demote: config.io.idle_demote,
    }
}

/// Tokens that may wait for the verifier.
fn verifier_queue(config: &Config) -> usize {
    config.auth.as_ref().map_or(0, |policy| policy.queue_requests_max)
}

fn memory_plan(
    config: &Config,
    workers: usize,
    tables: &TableSizes,
    backend: &BackendConfig,
    reserves: Reserves<'_>,
) -> MemoryPlan {
    let pools = &backend.pools;
    let block_bytes = pools.blocks.iter().map(|pool| pool.bytes()).sum();
    let mailbox = tables.mailbox_capacity * netpoll::mailbox_bytes::<gateway_core::message::Message>();
    let mut entries = match &config.dpdk {
        // In DPDK's own memory, which is taken at the start.
        Some(dpdk) => {
            let [receive, transmit] = dpdk.packet_buffers(pools.receive.count);
            let mut entries = vec![
                MemoryEntry::new("receive buffers", receive as usize),
                MemoryEntry::new("transmit buffers", transmit as usize),
            ];
            if dpdk.capture_frames > 0 {
                entries.push(MemoryEntry::new(
                    "captured frames, twice while they are read",
                    dpdk.capture_bytes() as usize,
                ));
            }
            entries
        }
        None => vec![MemoryEntry::new("receive buffers", pools.receive.bytes())],
    };
    entries.extend([MemoryEntry::new("blocks", block_bytes), MemoryEntry::new("mailboxes", mailbox)]);
    entries.extend((reserves.worker)(tables, workers, backend));
    let echoes = config.listeners.iter().filter(|listener| listener.application == Application::Echo);
    if let Some(size_max) = echoes.map(|listener| listener.message_size_max).max() {
        let bytes = size_max.saturating_mul(gateway_core::handler::ECHO_MESSAGES_MAX);
        entries.push(MemoryEntry { owner: "echoes".into(), bytes });
    }
    for entry in &mut entries {
        entry.bytes = entry.bytes.saturating_mul(workers as u64);
    }
    let connections = backend.connections_max * workers;
    let counted = config.limits.connections_per_address_max.map_or(0, |_| Sources::bytes(connections));
    entries.push(MemoryEntry::new("counts by address", counted + Sources::bytes(verifier_queue(config))));
    entries.extend((reserves.process)(config));
    MemoryPlan { entries }
}
