//! What a run needs of descriptors and memory, as a sum that the reader can check, made before
//! anything starts.

use crate::orders::GatewayBackend;
use loadtest::RunError;
use loadtest::kernel;
use loadtest::limits;
use loadtest::report::units::{bytes, number};
use loadtest::settings::Settings;
use netpoll::epoll::EpollBackend;

/// The kernel's part of one side of a connection, in bytes: socket, inode, file, and what io_uring
/// keeps of it. Measured: see docs/benchmarks.md.
const KERNEL_EACH_SIDE: u64 = 4700;
/// Bytes of a connection in the gateway, and in the generator with all flows.
const GATEWAY: u64 = 512;
const GENERATOR: u64 = 768;
/// Bytes of a connection in a TCP/IP stack of our own: control block and entry in the flow table on
/// either side, and what it needs in addition while something is in flight.
const STACK_EACH_SIDE: u64 = 512;
/// One message under way to all connections: a socket buffer and its data.
const ON_ITS_WAY: u64 = 1024;
/// Bytes for any number of connections: pools, rings, both programs.
const BASE: u64 = 512 << 20;
/// Descriptors of a gateway with epoll that are not connections.
const EPOLL_RESERVE: u32 = 512;

/// See the module's text.
pub(crate) struct Budget {
    pub(crate) connections: u32,
    /// Rings, or epoll instances, of the gateway.
    pub(crate) workers: u32,
    pub(crate) notes: Vec<String>,
    pub(crate) sum: Vec<String>,
    /// Bytes.
    pub(crate) needed: u64,
    available: u64,
}

impl Budget {
    /// The budget of `settings`. [`Budget::check`] refuses a machine that cannot hold it, after the
    /// sum was printed.
    pub(crate) fn of(settings: &Settings, backend: GatewayBackend) -> Budget {
        let asked = settings.connections.map_or(0, |count| count.0);
        let limit = limits::raise_descriptors();
        let mut notes = Vec::new();
        let (connections, workers) = match backend {
            GatewayBackend::Epoll if EpollBackend::probe_own_descriptors().is_ok() => {
                let workers = limits::rings(asked);
                notes.extend((u64::from(asked) > limit).then(|| tables(asked, workers, limit)));
                (asked, workers)
            }
            GatewayBackend::Epoll => {
                // The kernel spreads connections unevenly over workers, so the gateway needs a
                // twentieth to spare.
                let room = u32::try_from(limit).unwrap_or(u32::MAX).saturating_sub(EPOLL_RESERVE) / 21 * 20;
                if room < asked {
                    notes.push(format!(
                        "epoll: {} connections instead of {}: each needs a descriptor of the one gateway process, with a \
                         twentieth to spare, and RLIMIT_NOFILE is {limit} (threads can't have descriptors of their own here: \
                         close_range(2) is forbidden or unknown)",
                        number(f64::from(room)),
                        number(f64::from(asked))
                    ));
                }
                (room.min(asked), std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32))
            }
            GatewayBackend::Dpdk => {
                notes.push(
                    "descriptors: none a connection; one worker, and one queue of the link, a side"
                        .to_owned(),
                );
                (asked, 1)
            }
            GatewayBackend::IoUring => {
                let rings = limits::rings(asked);
                notes.push(format!(
                    "descriptors: {rings} rings a side, up to {} direct descriptors each (RLIMIT_NOFILE {limit})",
                    number(f64::from(asked.div_ceil(rings.max(1))))
                ));
                (asked, rings)
            }
        };
        let count = u64::from(connections);
        let parts = [
            match backend.is_past() {
                true => ("TCP/IP stacks, both sides", 2 * STACK_EACH_SIDE),
                false => ("kernel, both sides", 2 * KERNEL_EACH_SIDE),
            },
            ("gateway", GATEWAY),
            ("generator", GENERATOR),
            ("a message on its way to all connections", ON_ITS_WAY),
        ];
        let each: u64 = parts.iter().map(|(_, size)| size).sum();
        let needed = count * each + BASE;
        let list: Vec<String> = parts.iter().map(|(what, size)| format!("{what} {size} B")).collect();
        let available = kernel::memory_available();
        let sum = format!(
            "memory: {} connections × ({}) = {}, and {} for both programs = {}; MemAvailable is {}",
            number(f64::from(connections)),
            list.join(" + "),
            bytes((count * each) as f64),
            bytes(BASE as f64),
            bytes(needed as f64),
            bytes(available as f64)
        );
        Budget { connections, workers, notes, sum: vec![sum], needed, available }
    }

    /// Refuses what the machine cannot hold.
    ///
    /// # Errors
    /// How many connections it could hold.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        if self.needed <= self.available {
            return Ok(());
        }
        let each = (self.needed - BASE) / u64::from(self.connections.max(1));
        let room = self.available.saturating_sub(BASE) / each.max(1) / 1000 * 1000;
        Err(RunError::new(
            format!(
                "this machine cannot hold it: {} needed, {} available",
                bytes(self.needed as f64),
                bytes(self.available as f64)
            ),
            format!("free memory, or lower --connections to {room}"),
        ))
    }
}

/// The text about descriptors where one table of `limit` is too small.
fn tables(connections: u32, workers: u32, limit: u64) -> String {
    format!(
        "descriptors: {workers} workers of the one gateway process on epoll, each a thread with a table of descriptors of its own, \
         for up to {} connections each (RLIMIT_NOFILE {limit})",
        number(f64::from(connections.div_ceil(workers.max(1))))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadtest::settings::units::Count;

    #[test]
    fn the_report_on_a_small_machine_says_how_many_it_holds() {
        let settings = Settings { connections: Some(Count(1_000_000)), ..Settings::default() };
        let mut budget = Budget::of(&settings, GatewayBackend::IoUring);
        assert!(budget.sum[0].contains("MemAvailable") && budget.needed > 10 << 30, "{:?}", budget.sum);
        budget.available = 3 << 30;
        let error = budget.check().unwrap_err().to_string();
        assert!(error.contains("lower --connections to 2"), "{error}");
        budget.available = 64 << 30;
        budget.check().unwrap();
    }

    #[test]
    fn epoll_has_workers_for_all_each_with_descriptors_of_its_own() {
        let settings = Settings { connections: Some(Count(1_000_000)), ..Settings::default() };
        let budget = Budget::of(&settings, GatewayBackend::Epoll);
        let limit = limits::raise_descriptors();
        assert_eq!(budget.connections, 1_000_000);
        let each = 1_000_000 / u64::from(budget.workers);
        assert!(each * 21 / 20 <= limit - 200, "{each} of {limit}");
        assert_eq!(budget.notes.is_empty(), limit >= 1_000_000, "{:?}", budget.notes);
    }
}
