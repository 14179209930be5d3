//! A network namespace of its own, where root can have one: every sysctl set in it ends with it.

use loadtest::RunError;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Tells the program that it runs inside already, and how it was called.
const INSIDE: &str = "LOADTEST_NAMESPACE";

/// Sets the table's size where the kernel can (6.1 and later), and continues in a namespace that
/// has it.
const INNER: &str = "echo 4194304 2>/dev/null >/proc/sys/net/ipv4/tcp_child_ehash_entries; \
    exec unshare --net sh -c 'ip link set lo up && exec \"$0\" \"$@\"' \"$0\" \"$@\"";

/// Sysctls of a namespace with very many connections.
const SYSCTLS: [(&str, &str); 4] = [
    ("net/ipv4/ip_local_port_range", "1024 65535"),
    ("net/core/somaxconn", "65535"),
    ("net/ipv4/tcp_max_syn_backlog", "65535"),
    // A TIME_WAIT socket that is dropped for lack of room is one less on the kernel's account and
    // on ours.
    ("net/ipv4/tcp_max_tw_buckets", "2000000"),
];

/// How the program was called, if it was started again in here by its whole path, which does not
/// belong in a report.
pub(crate) fn called() -> Option<String> {
    std::env::var_os(INSIDE).map(|name| name.to_string_lossy().into_owned())
}

/// Continues in a namespace of its own, as root and where that is possible; returns a description.
///
/// # Errors
/// The program cannot be started again in it.
pub(crate) fn enter() -> Result<Vec<String>, RunError> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(vec![apply_sysctls()]);
    }
    let root = rustix::process::geteuid().is_root();
    let able = || Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !root || !able().is_ok_and(|output| output.status.success()) {
        let why = if root { "unshare and ip do not work here" } else { "not root" };
        return Ok(vec![format!("network: this machine's own, as it is ({why})")]);
    }
    let program = std::env::current_exe().map_err(|error| {
        RunError::new(format!("cannot find this program: {error}"), "start it by its path")
    })?;
    // exec all the way: the process, and the right to signal it, stay the same. A namespace inside
    // a namespace, because the size of TCP's table is what the outer one had set when the inner one
    // was made.
    let error = Command::new("unshare")
        .args(["--net", "sh", "-c", INNER])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, std::env::args_os().next().unwrap_or_default())
        .exec();
    Err(RunError::new(format!("cannot start in a network namespace: {error}"), "run it as another user"))
}

fn apply_sysctls() -> String {
    let set: Vec<String> = SYSCTLS
        .iter()
        .filter(|(path, value)| std::fs::write(format!("/proc/sys/{path}"), value).is_ok())
        .map(|(path, value)| format!("{} = {value}", path.rsplit('/').next().unwrap_or(path)))
        .collect();
    // Negative: shared with the machine.
    let table = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_ehash_entries").unwrap_or_default();
    let table = table.trim().trim_start_matches('-');
    let set = set.join(", ");
    format!(
        "network: a namespace of its own, which ends with this program ({set}; {table} places in TCP's table)"
    )
}
