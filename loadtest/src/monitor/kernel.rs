//! What the kernel spends on connections: its slab caches by name, and the memory that is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Caches that grow with connections of any process.
const CACHES: [&str; 13] = [
    "TCP",
    "sock_inode_cache",
    "filp",
    "dentry",
    "io_kiocb",
    "tw_sock_TCP",
    "request_sock_TCP",
    "skbuff_head_cache",
    "skbuff_small_head",
    "skbuff_fclone_cache",
    "tcp_bind_bucket",
    "tcp_bind2_bucket",
    "lsm_file_cache",
];

/// Bytes of the caches of interest, by name; `kmalloc` is the sum of those. Empty unless root reads
/// it.
pub(crate) fn slab() -> BTreeMap<String, u64> {
    parse_slab(&fs::read_to_string("/proc/slabinfo").unwrap_or_default())
}

/// Whether [`slab`] can be read here.
pub(crate) fn slab_is_readable() -> bool {
    fs::File::open("/proc/slabinfo").is_ok()
}

/// slabinfo(5), version 2.1: name, active objects, all objects, object size, objects a slab, pages
/// a slab, then `: tunables` and `: slabdata <active> <slabs> <shared>`.
fn parse_slab(text: &str) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for line in text.lines().skip(2) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let (Some(name), Some(pages), Some(slabs)) = (fields.first(), number(5), number(14)) else {
            continue;
        };
        let name = if name.starts_with("kmalloc") { "kmalloc" } else { name };
        if name == "kmalloc" || CACHES.contains(&name) {
            *sizes.entry(name.to_owned()).or_insert(0) += pages * slabs * 4096;
        }
    }
    sizes
}

/// Time that all processors were busy since the machine started, ns: proc_stat(5) in ticks of 1/100
/// s, without idle and iowait.
pub(crate) fn busy() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let ticks = fields.take(8).map(|field| field.parse::<u64>().unwrap_or(0)).enumerate();
    ticks.filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks * 10_000_000).sum()
}

/// MemAvailable, in bytes.
pub fn memory_available() -> u64 {
    memory("MemAvailable:")
}

/// MemFree, in bytes: unused memory, without the page cache.
pub fn memory_free() -> u64 {
    memory("MemFree:")
}

/// What this process's control groups leave it of their memory.max (cgroup v2), in bytes, with
/// reclaimable page cache counted as left; without a limit, the largest number.
pub fn memory_left_in_cgroup() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let number = |folder: &Path, file| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let cache = |folder: &Path| {
        let text = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("inactive_file "));
        line.and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0)
    };
    let left = |folder: &Path| {
        let used = number(folder, "memory.current")?.saturating_sub(cache(folder));
        Some(number(folder, "memory.max")?.saturating_sub(used))
    };
    Path::new("/sys/fs/cgroup").join(own).ancestors().filter_map(left).min().unwrap_or(u64::MAX)
}

fn memory(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    super::kib_field(&text, field).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_counted_in_pages() {
        let text = "slabinfo - version: 2.1\n# name …\n\
            TCP 200031 200100 2368 13 8 : tunables 0 0 0 : slabdata 15400 15400 0\n\
            kmalloc-64 1 64 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n\
            kmalloc-cg-1k 1 64 1024 32 8 : tunables 0 0 0 : slabdata 2 2 0\n\
            xfs_buf 1 64 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n";
        let wanted = [("TCP".to_owned(), 8 * 15_400 * 4096), ("kmalloc".to_owned(), 17 * 4096)];
        assert_eq!(parse_slab(text), BTreeMap::from(wanted));
        assert!(memory_available() > 1 << 20 && memory_free() > 1 << 20);
        assert!(memory_left_in_cgroup() > 1 << 20);
    }
}
