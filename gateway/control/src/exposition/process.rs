//! The process, by the names that Prometheus' own clients use.

use super::families::Families;
use super::table;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fs;

pub(super) fn collect(families: &mut Families) {
    let ticks = clock_ticks_per_second() as f64;
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        families.value(&table::PROCESS_CPU_SECONDS, (stat.user_ticks + stat.system_ticks) as f64 / ticks);
        families
            .value(&table::PROCESS_RESIDENT_MEMORY_BYTES, stat.resident_pages as f64 * page_size() as f64);
        families.value(&table::PROCESS_VIRTUAL_MEMORY_BYTES, stat.virtual_bytes as f64);
        families.value(&table::PROCESS_THREADS, stat.threads as f64);
        if let Some(booted) = boot_time() {
            let started = booted as f64 + stat.start_ticks as f64 / ticks;
            families.value(&table::PROCESS_START_TIME_SECONDS, started);
        }
    }
    // Since Linux 6.2 the folder's size is the number of open descriptors; before, it is 0 and says
    // nothing.
    if let Some(open) = fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|open| *open > 0)
    {
        families.value(&table::PROCESS_OPEN_FDS, open as f64);
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        families.value(&table::PROCESS_MAX_FDS, max as f64);
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
