//! What becomes of the program when its output can't be written, or is not read.

#![allow(unreachable_pub)]

#[path = "common/program.rs"]
#[allow(dead_code)]
mod program;

use program::{Running, gateway};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

fn code(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.signal(), None, "ended by a signal");
            return status.code();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that is free now, for a gateway whose output tells none.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    for flags in [&["--help"][..], &["--version"], &["check", "--help"], &["schema"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        let output = command.args(flags).env_clear().stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {said}");
        assert!(said.contains("the output can't be written: "), "{flags:?}: {said}");
    }
}

#[test]
fn a_gateway_serves_when_its_log_cannot_be_written() {
    for format in ["text", "json"] {
        let address = free_port();
        let mut order = gateway("run", &[&format!("log.format={format}"), "io.workers=1"]);
        order.args(["--set", &format!("control.address={address}")]).stderr(full()).stdout(full());
        let mut child = order.spawn().unwrap();
        let start = Instant::now();
        while !get(&address, "/readyz").is_some_and(|answer| answer.ends_with("ready\n")) {
            assert!(
                start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
                "{format}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(&child, "-HUP");
        // The lines are written by a thread of their own, which may not have come to the first one
        // yet.
        let dropped = || {
            let metrics = get(&address, "/metrics").unwrap();
            let value =
                metrics.lines().find_map(|line| line.strip_prefix("gateway_log_dropped_lines_total "));
            value.unwrap().parse::<f64>().unwrap()
        };
        while dropped() == 0.0 {
            assert!(start.elapsed() < Duration::from_secs(60), "{format}: no line was dropped");
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(&child, "-TERM");
        assert_eq!(code(&mut child), Some(0), "{format}");
    }
}

// The log is a pipe of 64 KiB that is not read.
#[test]
fn a_log_that_is_not_read_holds_up_nothing() {
    let mut running = Running::unread(&mut gateway("run", &["io.workers=1"]));
    let address = running.address("control=");
    let line = "gateway_log_dropped_lines_total ";
    let dropped = || {
        let metrics = get(&address, "/metrics").expect("answers");
        metrics.lines().find_map(|found| found.strip_prefix(line)).unwrap().parse::<f64>().unwrap()
    };
    let start = Instant::now();
    while dropped() == 0.0 {
        (0..50).for_each(|_| signal(&running.child, "-HUP"));
        let asked = Instant::now();
        assert!(get(&address, "/healthz").is_some_and(|answer| answer.ends_with("ok\n")));
        assert!(asked.elapsed() < Duration::from_secs(60), "a probe waited {:?}", asked.elapsed());
        assert!(start.elapsed() < Duration::from_secs(600), "nothing was dropped");
    }
    signal(&running.child, "-TERM");
    assert_eq!(code(&mut running.child), Some(0));
}

#[test]
fn commands_end_quietly_when_their_reader_has_gone() {
    for order in ["check", "schema", "config"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = gateway(order, &[]);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let status = command.status().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{order}");
        let mut command = gateway(order, &[]);
        let status = command.stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(
            (status.code(), status.signal()),
            (Some(1), None),
            "{order}: what was lost is told by the exit code"
        );
    }
    let mut wrong = gateway("check", &["io.workers=x"]);
    assert_eq!(wrong.stderr(full()).status().unwrap().code(), Some(2));
}

// Without descriptors nothing can be accepted, ten times a second: said, and not ten times a
// second.
#[test]
fn ports_that_cannot_accept_say_so_once_in_a_while() {
    let mut child = gateway("run", &["io.workers=1", "io.backend=epoll"]).spawn().unwrap();
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let (heard, stderr) = (Arc::clone(&lines), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            heard.lock().unwrap().push(line);
        }
    });
    let until = |done: &dyn Fn(&[String]) -> bool| {
        let start = Instant::now();
        while !done(&lines.lock().unwrap()) {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", lines.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let count = |lines: &[String], what: &str| lines.iter().filter(|line| line.contains(what)).count();
    until(&|lines| count(lines, "serving ") == 1);
    let serving = lines.lock().unwrap().iter().find(|line| line.contains("serving ")).unwrap().clone();
    let address = |what: &str| {
        let rest = serving.split_once(what).unwrap().1;
        rest.chars().take_while(|one| one.is_ascii_digit() || matches!(one, '.' | ':')).collect::<String>()
    };
    let limit =
        Command::new("prlimit").args(["--nofile=5:5", "--pid", &child.id().to_string()]).status().unwrap();
    assert!(limit.success());
    let waiting: Vec<TcpStream> = [address("control="), address("tcp on ")]
        .iter()
        .map(|address| TcpStream::connect(address).unwrap())
        .collect();
    let (control, clients) = ("the control port can't accept", "client listeners can't accept");
    until(&|lines| count(lines, control) > 0 && count(lines, clients) > 0);
    std::thread::sleep(Duration::from_secs(3));
    for what in [control, clients] {
        // Every 10 s: twice at most in a test that a crowded machine holds up.
        assert!((1..=2).contains(&count(&lines.lock().unwrap(), what)), "{:?}", lines.lock().unwrap());
    }
    drop(waiting);
    signal(&child, "-TERM");
    assert_eq!(code(&mut child), Some(0));
    reader.join().unwrap();
}

/// What `gateway check` writes to a terminal, by script(1).
fn on_a_terminal(environment: &[(&str, &str)]) -> String {
    let check = gateway("check", &[]);
    let words: Vec<_> = check.get_args().map(|word| word.to_str().unwrap()).collect();
    let order = format!("{} {}", env!("CARGO_BIN_EXE_gateway"), words.join(" "));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &order, "/dev/null"]).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("TERM", "xterm-256color").envs(environment.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_color_on_a_terminal_whose_user_wants_none() {
    let escape = |environment: &[(&str, &str)]| {
        let said = on_a_terminal(environment);
        assert!(said.contains("the configuration is good"), "{said}");
        said.contains('\x1b')
    };
    assert!(escape(&[]), "a terminal has colors");
    assert!(escape(&[("NO_COLOR", "")]), "an empty value says nothing (no-color.org)");
    assert!(!escape(&[("NO_COLOR", "1")]));
    assert!(!escape(&[("NO_COLOR", "0")]), "any value says no");
}
