//! Several generator processes as one.

use crate::peer::{Faults, Peer};
use crate::{Scratch, is_sound, run, words};
use loadtest::Exit;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// An agent in a process of its own; it ends when dropped.
struct Agent {
    process: Child,
    address: String,
}

impl Agent {
    fn start(secret: &Scratch) -> Agent {
        let mut process = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["agent", "--listen", "127.0.0.1:0", "--secret-file", secret.path()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("agent at ").unwrap_or_else(|| panic!("{line}")).to_owned();
        // Its pipe must not fill.
        std::thread::spawn(move || lines.lines().for_each(drop));
        Agent { process, address }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn secret(text: &str) -> Scratch {
    let file = Scratch::new("secret");
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn two_agents_report_as_one_generator() {
    let (peer, secret) = (Peer::start(Faults::default()), secret("a secret of these tests"));
    let agents = [Agent::start(&secret), Agent::start(&secret)];
    let flags = format!(
        "--agents {},{} --secret-file {} --warmup 100ms --settle 20s",
        agents[0].address,
        agents[1].address,
        secret.path()
    );
    for (line, operations) in [
        ("push -c 20 --rate 500 --duration 400ms", 200),
        ("echo -c 21 --rate 300:200ms,900:200ms", 240),
        ("room -c 20 --room-size 10 --publishers 2 --rate 200 --duration 400ms", 80),
        ("echo -c 20 --workers 2 --rate 500 --arrivals poisson --duration 400ms", 0),
    ] {
        let (exit, report) = run(&peer, &format!("{line} {flags}"));
        assert!(is_sound(exit), "{line}: {exit:?} {report}");
        let flow = &report["flows"][0];
        let conservation = &flow["conservation"];
        assert_eq!(conservation["delivered"], conservation["owed"], "{line}: {report}");
        // Open loop kept: every operation of the schedule is there once, whichever agent had it.
        let receivers = if line.starts_with("room") { 10 } else { 1 };
        let count = flow["latency"]["count"].as_u64().unwrap();
        assert!(operations == 0 || count == operations * receivers, "{line}: {count} {report}");
        assert_eq!(report["connect"]["ready"], report["connect"]["asked"], "{line}");
        assert!(report["verdict"]["clock_uncertainty"].as_u64() > Some(0), "{line}: {report}");
        for agent in &agents {
            let clock = report["machine"][format!("agent {}", agent.address)].as_str().unwrap();
            assert!(clock.contains('±'), "{clock}");
        }
    }
    // The other scenarios, which have no flow.
    for line in [
        "connect -c 20",
        "churn -c 20 --rate 100 --duration 300ms",
        "idle -c 20 --heartbeat 100ms --duration 300ms",
    ] {
        let (exit, report) = run(&peer, &format!("{line} {flags}"));
        assert!(is_sound(exit), "{line}: {exit:?} {report}");
        assert_eq!(report["connect"]["ready"], 20, "{line}: {report}");
    }
}

#[test]
fn what_agents_lose_is_counted_once() {
    let (peer, secret) =
        (Peer::start(Faults { drop: Some(20), ..Faults::default() }), secret("a secret of these tests"));
    let agents = [Agent::start(&secret), Agent::start(&secret)];
    let line = format!(
        "push -c 10 --rate 500 --warmup 0ms --duration 400ms --settle 6s --agents {},{} --secret-file {}",
        agents[0].address,
        agents[1].address,
        secret.path()
    );
    let (exit, report) = run(&peer, &line);
    assert_eq!(exit, Exit::Missed, "{report}");
    assert_eq!(report["flows"][0]["conservation"]["owed"], 200, "{report}");
    assert_eq!(report["flows"][0]["conservation"]["lost"], 10, "{report}");
}

#[test]
fn an_agent_that_dies_makes_the_measurement_invalid_and_is_named() {
    let (peer, secret) = (Peer::start(Faults::default()), secret("a secret of these tests"));
    let (stays, mut dies) = (Agent::start(&secret), Agent::start(&secret));
    let report = Scratch::new("json");
    let metrics = crate::exporter::free_address();
    let line = format!(
        "echo -c 10 --rate 200 --warmup 0ms --duration 600s --agents {},{} --secret-file {} --json {} \
         --metrics-listen {metrics}",
        stays.address,
        dies.address,
        secret.path(),
        report.path()
    );
    let words = words(&peer, &line);
    let run = std::thread::spawn(move || loadtest::run(words));
    // The run goes on once its metrics are served.
    while TcpStream::connect(metrics).is_err() && !run.is_finished() {
        std::thread::yield_now();
    }
    dies.process.kill().unwrap();
    assert_eq!(run.join().unwrap(), Exit::Invalid);
    let report = report.json();
    let why = report["verdict"]["invalid"][0].as_str().unwrap();
    assert!(why.starts_with(&format!("agent {} was lost", dies.address)), "{report}");
    // The other one is free for another run.
    let line = format!("connect -c 4 --agents {} --secret-file {}", stays.address, secret.path());
    assert!(is_sound(crate::run(&peer, &line).0));
}

#[test]
fn agents_obey_only_what_knows_their_secret() {
    let (peer, secret, other) = (
        Peer::start(Faults::default()),
        secret("a secret of these tests"),
        secret("another secret of theirs"),
    );
    let agent = Agent::start(&secret);
    let line =
        |secret: &Scratch| format!("connect -c 4 --agents {} --secret-file {}", agent.address, secret.path());
    assert_eq!(run(&peer, &line(&other)).0, Exit::CouldNotRun, "another secret");
    let none = format!("connect -c 4 --agents {}", agent.address);
    assert_eq!(run(&peer, &none).0, Exit::CouldNotRun, "no secret");
    assert!(is_sound(run(&peer, &line(&secret)).0), "it is still there for others");
    let none =
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["agent", "--listen", "127.0.0.1:0"]).output();
    let none = none.unwrap();
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(2) && text.contains("secret"), "{text}");
}
