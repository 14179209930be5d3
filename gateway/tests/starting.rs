//! The program as an operator starts it: what it says before, at the start, and of what it finds.

mod common;

use common::program::{Folder, Running, check, gateway};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn the_line_that_says_what_is_served_has_the_real_ports() {
    for format in ["text", "json"] {
        let running = Running::start(&[&format!("log.format={format}")]);
        for what in ["tcp on ", "websocket on "] {
            let address = running.address(what);
            assert!(!address.ends_with(":0"), "{}", running.serving);
            TcpStream::connect(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
        let control = if format == "json" { r#""control":""# } else { "control=" };
        let mut stream = TcpStream::connect(running.address(control)).unwrap();
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Scheduling policies of the threads that move messages (proc_pid_stat(5), fields 2 and 41).
fn policies(running: &Running) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.child.id())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let policy = |stat: String| {
        let (name, rest) = stat.rsplit_once(") ").unwrap();
        let moves = name.contains("(worker-") || name.ends_with("(control");
        moves.then(|| rest.split(' ').nth(41 - 3).unwrap().parse().unwrap())
    };
    stats.filter_map(policy).collect()
}

#[test]
fn threads_run_under_the_policy_that_was_asked_for() {
    // SCHED_OTHER and SCHED_BATCH, sched(7).
    for (name, policy) in [("normal", 0), ("batch", 3)] {
        let running = Running::start(&[&format!("io.scheduling={name}"), "io.workers=2"]);
        let wanted = vec![policy; 3];
        let since = Instant::now();
        // A thread gives itself its policy.
        while policies(&running) != wanted {
            assert!(since.elapsed() < Duration::from_secs(20), "{name}: {:?}", policies(&running));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn without_a_file_only_this_machine_is_served() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_gateway")).arg("config").env_clear().output().unwrap().stdout;
    let text = String::from_utf8(output).unwrap();
    let addresses: Vec<&str> = text.lines().filter(|line| line.starts_with("address =")).collect();
    assert_eq!(addresses.len(), 3, "{text}");
    assert!(addresses.iter().all(|line| line.contains("\"127.0.0.1:")), "{addresses:?}");
}

#[test]
fn a_port_that_is_taken_is_a_warning() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = check(&[&format!("listener.tcp.address={address}")]);
    assert!(said.contains(&format!("listener.tcp.address = \"{address}\" is in use")), "{said}");
    assert!(said.contains(&format!("ss -ltnp 'sport = :{}'", address.port())), "{said}");
    let said = check(&[&format!("control.address={address}")]);
    assert!(said.contains(&format!("control.address = \"{address}\" is in use")), "{said}");
    assert!(check(&["listener.tcp.address=192.0.2.1:3100"]).contains("no address of this machine"));
    assert!(!check(&[]).contains("in use"));
}

#[test]
fn a_journal_that_has_no_folder_is_a_warning() {
    let folder = Folder::new("preflight");
    let with = |path: &str| check(&["journal.enabled=true", &format!("journal.directory={path}")]);
    let there = folder.0.display().to_string();
    assert!(!with(&there).contains("journal.directory"));
    let said = with(&format!("{there}/not/there"));
    assert!(said.contains("does not exist; the start makes it"), "{said}");
    assert!(!folder.0.join("not").exists(), "a check changes nothing");
    fs::write(folder.0.join("file"), "").unwrap();
    assert!(with(&format!("{there}/file")).contains("is no folder"));
    let said = with(&format!("{there}/file/journal"));
    assert!(said.contains("can't make it in") && said.contains("install -d -o USER"), "{said}");
}

#[test]
fn a_line_that_a_crash_left_half_written_is_cut_off_and_said_so() {
    let folder = Folder::new("torn-line");
    let file = folder.0.join("audit-00000001.jsonl");
    let journal = format!("journal.directory={}", folder.0.display());
    let sets = ["journal.enabled=true", &journal];
    let mut first = Running::start(&sets);
    let written = |parts: usize| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text.matches('\n').count() >= parts && text.ends_with('\n') {
                return text;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    written(1);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut torn = fs::OpenOptions::new().append(true).open(&file).unwrap();
    torn.write_all(b"{\"event\":\"connec").unwrap();
    let mut child = gateway("run", &sets).spawn().unwrap();
    let text = written(2);
    child.kill().unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert_eq!(text.matches("ready").count(), 2, "{text}");
    assert!(!text.contains("connec") && text.lines().all(|line| line.ends_with('}')), "{text}");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("half-written")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("bytes=16") && lines[0].contains("audit-00000001.jsonl"), "{said}");
}

/// A goim frame.
fn frame(operation: i32, sequence: i32, body: &[u8]) -> Vec<u8> {
    let size = 16 + body.len() as u32;
    let head = [&size.to_be_bytes()[..], &[0, 16, 0, 1], &operation.to_be_bytes(), &sequence.to_be_bytes()];
    [&head.concat(), body].concat()
}

/// The next frame: its operation and its body.
fn next(stream: &mut TcpStream) -> (i32, Vec<u8>) {
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    let word = |at: usize| i32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut body = vec![0; word(0) as usize - 16];
    stream.read_exact(&mut body).unwrap();
    (word(8), body)
}

fn http(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let kind = "Host: x\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{request} HTTP/1.1\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_journal_and_the_metrics_tell_ends_alike_and_notices_are_counted() {
    let folder = Folder::new("ends");
    let journal = format!("journal.directory={}", folder.0.display());
    let running = Running::start(&["journal.enabled=true", &journal]);
    let (tcp, control) = (running.address("tcp on "), running.address("control="));
    let login = |mid: u32| {
        let mut stream = TcpStream::connect(&tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&frame(7, 1, format!("{{\"mid\":{mid}}}").as_bytes())).unwrap();
        assert_eq!(next(&mut stream).0, 8);
        stream
    };
    let (mut kicked, leaver) = (login(1), login(2));
    kicked.write_all(&frame(106, 2, b"live://1")).unwrap();
    let (operation, body) = next(&mut kicked);
    assert_eq!((operation, &body[..4]), (107, &404_i32.to_be_bytes()[..]), "not in that room");
    kicked.write_all(&frame(108, 3, b"")).unwrap();
    let (operation, body) = next(&mut kicked);
    assert_eq!((operation, &body[..2]), (112, &501_u16.to_be_bytes()[..]));
    assert!(String::from_utf8_lossy(&body[8..]).contains("later version"));
    assert!(http(&control, "POST /api/v1/kick", "{\"mid\":1}").contains("\"closed\":1"));
    assert_eq!(next(&mut kicked).0, 111);
    drop((kicked, leaver));
    let wanted = [
        "gateway_send_frames_total{class=\"notice\"} 2\n",
        "gateway_connection_ends_total{by=\"server\",reason=\"kicked\"} 1\n",
        "gateway_connection_ends_total{by=\"transport\",reason=\"peer_closed\"} 1\n",
        "gateway_request_errors_total 2\n",
    ];
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (metrics, lines) = (
            http(&control, "GET /metrics", ""),
            fs::read_to_string(folder.0.join("audit-00000001.jsonl")).unwrap(),
        );
        let has = |event: &str, parts: &[&str]| {
            lines.lines().any(|line| line.contains(event) && parts.iter().all(|part| line.contains(part)))
        };
        if wanted.iter().all(|line| metrics.contains(line))
            && has("\"kicked\"", &["\"by\":\"server\"", "\"reason\":\"kicked\"", "\"code\":3503"])
            && has(
                "\"disconnected\"",
                &["\"by\":\"transport\"", "\"reason\":\"peer_closed\"", "\"code\":null"],
            )
        {
            return;
        }
        assert!(Instant::now() < deadline, "{lines}\n{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
