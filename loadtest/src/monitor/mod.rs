//! The server's process and this machine, from /proc; the server's /metrics, over HTTP.

mod find;
pub mod kernel;
pub(crate) mod metrics;

pub(crate) use find::listening_on;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Add;
use std::time::Duration;

/// A reading of a group of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// Time on a processor as the scheduler counted it, to the nanosecond; the two above come in
    /// ticks.
    pub(crate) run: Duration,
    pub(crate) rss: u64,
    /// Times that a thread gave up its processor because it had nothing to do: each is one wake-up.
    pub(crate) voluntary: u64,
    /// Times that the scheduler took the processor away.
    pub(crate) involuntary: u64,
    /// Time that threads were ready to run while something else ran.
    pub(crate) waited: Duration,
    /// The part of `run` of threads that poll whether or not there is something to do.
    polling: Duration,
    /// How long those threads had something to do, by their own count; `None`: no thread polls.
    pub(crate) busy: Option<Duration>,
}

/// The server, as far as it can be watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) pids: Vec<i32>,
    /// Where a server in poll mode publishes how long its workers had something to do.
    pub(crate) busy_at: Option<SocketAddr>,
}

impl Watched {
    /// A reading.
    pub(crate) fn read(&self) -> Usage {
        let nanos = self.busy_at.and_then(|address| metrics::series(address, BUSY));
        let busy = nanos.map(|nanos| Duration::from_nanos(nanos as u64));
        Usage { busy, ..Usage::read(&self.pids) }
    }
}

/// Busy time of workers in poll mode, as the gateway publishes it.
const BUSY: &str = "gateway_stack_events_total{event=\"busy_nanos\"}";
/// Names of such threads.
const POLLING: &str = "worker-";

impl Usage {
    /// Reads all of `pids`; those that are gone count nothing.
    fn read(pids: &[i32]) -> Usage {
        let mut sum = Usage::default();
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if let Some((user, system)) = cpu_of_stat(&stat) {
                sum.user += user;
                sum.system += system;
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let kib = |name| kib_field(&status, name).unwrap_or(0);
            sum.rss += (kib("VmRSS:") + kib("HugetlbPages:")) * 1024;
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            threads.for_each(|thread| sum.add_thread(&thread.path()));
        }
        sum
    }

    fn add_thread(&mut self, folder: &std::path::Path) {
        let schedstat = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
        let mut numbers = schedstat.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0));
        let run = Duration::from_nanos(numbers.next().unwrap_or(0));
        self.run += run;
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        self.polling += if name.starts_with(POLLING) { run } else { Duration::ZERO };
        self.waited += Duration::from_nanos(numbers.next().unwrap_or(0));
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        self.voluntary += kib_field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        self.involuntary += kib_field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }

    /// Processor time of both kinds, as exactly as it is known; of threads that poll only the time
    /// that they had something to do, by the clock.
    pub(crate) fn cpu(&self) -> Duration {
        if let Some(busy) = self.busy {
            return busy + self.run.saturating_sub(self.polling);
        }
        if self.run.is_zero() { self.user + self.system } else { self.run }
    }

    /// The difference between `earlier` and this, as far as it adds up; memory is this one's.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            run: self.run.saturating_sub(earlier.run),
            polling: self.polling.saturating_sub(earlier.polling),
            busy: self.busy.zip(earlier.busy).map(|(now, then)| now.saturating_sub(then)),
            rss: self.rss,
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

impl Add for Usage {
    type Output = Usage;

    /// The sum of two windows; memory is the later one's.
    fn add(self, later: Usage) -> Usage {
        Usage {
            user: self.user + later.user,
            system: self.system + later.system,
            run: self.run + later.run,
            polling: self.polling + later.polling,
            busy: self.busy.zip(later.busy).map(|(one, other)| one + other),
            rss: later.rss,
            voluntary: self.voluntary + later.voluntary,
            involuntary: self.involuntary + later.involuntary,
            waited: self.waited + later.waited,
        }
    }
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5), in ticks of 1/100 s. The name (field 2)
/// may hold anything.
fn cpu_of_stat(stat: &str) -> Option<(Duration, Duration)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok().map(|ticks| Duration::from_millis(ticks * 10));
    Some((ticks()?, ticks()?))
}

/// Time spent waiting on a run queue, ns: the second number of a schedstat file.
pub(crate) fn run_queue_wait(path: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The number behind `name` in a file of lines such as `VmRSS:  4096 kB`.
fn kib_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// This process's resident memory.
pub(crate) fn own_rss() -> u64 {
    kib_field(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:").unwrap_or(0) * 1024
}

/// The command line of a process.
pub(crate) fn command_of(pid: i32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = raw.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
}

/// Facts about this machine, for reports.
pub(crate) fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = kib_field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) * 1024;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    BTreeMap::from([
        ("processor".to_owned(), model.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("cores".to_owned(), cores.to_string()),
        ("memory".to_owned(), crate::report::units::bytes(memory as f64)),
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0";
        assert_eq!(cpu_of_stat(stat), Some((Duration::from_millis(2500), Duration::from_millis(750))));
        assert_eq!(cpu_of_stat("nonsense"), None);
    }

    #[test]
    fn this_process_has_memory_and_the_machine_a_kernel() {
        assert!(own_rss() > 100 << 10);
        assert!(!machine()["kernel"].is_empty());
    }
}
