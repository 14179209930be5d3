//! Memory of the whole program while its control port is abused: it stays within the sum that it
//! prints at its start.

#![allow(unreachable_pub)]

#[path = "common/program.rs"]
#[allow(dead_code)]
mod program;

use program::Running;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 256;
/// Requests that each connection sends at once.
const PIPELINED: usize = 640;

/// Resident memory of the program, in bytes.
fn resident(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    answer
}

/// Bytes that requests hold, as the program counts them.
fn held_by_requests(address: &str) -> u64 {
    let text = get(address, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix("gateway_http_held_bytes{what=\"requests\"} "));
    line.unwrap().parse::<f64>().unwrap() as u64
}

/// What the program says that it takes at most.
fn planned(address: &str) -> u64 {
    let text = get(address, "/metrics");
    let of = |line: &str| {
        line.strip_prefix("gateway_memory_planned_bytes{")?.split_once("} ")?.1.parse::<f64>().ok()
    };
    let sum = text.lines().filter_map(of).sum::<f64>() as u64;
    assert!(sum > 16 << 20, "the sum of the plan: {sum}");
    sum
}

/// Sends as much of `bytes` as the peer takes; it may end the connection.
fn send_unread(stream: &mut TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::WouldBlock
                    | ErrorKind::TimedOut
                    | ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionReset
            ),
            "{error}"
        ),
    }
}

/// Floods the port with `request`, pipelined and never read; a second round goes away in the
/// middle.
fn flood(request: &str) {
    let running = Running::start(&["io.workers=1"]);
    let address = running.address("control=");
    let (planned, before) = (planned(&address), resident(&running));
    let requests = request.repeat(PIPELINED).into_bytes();
    let mut held: Vec<TcpStream> = (0..CONNECTIONS).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut most = before;
    for round in 0..2 {
        for stream in &mut held {
            send_unread(stream, &requests);
            most = most.max(resident(&running));
        }
        // The port still answers, and does so at once.
        let start = Instant::now();
        assert!(get(&address, "/healthz").ends_with("ok\n"));
        get(&address, "/metrics");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?} in round {round}", start.elapsed());
        most = most.max(resident(&running));
    }
    for mut stream in std::mem::take(&mut held) {
        // Gone in the middle of an answer, with more requests on their way.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
        let _ = stream.read(&mut [0; 100]);
        send_unread(&mut stream, &requests[..requests.len() / 3]);
    }
    most = most.max(resident(&running));
    assert!(most <= planned, "{most} bytes resident, {planned} planned, {before} before");
    let start = Instant::now();
    let connections = || {
        let text = get(&address, "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix("gateway_http_connections "));
        line.unwrap().parse::<f64>().unwrap() as usize
    };
    while connections() > 4 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} connections are left", connections());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(held_by_requests(&address), 0, "all that was held is given back");
}

#[test]
fn answers_that_are_not_read_stay_within_the_sum() {
    flood("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

#[test]
fn answers_without_a_body_stay_within_the_sum() {
    flood("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

#[test]
fn lists_that_are_not_read_stay_within_the_sum() {
    flood(
        "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
}

#[test]
fn pushes_whose_answers_are_not_read_stay_within_the_sum() {
    let body = "x".repeat(1000);
    flood(&format!(
        "POST /goim/push/all?operation=1000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let body = r#"{"target":{"mid":7},"operation":1000,"payload":"x"}"#;
    flood(&format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
}

/// Large requests that never end share a bound; a caller with a large request of its own is still
/// served.
#[test]
fn requests_that_never_end_stay_within_the_sum_and_make_room() {
    let running = Running::start(&["io.workers=1", "control.body_timeout_ms=600000"]);
    let address = running.address("control=");
    let planned = planned(&address);
    let head =
        "POST /goim/push/all?operation=1000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    let mut held: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut held {
        send_unread(stream, head.as_bytes());
        send_unread(stream, &vec![b'x'; 900_000]);
        assert!(resident(&running) <= planned, "{} of {planned}", resident(&running));
    }
    // What stands still for a second is closed for those who need its memory.
    let payload = "x".repeat(60_000);
    let body = format!(r#"{{"target":{{"mid":7}},"operation":1000,"payload":"{payload}"}}"#);
    let start = Instant::now();
    loop {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        if answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 1"), "{answer}");
        assert!(start.elapsed() < Duration::from_secs(60), "no room is made");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(held);
}

/// Whether the peer has neither answered nor closed.
fn waits(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let read = stream.read(&mut [0; 64]);
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// Heads are held while the body is awaited: in the target, in fields, and behind them. Each is
/// counted, or refused.
#[test]
fn large_heads_whose_body_does_not_come_are_counted() {
    const HEADS: usize = 300;
    let target = format!("/goim/push/keys?operation=1000&keys={}", vec!["k".repeat(100); 2600].join(","));
    let fields: String = (0..15).map(|index| format!("X-{index}: {}\r\n", "y".repeat(1000))).collect();
    let many: String = (0..60).map(|index| format!("X-{}{index}: z\r\n", "n".repeat(200))).collect();
    let heads = [
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\na"),
        format!(
            "GET /healthz?{} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: 100\r\n\r\na",
            "a".repeat(50_000)
        ),
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}Content-Length: 100\r\n\r\na"),
        // A whole request, and one byte of the next.
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\naP"),
    ];
    for (kind, head) in heads.iter().enumerate() {
        let running = Running::start(&["io.workers=1", "control.body_timeout_ms=600000"]);
        let address = running.address("control=");
        let (planned, before) = (planned(&address), resident(&running));
        let mut held: Vec<TcpStream> = Vec::new();
        let mut most = before;
        for _ in 0..HEADS {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            // One that is refused may be closed before it has sent everything.
            let _ = stream.write_all(head.as_bytes());
            held.push(stream);
            most = most.max(resident(&running));
        }
        // Where the whole request was answered, one byte is left of it.
        let each = if kind == 3 { 0 } else { head.len().saturating_sub(4 << 10) as u64 };
        let start = Instant::now();
        loop {
            held.retain_mut(waits);
            let (waiting, counted) = (held.len() as u64, held_by_requests(&address));
            most = most.max(resident(&running));
            assert!(counted <= 4 << 20, "kind {kind}: {counted} bytes are more than the bound");
            if counted >= waiting * each {
                break;
            }
            let late = start.elapsed() > Duration::from_secs(20);
            assert!(!late, "kind {kind}: {waiting} wait with {each} bytes each, {counted} are counted");
        }
        // What a connection has of its own, and what is counted; malloc and the kernel's pages
        // round up.
        let own = (HEADS * (16 << 10)) as u64;
        assert!(
            most - before <= own + 2 * (4 << 20) + (8 << 20),
            "kind {kind}: {before} -> {most} bytes resident"
        );
        assert!(most <= planned, "kind {kind}: {most} bytes resident, {planned} planned");
        drop(held);
        let start = Instant::now();
        while held_by_requests(&address) > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "kind {kind}: something is held for ever");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
