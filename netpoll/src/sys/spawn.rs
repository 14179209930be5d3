//! Threads, and what keeps a process from having one more.
//!
//! The kernel says "Resource temporarily unavailable" for each of several limits, none of which is
//! named in it.

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io;
use std::path::Path;
use std::thread::{Builder, JoinHandle};

/// Starts a thread.
///
/// # Errors
/// That of pthread_create(3), with the limits that may be the cause and what to do.
pub fn spawn_thread<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let what = format!("no thread {name:?}");
    Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}; {}", limits(Path::new("/")))))
}

/// The limits on threads that hold here, and how to raise them.
fn limits(root: &Path) -> String {
    let mut all = Vec::new();
    if let Some(limit) = getrlimit(Resource::Nproc).current {
        all.push(format!(
            "RLIMIT_NPROC allows {limit} threads of all of this user's processes together (systemd LimitNPROC=, `ulimit -u`)"
        ));
    }
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    all.extend(pids(&own, &root.join("sys/fs/cgroup")).map(|(current, max)| {
        format!("the cgroup's pids.max allows {max}, and {current} are there (systemd TasksMax=, docker --pids-limit)")
    }));
    for (name, resource) in [("RLIMIT_DATA", Resource::Data), ("RLIMIT_AS", Resource::As)] {
        if let Some(limit) = getrlimit(resource).current {
            all.push(format!("{name} allows {} MiB, the stacks of threads included", limit >> 20));
        }
    }
    if all.is_empty() {
        return "raise kernel.threads-max or vm.max_map_count (sysctl)".into();
    }
    format!("raise what is short: {}", all.join("; "))
}

/// How many threads the cgroup has, and may have; of the first on the way to the root that has a
/// limit.
fn pids(own: &str, root: &Path) -> Option<(u64, u64)> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let base = match controllers {
            "" => root.to_owned(),
            "pids" => root.join("pids"),
            _ => return None,
        };
        let folder = base.join(path.trim_start_matches('/'));
        let number =
            |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
        folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&base))
            .find_map(|folder| Some((number(folder, "pids.current")?, number(folder, "pids.max")?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_of_threads_is_found() {
        let root = std::env::temp_dir().join(format!("gateway-pids-{}", std::process::id()));
        let folder = root.join("a/b");
        fs::create_dir_all(&folder).unwrap();
        let write = |folder: &Path, max: &str| {
            fs::write(folder.join("pids.max"), max).unwrap();
            fs::write(folder.join("pids.current"), "7\n").unwrap();
        };
        write(&folder, "max\n");
        let none = pids("0::/a/b\n", &root);
        write(&root.join("a"), "20\n");
        let above = pids("1:cpu:/\n0::/a/b\n", &root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((none, above), (None, Some((7, 20))));
    }
}
