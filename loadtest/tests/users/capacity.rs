//! The search for the highest rate.

use crate::peer::{Faults, Peer};
use crate::{Scratch, run, words};
use loadtest::Exit;

const SHORT: &str = "--warmup 20ms --duration 100ms --settle 10s --confirmations 1";

#[test]
fn a_rate_that_always_holds_is_bounded_by_the_highest_allowed() {
    let peer = Peer::start(Faults::default());
    let line = format!("capacity echo -c 5 --goal p99=100s --first-rate 100 --rate-max 400 {SHORT}");
    let (exit, report) = run(&peer, &line);
    assert_eq!((&report["schema"], &report["scenario"]), (&"loadtest-capacity".into(), &"echo".into()));
    // On a machine that does something else meanwhile, runs are invalid, and that is what is said.
    let found = &report["found"];
    match (found["bounded_by"].as_str().unwrap(), found["confirmations"]["held"].as_u64().unwrap()) {
        ("rate-max", 1) => assert_eq!((exit, found["rate"].as_f64()), (Exit::Met, Some(400.0)), "{report}"),
        ("rate-max" | "generator", _) => assert_eq!(exit, Exit::Invalid, "{report}"),
        other => panic!("{other:?}: {report}"),
    }
    for probe in report["probes"].as_array().unwrap() {
        assert!(["held", "invalid"].contains(&probe["outcome"].as_str().unwrap()), "{probe}");
    }
}

#[test]
fn a_goal_that_no_rate_meets_is_missed_and_named() {
    let peer = Peer::start(Faults::default());
    let line =
        format!("capacity push -c 5 --goal cpu=1ns --goal p50=1ns --first-rate 64 --within 20s {SHORT}");
    let (exit, report) = run(&peer, &line);
    assert!(report["found"]["rate"].is_null(), "{report}");
    assert!(matches!(exit, Exit::Missed | Exit::Invalid), "{exit:?} {report}");
    assert!(report["found"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{report}");
}

#[test]
fn a_server_that_loses_messages_is_what_bounds_it() {
    let peer = Peer::start(Faults { drop: Some(7), ..Faults::default() });
    let line = "capacity push -c 5 --goal p99=100s --first-rate 100 --warmup 0ms --duration 200ms --settle 5s \
                --within 3s";
    let report = Scratch::new("json");
    let exit = loadtest::run(words(&peer, &format!("{line} --json {}", report.path())));
    let report = report.json();
    assert_ne!(exit, Exit::Met, "{report}");
    let probe = &report["probes"][0];
    assert_eq!(probe["outcome"], "missed", "{report}");
    assert!(probe["reasons"][0].as_str().unwrap().contains("lost"), "{report}");
    assert!(report["found"]["rate"].is_null(), "{report}");
}

#[test]
fn what_a_search_cannot_do_is_refused() {
    let peer = Peer::start(Faults::default());
    for line in [
        "capacity echo -c 5",
        "capacity echo -c 5 --goal p99=5ms --rate 100",
        "capacity echo -c 5 --goal p99=5ms --depth 4",
        "capacity echo -c 5 --goal speed=1",
        "capacity echo -c 5 --goal p99=5ms --precision 0",
        "capacity echo -c 5 --goal p99=5ms --confirmations 0",
        "capacity echo -c 5 --goal p99=5ms --first-rate 0",
        "capacity connect -c 5 --goal p99=5ms",
    ] {
        assert_eq!(run(&peer, line).0, Exit::CouldNotRun, "{line}");
    }
}
