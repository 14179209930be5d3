//! More connections on epoll than RLIMIT_NOFILE allows a process.

mod common;

use common::program::{Running, gateway};
use common::{Client, frame, send_message};
use gateway_proto::body::{SendMessageReply, Target};
use gateway_proto::frame::Operation;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Descriptors of a table of the program's.
const LIMIT: usize = 256;
const CLIENTS: i64 = 600;

/// The program under that limit, which is this order's and its children's.
fn limited(sets: &[&str]) -> Command {
    let order = gateway("run", sets);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh"]).arg(order.get_program());
    shell
        .args(order.get_args())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    shell
}

/// What a request with `Connection: close` is answered.
fn ask(control: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(control).unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn sum(metrics: &str, name: &str) -> f64 {
    let own = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    metrics.lines().filter(own).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn one_process_holds_more_connections_than_it_may_have_descriptors() {
    let sets = [
        "io.backend=epoll",
        "limits.connections_max=700",
        "control.connections_max=32",
        "drain.drain_ms=1000",
    ];
    let mut running = Running::of(&mut limited(&sets));
    assert!(
        running.said.contains("256 a worker: each has a table of descriptors of its own"),
        "{}",
        running.said
    );
    let address: SocketAddr = running.address("tcp on ").parse().unwrap();
    let mut clients: Vec<Client> = (1..=CLIENTS)
        .map(|mid| {
            let mut client = Client::connect(address);
            client.login(mid, "", "live://1");
            client
        })
        .collect();
    let pid = running.child.id();
    let tables = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let open = tables.map(|task| fs::read_dir(task.unwrap().path().join("fd")).unwrap().count());
    assert!(open.max().unwrap() <= LIMIT, "no table is larger than the limit");
    // From each to the one at the other end: across workers, and so across tables, in most cases.
    for from in 0..clients.len() {
        let to = CLIENTS - from as i64;
        clients[from].write(&frame(
            Operation::SEND_MESSAGE,
            5,
            &send_message(Target::Mid(to), b"hello", false),
        ));
        assert_eq!(SendMessageReply::parse(&clients[from].read().body).unwrap().receivers, 1, "from {from}");
        assert_eq!(clients[to as usize - 1].read().operation, 1000);
    }
    let control = running.address("control=");
    let answer = ask(&control, "POST /goim/push/all?operation=1000&speed=0", "to everyone");
    assert!(answer.contains("\"code\":0"), "{answer}");
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read().body, b"to everyone", "client {index}");
    }
    let metrics = ask(&control, "GET /metrics", "");
    assert_eq!(sum(&metrics, "gateway_connections"), CLIENTS as f64);
    // Whoever leaves is gone for both sides, and the end is a clean one.
    drop(clients.split_off(CLIENTS as usize / 2));
    let since = Instant::now();
    while sum(&ask(&control, "GET /metrics", ""), "gateway_connections") > CLIENTS as f64 / 2.0 {
        assert!(since.elapsed() < Duration::from_secs(60), "their connections stay");
        std::thread::sleep(Duration::from_millis(50));
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(running.child.wait().unwrap().success(), "it drains and ends");
    assert!(TcpStream::connect(address).is_err(), "no copy of a listener is left open");
}
