//! What a process inherits or is handed by its operator must not take its signals, its memory or
//! its life.

mod common;

use common::program::{Folder, Running, gateway};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Bounds a hang, not a time.
const PATIENCE: Duration = Duration::from_secs(60);

fn signal(running: &Running, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &running.child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// How it ended, once it has.
fn ended(running: &mut Running) -> ExitStatus {
    let since = Instant::now();
    loop {
        match running.child.try_wait().unwrap() {
            Some(status) => return status,
            None if since.elapsed() > PATIENCE => panic!("it does not end"),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn get(running: &Running, path: &str) -> String {
    let mut stream = TcpStream::connect(running.address("control=")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a metric.
fn metric(running: &Running, name: &str) -> f64 {
    let text = get(running, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).trim().parse().unwrap()
}

/// The order behind a command that runs it.
fn behind(command: &str, flags: &[&str], order: &Command) -> Command {
    let mut outer = Command::new(command);
    outer.args(flags).arg(order.get_program()).args(order.get_args());
    outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    outer
}

// A mask of signals is inherited across execve(2).
#[test]
fn a_parent_that_blocked_signals_takes_none_away() {
    let order = gateway("run", &["drain.drain_ms=0"]);
    for name in ["TERM", "INT"] {
        let mut running = Running::of(&mut behind("env", &["--block-signal=TERM,INT,HUP"], &order));
        signal(&running, name);
        assert_eq!(ended(&mut running).code(), Some(0), "SIG{name}");
    }
}

// setrlimit(2), RLIMIT_FSIZE: SIGXFSZ ends a process that does not ignore it.
#[test]
fn a_bound_on_files_ends_no_process() {
    let folder = Folder::new("file-size");
    let log = fs::File::create(folder.0.join("log")).unwrap();
    let order = gateway("run", &["drain.drain_ms=0", "log.level=info"]);
    let mut bounded = behind("prlimit", &["--fsize=4096"], &order);
    let mut child = bounded.stderr(log).spawn().unwrap();
    let since = Instant::now();
    let size = || fs::metadata(folder.0.join("log")).unwrap().len();
    while size() < 4096 && since.elapsed() < PATIENCE && child.try_wait().unwrap().is_none() {
        // Once it serves, each of these is a line: "signal 10 is ignored".
        if fs::read_to_string(folder.0.join("log")).unwrap().contains("serving ") {
            let _ = Command::new("kill").args(["-USR1", &child.id().to_string()]).status();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(size(), 4096, "the bound was not reached");
    std::thread::sleep(Duration::from_millis(100));
    let still = child.try_wait().unwrap();
    assert_eq!(still.map(|status| (status.code(), status.signal())), None, "it has ended");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What a name may lead to that never ends, or that is no file.
fn put(kind: &str, path: &Path) {
    let _ = fs::remove_file(path);
    match kind {
        "a FIFO" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "a large file" => fs::File::create(path).unwrap().set_len(2 << 30).unwrap(),
        device => symlink(device, path).unwrap(),
    }
}

// The control thread serves /healthz, signals and the service manager's watchdog: it waits for no
// file.
#[test]
fn a_reload_never_waits_for_a_file_and_reads_none_without_an_end() {
    let folder = Folder::new("endless");
    let (config, key) = (folder.0.join("gateway.toml"), folder.0.join("key"));
    let text = format!("[control]\napi_key_file = \"{}\"\n", key.display());
    for (what, endless) in [("configuration", &config), ("key file", &key)] {
        for kind in ["a FIFO", "/dev/zero", "/dev/urandom", "a large file"] {
            for one in [&config, &key] {
                let _ = fs::remove_file(one);
            }
            fs::write(&config, &text).unwrap();
            fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
            let mut order = gateway("run", &["drain.drain_ms=0"]);
            order.arg("--config").arg(&config);
            let mut running = Running::of(&mut order);
            let before = metric(&running, "process_resident_memory_bytes");
            put(kind, endless);
            signal(&running, "HUP");
            let since = Instant::now();
            let refused = "gateway_config_reloads_total{result=\"refused\"}";
            while metric(&running, refused) < 1.0 {
                assert!(since.elapsed() < PATIENCE, "{what} is {kind}: the reload does not end");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(get(&running, "/healthz").starts_with("HTTP/1.1 200"));
            let grown = metric(&running, "process_resident_memory_bytes") - before;
            assert!(grown < f64::from(32 << 20), "{what} is {kind}: {grown} bytes more");
            signal(&running, "TERM");
            assert_eq!(ended(&mut running).code(), Some(0), "{what} is {kind}");
        }
    }
}
