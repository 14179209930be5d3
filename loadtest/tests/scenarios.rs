//! Every scenario end to end against the test peer, and every fault that must be caught.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

mod peer;

use loadtest::Exit;
use peer::{Faults, Peer};
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Runs a command line (split at spaces) against `peer`; returns the exit and the stored report.
fn run(peer: &Peer, line: &str) -> (Exit, String) {
    let name = format!(
        "loadtest-{}-{:x}.json",
        std::process::id(),
        line.len() * 7919 + line.bytes().map(usize::from).sum::<usize>()
    );
    let path = std::env::temp_dir().join(name);
    let ws = line.contains("--transport w");
    let server = match () {
        () if line.contains("raw") && line.starts_with("room") => peer.raw_fan_out,
        () if line.contains("--protocol raw") => peer.raw,
        () if line.contains("--protocol ws-echo") => peer.websocket_echo,
        () if ws => peer.websocket,
        () => peer.tcp,
    };
    let words =
        format!("loadtest {line} -q --server {server} --http {} --json {}", peer.http, path.display());
    let exit = loadtest::run(words.split(' ').map(OsString::from));
    let report = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    (exit, report)
}

const SHORT: &str = "--warmup 20ms --duration 150ms --settle 10s";

fn passes(peer: &Peer, line: &str) -> String {
    let (exit, report) = run(peer, &format!("{line} {SHORT}"));
    assert!(is_sound(exit), "{line}: {exit:?}\n{report}");
    report
}

/// Nothing was wrong. Whether the times of so short a run are good depends on the machine.
fn is_sound(exit: Exit) -> bool {
    matches!(exit, Exit::Met | Exit::Invalid)
}

fn count(report: &str, name: &str) -> f64 {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let flows = report["flows"].as_array().unwrap();
    flows.iter().map(|flow| flow["conservation"][name].as_f64().unwrap()).sum()
}

#[test]
fn every_scenario_over_tcp() {
    let peer = Peer::start(Faults::default());
    passes(&peer, "connect -c 50");
    passes(&peer, "connect -c 40 --connect-rate 200 --workers 2");
    passes(&peer, "idle -c 30 --heartbeat 100ms");
    let echo = passes(&peer, "echo -c 20 --depth 16 --workers 2 --goal loss=0 throughput=100");
    assert!(count(&echo, "delivered") > 320.0 && count(&echo, "lost") == 0.0, "{echo}");
    let shared = passes(&peer, "echo -c 24 --depth 4 --workers 8 --threads 1 --goal loss=0 throughput=100");
    assert!(count(&shared, "delivered") > 96.0, "{shared}");
    let open = passes(&peer, "echo -c 20 --rate 2000 --size 1000 --goal p99=30s rate=0.01");
    assert_eq!(count(&open, "owed"), count(&open, "delivered"));
    passes(&peer, "push -c 20 --rate 500");
    passes(&peer, "push -c 21 --batch 4 --by keys --workers 2");
    passes(&peer, "room -c 30 --room-size 10 --publishers 2 --rate 200 --workers 2");
    passes(&peer, "room -c 30 --rate 100 --compat goim");
    passes(&peer, "room -c 30 --depth 4");
    passes(&peer, "broadcast -c 30 --rate 50");
    passes(&peer, "churn -c 30 --rate 100");
    passes(&peer, "slow-reader -c 10 --slow-connections 3 --rate 100");
    passes(
        &peer,
        "mix -c 20 --echo-rate 300 --push-rate 100 --room-rate 50 --broadcast-rate 20 --churn-rate 20",
    );
}

#[test]
fn a_run_of_many_stages() {
    let peer = Peer::start(Faults::default());
    let times =
        "--idle-for 300ms --warmup 50ms --duration 300ms --churn-for 300ms --recover-for 50ms --settle 10s";
    let line = format!(
        "million --quick -c 200 -w 2 --room-size 20 --push-rate 500 --batch 7 --heartbeat 200ms --churn-rate 100 {times}"
    );
    let (exit, report) = run(&peer, &line);
    assert!(is_sound(exit), "{exit:?} {report}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let stages = report["stages"].as_array().unwrap();
    let stage = |name: &str| stages.iter().find(|stage| stage["name"] == name).unwrap();
    assert_eq!(stages.len(), 14);
    let broadcasts = ["broadcast", "broadcast-2", "broadcast-3"];
    for name in ["push", "list", "service", "message", "room", "aftermath"].into_iter().chain(broadcasts) {
        let flow = &stage(name)["flows"][0];
        assert!(flow["conservation"]["delivered"].as_u64() > Some(40), "{name}: {flow}");
        assert_eq!(flow["conservation"]["delivered"], flow["conservation"]["owed"], "{name}: {flow}");
        assert!(flow["latency"]["count"].as_u64() > Some(40), "{name}: {flow}");
    }
    for name in broadcasts {
        assert_eq!(stage(name)["flows"][0]["conservation"]["operations"], 1, "{name}");
    }
    assert!(stage("churn")["churn"]["measured"].as_u64() > Some(20));
    for name in ["disconnect", "recovery"] {
        assert_eq!(stage(name)["departure"]["closed"], 200, "{name}");
    }
    assert_eq!(stage("storm")["connect"]["ready"], 200);
    // The cost of connections is what is there beyond this.
    let first = &report["samples"][0];
    assert_eq!((first["ready"].as_u64(), first["time"].as_f64()), (Some(0), Some(0.0)), "{first}");
    let beats = stage("idle")["heartbeats"]["measured"].as_u64().unwrap();
    assert!((200..=400).contains(&beats), "{beats} beats of 200 connections in 1½ intervals");
}

#[test]
fn every_transport_and_protocol() {
    let peer = Peer::start(Faults::default());
    passes(&peer, "echo -c 10 --depth 8 --transport ws");
    passes(&peer, "echo -c 10 --rate 500 --size 5000 --transport ws");
    passes(&peer, "room -c 10 --rate 100 --transport ws");
    passes(&peer, "push -c 10 --rate 100 --transport ws");
    passes(&peer, "echo -c 10 --depth 8 --protocol raw");
    passes(&peer, "echo -c 10 --depth 8 --protocol ws-echo --size 300");
    passes(&peer, "room -c 10 --depth 2 --protocol raw");
    passes(&peer, "echo -c 10 --echo-operation 2 --size 0");
    passes(&peer, "echo -c 10 --source-addresses 4 --depth 1 --backend epoll");
}

#[test]
fn connections_in_several_rooms() {
    let peer = Peer::start(Faults::default());
    passes(&peer, "idle -c 30 --heartbeat 100ms --room-size 5 --rooms-per-connection 3 --goal ready=1");
    passes(&peer, "idle -c 30 --rooms-per-connection 8 --transport ws --workers 2 --goal ready=1");
    let room = passes(&peer, "room -c 30 --room-size 10 --rate 200 --rooms-per-connection 4");
    assert!(count(&room, "delivered") > 0.0 && count(&room, "misdelivered") == 0.0, "{room}");
    passes(&peer, "churn -c 30 --rate 100 --room-size 5 --rooms-per-connection 2");
    for line in ["--rooms-per-connection 0", "--rooms-per-connection 2 --compat goim"] {
        assert_eq!(run(&peer, &format!("idle -c 5 {line}")).0, Exit::CouldNotRun, "{line}");
    }
    drop(peer);
    let full = Peer::start(Faults { refuse_joins: true, ..Faults::default() });
    let line = "connect -c 3 --rooms-per-connection 2 --connect-retries 0";
    assert_eq!(run(&full, line).0, Exit::CouldNotRun, "no connection became ready");
}

#[test]
fn an_echo_that_goim_answers_with_empty_bodies() {
    let peer = Peer::start(Faults { empty_replies: true, ..Faults::default() });
    passes(&peer, "echo -c 10 --depth 4 --compat goim");
    passes(&peer, "echo -c 10 --rate 500 --compat goim");
}

#[test]
fn every_fault_is_caught() {
    let cases: [(Faults, &str); 4] = [
        (Faults { drop: Some(49), ..Faults::default() }, "lost"),
        (Faults { duplicate: Some(49), ..Faults::default() }, "duplicated"),
        (Faults { reorder: Some(49), ..Faults::default() }, "reordered"),
        (Faults { misdeliver: Some(49), ..Faults::default() }, "misdelivered"),
    ];
    for (faults, name) in cases {
        let peer = Peer::start(faults);
        let line = "push -c 5 --rate 1000 --warmup 50ms --duration 300ms --settle 6s";
        let (exit, report) = run(&peer, line);
        assert_eq!(exit, Exit::Missed, "{name}: {report}");
        assert!(count(&report, name) > 0.0, "{name}: {report}");
        let others = ["lost", "duplicated", "reordered", "misdelivered", "damaged"];
        for other in others.iter().filter(|other| **other != name) {
            assert_eq!(count(&report, other), 0.0, "{name} was taken for {other}: {report}");
        }
    }
}

#[test]
fn garbage_closes_the_connection_and_is_counted() {
    let peer = Peer::start(Faults { garbage: Some(60), ..Faults::default() });
    let (exit, report) = run(&peer, "push -c 5 --rate 1000 --warmup 0ms --duration 200ms --settle 2s");
    assert_eq!(exit, Exit::Missed);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["violations"]["length_too_large"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_server_that_closes_idle_http_connections_loses_no_request() {
    let peer = Peer::start(Faults { http_idle_max: Some(Duration::from_secs(5)), ..Faults::default() });
    // The connections are there before a ramp of six seconds, and carry their first request after
    // it.
    let (exit, report) =
        run(&peer, "push -c 60 --connect-rate 10 --rate 200 --warmup 0ms --duration 200ms --settle 10s");
    assert!(is_sound(exit), "{exit:?} {report}");
    assert_eq!(count(&report, "refused"), 0.0, "{report}");
    assert!(count(&report, "delivered") > 0.0, "{report}");
}

#[test]
fn a_server_that_goes_away_ends_the_run_and_is_named() {
    for line in ["echo -c 5 --depth 1", "idle -c 5 --heartbeat 100ms", "push -c 5 --rate 100"] {
        let peer = Peer::start(Faults { vanish: Some(Duration::from_millis(600)), ..Faults::default() });
        let begun = Instant::now();
        let (exit, report) = run(&peer, &format!("{line} --warmup 0ms --duration 600s --settle 600s"));
        assert_eq!(exit, Exit::Missed, "{line}: {report}");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let reason = report["verdict"]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("server gone: nothing listens at 127.0.0.1:"), "{line}: {reason}");
        assert!(begun.elapsed() < Duration::from_secs(120), "{line}: {:?}", begun.elapsed());
    }
}

#[test]
fn what_cannot_end_well_is_refused_before_the_run() {
    let peer = Peer::start(Faults::default());
    assert_eq!(run(&peer, "echo -c 5 --depth 1 --duration 0s").0, Exit::CouldNotRun);
    for flag in ["--json", "--html"] {
        let begun = Instant::now();
        let line =
            format!("loadtest echo -c 5 -q --server {} --duration 600s {flag} /nonexistent/report", peer.tcp);
        assert_eq!(loadtest::run(line.split(' ').map(OsString::from)), Exit::CouldNotRun, "{flag}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{flag}: {:?}", begun.elapsed());
    }
    passes(&peer, "echo -c 5 --depth 1 --transport websocket");
}

#[test]
fn exit_codes() {
    let peer = Peer::start(Faults::default());
    let line = "echo -c 5 --depth 1 --warmup 0ms --duration 1s";
    assert_eq!(run(&peer, &format!("{line} --goal p50=1ns")).0, Exit::Missed, "an impossible goal");
    let sampled_never = "echo -c 5 --rate 0.1 --warmup 100ms --duration 100ms --goal p99=1us";
    assert_eq!(run(&peer, sampled_never).0, Exit::NoSamples, "nothing to judge by");
    assert_eq!(run(&peer, &format!("{line} --goal speed=1")).0, Exit::CouldNotRun, "no such goal");
    assert_eq!(run(&peer, &format!("{line} --rate 5 --depth 5")).0, Exit::CouldNotRun);
    assert_eq!(run(&peer, "connect -c 5 --depth 5").0, Exit::CouldNotRun, "a flag of another scenario");
    assert_eq!(run(&peer, "echo -c 5 --size 3").0, Exit::CouldNotRun);
    assert_eq!(run(&peer, "echo -c 1m --backend epoll").0, Exit::CouldNotRun, "too few descriptors");
    assert_eq!(loadtest::run(["loadtest", "nonsense"].map(OsString::from)), Exit::CouldNotRun);
    assert_eq!(loadtest::run(["loadtest", "--help"].map(OsString::from)), Exit::Met);
    let line = "loadtest echo -c 5 -q --server 127.0.0.1:1";
    assert_eq!(loadtest::run(line.split(' ').map(OsString::from)), Exit::CouldNotRun);
    drop(peer);
    let mute = Peer::start(Faults { mute: true, ..Faults::default() });
    let (exit, _) = run(&mute, "connect -c 3 --connect-timeout 100ms --connect-retries 0");
    assert_eq!(exit, Exit::CouldNotRun, "no connection became ready");
}

#[test]
fn a_mix_of_nothing_in_particular_has_every_kind_of_traffic() {
    let peer = Peer::start(Faults::default());
    let kinds = |report: &str| {
        let report: serde_json::Value = serde_json::from_str(report).unwrap();
        let flows = report["flows"].as_array().unwrap();
        let mut names: Vec<String> = flows.iter().map(|flow| flow["name"].as_str().unwrap().into()).collect();
        names.extend(
            ["churn", "slow_readers"].into_iter().filter(|part| !report[part].is_null()).map(str::to_owned),
        );
        names
    };
    let (_, whole) = run(&peer, &format!("mix -c 60 {SHORT}"));
    assert_eq!(kinds(&whole), ["echo", "push", "room", "broadcast", "churn", "slow_readers"], "{whole}");
    let (_, named) = run(&peer, &format!("mix -c 60 --echo-rate 500 {SHORT}"));
    assert_eq!(kinds(&named), ["echo"], "{named}");
}
