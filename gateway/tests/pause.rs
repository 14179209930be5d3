//! A process that is stopped and goes on: what clients sent meanwhile is read before their time is
//! up.

mod common;

use common::program::{Folder, Running, gateway};
use common::websocket::{WebSocket, masked};
use common::{auth_body, frame};
use gateway_proto::frame::Operation;
use gateway_proto::websocket::Opcode;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Of logins, and of silence. Long, so that no busy machine makes a client miss it before the
/// process is stopped.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds a hang, not a time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients of each kind: more than two polls bring.
const CLIENTS: usize = 40;

fn signal(running: &Running, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &running.child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn start(sets: &[&str]) -> Running {
    let timeouts = [
        "session.auth_timeout_ms=10000",
        "session.idle_timeout_ms=10000",
        "session.frame_timeout_ms=10000",
        "io.completions_per_turn_max=16",
        "limits.connections_max=1000",
        "log.level=info",
    ];
    let all: Vec<&str> = timeouts.iter().chain(sets).copied().collect();
    Running::of(&mut gateway("run", &all))
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The next frame's operation.
fn operation(stream: &mut TcpStream) -> i32 {
    let mut head = [0; 16];
    stream.read_exact(&mut head).expect("the connection was closed");
    let word = |at: usize| i32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut body = vec![0; word(0) as usize - 16];
    stream.read_exact(&mut body).unwrap();
    word(8)
}

fn auth(mid: usize) -> Vec<u8> {
    frame(Operation::AUTH, 1, &auth_body(mid as i64, "", ""))
}

/// Clients of one gateway, as they are when it stops.
struct Clients {
    /// Logged in; they beat while it stands still.
    beating: Vec<TcpStream>,
    /// Connected; they log in while it stands still.
    late: Vec<TcpStream>,
    /// Begin to upgrade while it stands still, and can't log in before it has answered.
    upgrading: Vec<TcpStream>,
    /// Half of their frame is there.
    half: Vec<TcpStream>,
}

impl Clients {
    fn new(running: &Running) -> Clients {
        let (tcp, websocket) = (running.address("tcp on "), running.address("websocket on "));
        let login = |mid| {
            let mut client = connect(&tcp);
            client.write_all(&auth(mid)).unwrap();
            assert_eq!(operation(&mut client), 8);
            client
        };
        let mut half: Vec<TcpStream> = (0..CLIENTS).map(|one| login(1000 + one)).collect();
        for client in &mut half {
            client.write_all(&frame(Operation::HEARTBEAT, 5, b"")[..7]).unwrap();
        }
        let connected = |address: &str| (0..CLIENTS).map(|_| connect(address)).collect();
        let (late, upgrading) = (connected(&tcp), connected(&websocket));
        // The last to log in, so that the others are known to the workers, too.
        Clients { beating: (0..CLIENTS).map(|one| login(1 + one)).collect(), late, upgrading, half }
    }

    /// While the gateway stands still.
    fn speak(&mut self) {
        for client in &mut self.beating {
            client.write_all(&frame(Operation::HEARTBEAT, 2, b"")).unwrap();
        }
        for (mid, client) in self.late.iter_mut().enumerate() {
            client.write_all(&auth(2000 + mid)).unwrap();
        }
        for client in &mut self.half {
            client.write_all(&frame(Operation::HEARTBEAT, 5, b"")[7..]).unwrap();
        }
        for client in &mut self.upgrading {
            WebSocket::ask(client);
        }
    }

    fn are_served(self) {
        let Clients { mut beating, mut late, upgrading, mut half } = self;
        beating.iter_mut().chain(&mut half).for_each(|client| assert_eq!(operation(client), 3));
        late.iter_mut().for_each(|client| assert_eq!(operation(client), 8));
        for (mid, stream) in upgrading.into_iter().enumerate() {
            let mut client = WebSocket::answered(stream);
            client.write(&masked(Opcode::Binary, true, &auth(3000 + mid)));
            assert_eq!(client.frame().operation, 8);
        }
    }
}

fn metric(running: &Running, name: &str) -> f64 {
    let mut stream = connect(&running.address("control="));
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let rows = answer.lines().filter(|line| line.starts_with(name));
    rows.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).fold(0.0, f64::max)
}

#[test]
fn clients_that_spoke_while_the_process_was_stopped_stay() {
    let kinds: [&[&str]; 3] = [
        &["io.backend=epoll", "io.workers=1"],
        &["io.backend=auto", "io.workers=1"],
        &["io.backend=auto", "io.workers=3", "io.threads=1"],
    ];
    let gateways = kinds.map(start);
    let mut clients: Vec<Clients> = gateways.iter().map(Clients::new).collect();
    gateways.iter().for_each(|one| signal(one, "STOP"));
    clients.iter_mut().for_each(Clients::speak);
    std::thread::sleep(TIMEOUT + Duration::from_secs(1));
    gateways.iter().for_each(|one| signal(one, "CONT"));
    clients.into_iter().for_each(Clients::are_served);
    for one in &gateways {
        assert!(metric(one, "gateway_worker_late_seconds_total{") >= TIMEOUT.as_secs_f64());
    }
}

#[test]
fn a_pause_is_said() {
    let folder = Folder::new("pause");
    let log = folder.0.join("log");
    let mut order = gateway("run", &["log.level=info"]);
    let mut child = order.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let until = |what: &str| {
        let since = std::time::Instant::now();
        while !fs::read_to_string(&log).unwrap().contains(what) {
            assert!(since.elapsed() < PATIENCE, "{what}: {}", fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    until("serving ");
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    std::thread::sleep(Duration::from_secs(4));
    signal("-CONT");
    until("the process stood still for ");
    child.kill().unwrap();
    child.wait().unwrap();
}
