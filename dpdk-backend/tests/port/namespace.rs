//! A network namespace for one test, removed when the test ends.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static NAMESPACE: OnceLock<File> = OnceLock::new();

/// Moves the calling thread, and the threads that it starts, into the namespace.
pub(crate) fn enter() {
    let namespace = NAMESPACE.get_or_init(make);
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("needs root: the test moves into a network namespace of its own");
    if !fs::read_to_string("/proc/thread-self/net/if_inet6").is_ok_and(|table| table.contains("lo")) {
        ip("link set lo up");
    }
}

/// A process makes the namespace. It exists while its file is open.
fn make() -> File {
    let mut holder = Command::new("unshare")
        .args(["--net", "sleep", "60"])
        .stdin(Stdio::null())
        .spawn()
        .expect("unshare(1) of util-linux");
    let ours = fs::read_link("/proc/self/ns/net").expect("/proc");
    let path = format!("/proc/{}/ns/net", holder.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    let file = loop {
        if fs::read_link(&path).is_ok_and(|theirs| theirs != ours) {
            break File::open(&path).expect("the namespace");
        }
        assert!(
            Instant::now() < deadline && holder.try_wait().is_ok_and(|end| end.is_none()),
            "no network namespace: this test needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)"
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = holder.kill();
    let _ = holder.wait();
    file
}

/// Runs `ip` with these arguments, in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a program with these arguments, in the calling thread's namespace.
pub(crate) fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; it has to be installed"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {said}");
}
