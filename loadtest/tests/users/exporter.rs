//! Figures while a run lasts.

use crate::peer::{Faults, Peer};
use crate::{is_sound, words};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A free address of this machine.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One scrape; `None` where nothing listens.
fn scrape(address: SocketAddr) -> Option<String> {
    let mut client = TcpStream::connect(address).ok()?;
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: loadtest\r\n\r\n").ok()?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_scrape_sees_the_run_go_on() {
    let peer = Peer::start(Faults::default());
    let address = free_address();
    let line =
        format!("echo -c 5 --rate 200 --warmup 0ms --duration 3s --settle 5s --metrics-listen {address}");
    let words = words(&peer, &line);
    let run = std::thread::spawn(move || loadtest::run(words));
    // Until the second of them shows: seconds are passed on when they are over.
    let (mut seen, mut last) = (0.0, String::new());
    while !run.is_finished() && seen == 0.0 {
        if let Some(text) = scrape(address) {
            seen = value(&text, "loadtest_deliveries_total{flow=\"echo\"}");
            last = text;
        }
        std::thread::yield_now();
    }
    let exit = run.join().unwrap();
    assert!(is_sound(exit), "{exit:?}");
    assert!(seen > 0.0, "{last}");
    assert_eq!(value(&last, "loadtest_connections{state=\"ready\"}"), 5.0, "{last}");
    assert_eq!(value(&last, "loadtest_info{scenario=\"echo\",stage=\"echo\"}"), 1.0, "{last}");
    assert_eq!(value(&last, "loadtest_latency_seconds_count{flow=\"echo\"}"), seen, "{last}");
    assert_eq!(scrape(address), None, "it ends with the run");
}
