//! One side stands still in the middle of a run, and the report names that side. A stall is longer
//! than what a busy machine does to the other side.

use crate::peer::{Faults, Peer};
use crate::proxy::Middleman;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const STALL: Duration = Duration::from_secs(3);

fn start(middleman: &Middleman, line: &str, report: &str) -> Child {
    let (tcp, http) = (middleman.tcp, middleman.http);
    let line = format!("{line} -q --server {tcp} --http {http} --json {report}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(line.split(' ')).stdout(Stdio::null()).spawn().unwrap()
}

/// Runs the generator, and `stall` in the middle of it; returns the exit code and the report.
fn with_stall(
    name: &str,
    line: &str,
    stall: impl Fn(&Middleman, libc::pid_t),
) -> (Option<i32>, serde_json::Value) {
    let path = std::env::temp_dir().join(format!("loadtest-stall-{name}-{}.json", std::process::id()));
    let peer = Peer::start(Faults::default());
    let middleman = Middleman::before((peer.tcp, peer.http), None, i64::MAX - 1);
    let mut child = start(&middleman, line, &path.display().to_string());
    middleman.until_passed(60);
    stall(&middleman, child.id() as libc::pid_t);
    let status = child.wait().unwrap();
    let report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let _ = std::fs::remove_file(path);
    (status.code(), report)
}

fn signal(pid: libc::pid_t, signal: libc::c_int) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_generator_that_stood_still_is_an_invalid_measurement() {
    for (name, line) in [
        ("echo", "echo -c 5 --rate 50 --warmup 0ms --duration 6s"),
        ("idle", "idle -c 5 --heartbeat 100ms --warmup 0ms --duration 6s"),
    ] {
        let (code, report) = with_stall(name, line, |_, pid| {
            signal(pid, libc::SIGSTOP);
            std::thread::sleep(STALL);
            signal(pid, libc::SIGCONT);
        });
        assert_eq!(code, Some(3), "{report}");
        let stalled = report["verdict"]["stalled"].as_str().unwrap();
        assert!(stalled.starts_with("the generator"), "{stalled}");
        // What it meant to sleep is no part of it.
        let longest = report["generator"]["gaps"]["longest"].as_f64();
        assert!(longest > Some(0.95 * STALL.as_nanos() as f64), "{report}");
    }
}

#[test]
fn a_server_that_stood_still_is_named_and_its_stall_counted_whole() {
    for (name, line, place) in [
        ("beats", "idle -c 20 --heartbeat 100ms --warmup 0ms --duration 6s", "/heartbeats"),
        ("churn", "churn -c 40 --rate 40 --warmup 0ms --duration 6s", "/churn"),
        ("echo", "echo -c 5 --rate 100 --warmup 0ms --duration 6s", "/flows/0"),
        ("push", "push -c 5 --rate 100 --warmup 0ms --duration 6s", "/flows/0"),
    ] {
        let (code, report) = with_stall(name, line, |middleman, _| middleman.pause(STALL));
        assert!(matches!(code, Some(0 | 3)), "nothing is lost: {code:?} {report}");
        let stalled = report["verdict"]["stalled"].as_str().unwrap();
        assert!(stalled.starts_with("the server"), "{name}: {stalled}");
        let latency = &report.pointer(place).unwrap()["latency"];
        // Half of six seconds is in the stall, and waits for half of it in the middle.
        assert!(latency["max"].as_f64() > Some(0.95 * STALL.as_nanos() as f64), "{name}: {latency}");
        assert!(latency["p90"].as_f64() > Some(0.6 * STALL.as_nanos() as f64), "{name}: {latency}");
    }
}
