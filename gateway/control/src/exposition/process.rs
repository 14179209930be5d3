//! The process, by the names that Prometheus' own clients use.

use super::families::Families;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fs;

pub(super) fn collect(families: &mut Families) {
    let ticks = clock_ticks_per_second() as f64;
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        families.counter(
            "process_cpu_seconds_total",
            "User and system CPU time spent in seconds.",
            (stat.user_ticks + stat.system_ticks) as f64 / ticks,
        );
        families.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            stat.resident_pages as f64 * page_size() as f64,
        );
        families.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            stat.virtual_bytes as f64,
        );
        families.gauge("process_threads", "Number of OS threads in the process.", stat.threads as f64);
        if let Some(booted) = boot_time() {
            let started = booted as f64 + stat.start_ticks as f64 / ticks;
            families.gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                started,
            );
        }
    }
    // Since Linux 6.2 the folder's size is the number of open descriptors; before, it is 0 and says
    // nothing.
    if let Some(open) = fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|open| *open > 0)
    {
        families.gauge("process_open_fds", "Number of open file descriptors.", open as f64);
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        families.gauge("process_max_fds", "Maximum number of open file descriptors.", max as f64);
    }
}

/// Fields of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the command in parentheses and may hold anything; fields are counted
        // from 3 behind it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Stat {
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_time() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_hold_spaces_and_parentheses() {
        let text =
            "1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 140 15 16 17 20 0 18 0 22 2300 24 18446744073709551615";
        let found = Stat::parse(text).unwrap();
        let expected = Stat {
            user_ticks: 140,
            system_ticks: 15,
            threads: 18,
            start_ticks: 22,
            virtual_bytes: 2300,
            resident_pages: 24,
        };
        assert_eq!(found, expected);
        assert_eq!(Stat::parse("1 (a"), None);
        assert!(Stat::parse(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap().resident_pages > 0);
    }
}
