//! Cgroups of the process (cgroups(7)), and the share of the processors' time that they allow.

use rustix::thread::{CpuSet, sched_getaffinity};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// The two forms of cgroups. Both may be there at once, each with some controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// The folders of the process's cgroup for a controller, up to the root, in either version. `own`
/// is `/proc/self/cgroup`.
pub(crate) fn folders(own: &str, root: &Path, controller: &str) -> Vec<(Version, PathBuf)> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            // Alone, or beside the first version ("hybrid"), where it is mounted under `unified`.
            let bases = [root.to_owned(), root.join("unified")];
            let base = bases.into_iter().find(|base| base.join("cgroup.procs").exists());
            let base = base.unwrap_or_else(|| root.to_owned());
            upwards(&base, path).for_each(|folder| found.push((Version::V2, folder)));
        } else if controllers.split(',').any(|one| one == controller) {
            upwards(&root.join(controller), path).for_each(|folder| found.push((Version::V1, folder)));
        }
    }
    found
}

fn upwards(base: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    let base = base.to_owned();
    let mut next = Some(base.join(path));
    std::iter::from_fn(move || {
        let folder = next.take()?;
        if folder != base {
            next = folder.parent().map(Path::to_owned).filter(|parent| parent.starts_with(&base));
        }
        Some(folder)
    })
}

/// A limit on processors' time that is below what the process's processors have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Processors' worth of time, in thousandths.
    pub thousandths: u64,
    /// Processors that the process may run on.
    pub processors: u64,
    /// The file that says so.
    pub file: &'static str,
}

impl CpuQuota {
    /// The least that holds for this process; `None` where none is below its processors.
    pub fn read() -> Option<CpuQuota> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let set = sched_getaffinity(None).ok()?;
        let processors = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).count() as u64;
        CpuQuota::least(&folders(&own, Path::new(ROOT), "cpu"), processors)
    }

    fn least(folders: &[(Version, PathBuf)], processors: u64) -> Option<CpuQuota> {
        let quotas = folders.iter().filter_map(|(version, folder)| quota(version, folder));
        let (thousandths, file) = quotas.min()?;
        (thousandths < processors * 1000).then_some(CpuQuota { thousandths, processors, file })
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thousandths, processors, file } = self;
        let plural = if *processors == 1 { "" } else { "s" };
        write!(f, "{file} allows {:.1} of {processors} processor{plural}", *thousandths as f64 / 1000.0)
    }
}

/// Quota by period, in thousandths, and the file; `None`: no limit.
fn quota(version: &Version, folder: &Path) -> Option<(u64, &'static str)> {
    let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let (quota, period, file) = match version {
        Version::V2 => {
            let text = text("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned(), "cpu.max")
        }
        Version::V1 => (text("cpu.cfs_quota_us")?, text("cpu.cfs_period_us")?, "cpu.cfs_quota_us"),
    };
    // "max" and -1 are no numbers of this kind.
    let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    Some((quota.checked_mul(1000)?.checked_div(period)?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(name: &str, own: &str, files: &[(&str, &str)]) -> Option<String> {
        let root = std::env::temp_dir().join(format!("gateway-cgroup-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let quota = CpuQuota::least(&folders(own, &root, "cpu"), 2);
        fs::remove_dir_all(root).unwrap();
        quota.map(|quota| quota.to_string())
    }

    #[test]
    fn the_tightest_quota_of_the_ancestors_holds() {
        let nested = |inner, outer| {
            let files = [("cgroup.procs", ""), ("pod/cpu.max", outer), ("pod/own/cpu.max", inner)];
            least("v2", "0::/pod/own\n", &files)
        };
        let one = Some("cpu.max allows 1.0 of 2 processors".to_owned());
        assert_eq!(nested("100000 100000\n", "max 100000\n"), one);
        assert_eq!(nested("max 100000\n", "50000 50000\n"), one);
        assert_eq!(nested("150000 100000\n", "10000 10000\n"), one);
        assert_eq!(nested("max 100000\n", "max 100000\n"), None);
        assert_eq!(nested("200000 100000\n", "max 100000\n"), None, "it has two");
    }

    #[test]
    fn version_1_is_read_where_it_has_the_controller() {
        let quota = |text| {
            let files = [
                ("unified/cgroup.procs", ""),
                ("cpu/box/cpu.cfs_quota_us", text),
                ("cpu/box/cpu.cfs_period_us", "100000\n"),
            ];
            least("v1", "4:cpu,cpuacct:/box\n0::/\n", &files)
        };
        assert_eq!(quota("25000\n").as_deref(), Some("cpu.cfs_quota_us allows 0.2 of 2 processors"));
        assert_eq!(quota("-1\n"), None);
    }
}
