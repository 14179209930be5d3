//! Sources of memory readings: the process's cgroup (v2, or v1 where that holds the memory
//! controller), else the configured maximum against what the process uses.

use crate::cgroup::{self, Version, folders};
use gateway_core::memory::{KERNEL_BYTES_PER_CONNECTION, Reading};
use rustix::param::page_size;
use std::fs;
use std::path::{Path, PathBuf};

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The process's cgroup and those above it that have a limit: the one that is nearest to its
    /// end counts.
    cgroups: Vec<(Version, PathBuf)>,
    /// `memory.memory_max_bytes`, if set.
    configured: Option<u64>,
    /// All memory of the machine, in bytes.
    machine: Option<u64>,
}

impl Source {
    /// The limits that hold for this process. Cgroups are looked up once; their limits may change
    /// later and are read again each time.
    pub fn find(configured: Option<u64>) -> Source {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_bytes(&text));
        Source { cgroups: folders(&own, Path::new(cgroup::ROOT), "memory"), configured, machine }
    }

    /// What this process uses of the machine, for operators where nothing else limits it: no level
    /// follows from it, for others use the machine, too.
    pub fn of_machine(&self, connections: u64) -> Option<Reading> {
        let used = resident_bytes()? + connections * KERNEL_BYTES_PER_CONNECTION;
        Some(Reading { used, limit: self.machine? })
    }

    /// The reading with the least left; `None` when there is no limit at all. `connections` is how
    /// many are held.
    pub fn read(&self, connections: u64) -> Option<Reading> {
        let configured = self.configured.and_then(|limit| {
            let used = resident_bytes()? + connections * KERNEL_BYTES_PER_CONNECTION;
            Some(Reading { used, limit })
        });
        let cgroups = self.cgroups.iter().filter_map(|(version, folder)| read_cgroup(version, folder));
        cgroups.chain(configured).min_by_key(|reading| reading.left())
    }

    /// Name of the limit, for operators.
    pub fn label(&self) -> &'static str {
        let limited = |version: &Version| {
            let mut all = self.cgroups.iter().filter(|(found, _)| found == version);
            all.any(|(version, folder)| read_cgroup(version, folder).is_some())
        };
        match (limited(&Version::V2), limited(&Version::V1), self.configured) {
            (true, ..) => "cgroup memory.max",
            (_, true, _) => "cgroup memory.limit_in_bytes",
            (.., Some(_)) => "memory.memory_max_bytes",
            _ => "the machine's memory",
        }
    }

    /// Share of the last ten seconds in which some task waited for memory, in percent: of the
    /// process's cgroup where the kernel reports it, else of the machine; 0 where it reports
    /// neither. It counts only while little is left: a quarter of what the cgroup may have, or a
    /// tenth of the machine's. Tasks also stall while the page cache makes room, and then there is
    /// room.
    pub fn stall_percent(&self) -> f32 {
        self.stalls(fs::read_to_string("/proc/meminfo").is_ok_and(|text| is_scarce(&text)))
    }

    fn stalls(&self, machine_is_scarce: bool) -> f32 {
        let own = self.cgroups.iter().find(|(version, _)| *version == Version::V2);
        let own = own.and_then(|(_, folder)| fs::read_to_string(folder.join("memory.pressure")).ok());
        let is_scarce = || self.read(0).is_some_and(|reading| reading.left() < reading.limit / 4);
        let stalls = match own {
            Some(own) => (machine_is_scarce || is_scarce()).then_some(own),
            None if machine_is_scarce => fs::read_to_string("/proc/pressure/memory").ok(),
            None => None,
        };
        stalls.as_deref().and_then(stall_percent).unwrap_or(0.0)
    }
}

/// `some avg10` of a PSI file (Documentation/accounting/psi.rst).
pub fn stall_percent(text: &str) -> Option<f32> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// A line of `/proc/meminfo` (proc_meminfo(5)), in KiB.
fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().trim_end_matches(" kB").parse().ok()
}

fn machine_bytes(text: &str) -> Option<u64> {
    kib(text, "MemTotal:").map(|kib| kib * 1024)
}

/// Whether less than a tenth of the machine's memory is available.
fn is_scarce(text: &str) -> bool {
    kib(text, "MemTotal:")
        .zip(kib(text, "MemAvailable:"))
        .is_some_and(|(total, available)| available < total / 10)
}

fn read_cgroup(version: &Version, folder: &Path) -> Option<Reading> {
    let (limit, usage, cache) = match version {
        Version::V2 => {
            // Above memory.high the kernel throttles the process until it is slower than it uses
            // memory: that is an end too.
            let files = ["memory.max", "memory.high"].map(|file| number(&folder.join(file)));
            (files.into_iter().flatten().min()?, "memory.current", "inactive_file ")
        }
        Version::V1 => {
            (number(&folder.join("memory.limit_in_bytes"))?, "memory.usage_in_bytes", "total_inactive_file ")
        }
    };
    // The first version writes "no limit" as a number near 2^63.
    if limit >= 1 << 60 {
        return None;
    }
    let used = number(&folder.join(usage))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix(cache)?.parse::<u64>().ok()).unwrap_or(0);
    Some(Reading { used: used.saturating_sub(cache), limit })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Resident memory of this process, in bytes (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("gateway-memory-{name}-{}", std::process::id()));
            for (file, text) in files {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Tree(root)
        }

        fn source(&self, own: &str) -> Source {
            Source { cgroups: folders(own, &self.0, "memory"), configured: None, machine: None }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_takes_the_tightest_of_its_ancestors() {
        let tree = Tree::new(
            "v2",
            &[
                ("cgroup.procs", ""),
                ("pods/memory.max", "1000\n"),
                ("pods/memory.current", "400\n"),
                ("pods/memory.stat", "anon 5\ninactive_file 100\n"),
                ("pods/gateway/memory.max", "max\n"),
                ("pods/gateway/memory.high", "900\n"),
                ("pods/gateway/memory.current", "700\n"),
                (
                    "pods/gateway/memory.pressure",
                    "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=0.00\n",
                ),
            ],
        );
        let source = tree.source("0::/pods/gateway\n");
        assert_eq!(source.read(0), Some(Reading { used: 700, limit: 900 }));
        assert_eq!(source.stalls(false), 12.5);
        fs::write(tree.0.join("pods/gateway/memory.current"), "600\n").unwrap();
        assert_eq!((source.stalls(false), source.stalls(true)), (0.0, 12.5), "there is room");
        assert_eq!(source.label(), "cgroup memory.max");
    }

    #[test]
    fn version_1_is_read_where_it_has_the_controller() {
        let tree = Tree::new(
            "v1",
            &[
                ("unified/cgroup.procs", ""),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/box/memory.limit_in_bytes", "2000\n"),
                ("memory/box/memory.usage_in_bytes", "1500\n"),
                ("memory/box/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n"),
            ],
        );
        let source = tree.source("9:name=systemd:/\n4:memory:/box\n0::/\n");
        assert_eq!(source.read(0), Some(Reading { used: 1200, limit: 2000 }));
        assert_eq!(source.label(), "cgroup memory.limit_in_bytes");
    }

    #[test]
    fn no_limit_is_no_reading_and_a_configured_one_counts_the_kernels_part() {
        let tree = Tree::new("none", &[("cgroup.procs", "")]);
        assert_eq!(tree.source("0::/\n").read(0), None);
        assert_eq!(tree.source("garbage\n::\n").read(0), None);
        let source = Source { cgroups: vec![], configured: Some(1 << 40), machine: None };
        let (empty, held) = (source.read(0).unwrap(), source.read(1_000_000).unwrap());
        assert!(empty.used > 0 && held.used >= empty.used / 2 + 1_000_000 * KERNEL_BYTES_PER_CONNECTION);
        assert_eq!(stall_percent("nonsense"), None);
        let machine =
            |available: u64| is_scarce(&format!("MemTotal: 1000 kB\nMemAvailable:   {available} kB\n"));
        assert!(machine(99) && !machine(100) && !is_scarce("nonsense"));
    }
}
