//! Rates that change, and arrivals that are not even.

use crate::peer::{Faults, Peer};
use crate::{is_sound, run};
use loadtest::Exit;
use serde_json::Value;

const SHORT: &str = "--warmup 50ms --settle 10s";

/// Operations that each step of the first flow was to have.
fn offered(report: &Value) -> Vec<f64> {
    let steps = report["flows"][0]["steps"].as_array().unwrap_or_else(|| panic!("{report}"));
    let count = |step: &Value| {
        let seconds = step["to"].as_f64().unwrap() - step["from"].as_f64().unwrap();
        (step["offered"].as_f64().unwrap() * seconds).round()
    };
    steps.iter().map(count).collect()
}

fn latencies(report: &Value) -> Vec<u64> {
    let steps = report["flows"][0]["steps"].as_array().unwrap();
    steps.iter().map(|step| step["latency"]["count"].as_u64().unwrap()).collect()
}

#[test]
fn every_step_has_its_own_figures_and_all_of_its_operations() {
    let peer = Peer::start(Faults::default());
    for scenario in ["echo -c 10", "push -c 10", "echo -c 10 --workers 3"] {
        let (exit, report) = run(&peer, &format!("{scenario} --rate 200:100ms,1000:200ms,400:100ms {SHORT}"));
        assert!(is_sound(exit), "{scenario}: {exit:?} {report}");
        assert_eq!(offered(&report), [20.0, 200.0, 40.0], "{scenario}");
        // Each operation counts, in the step that it was intended in, whenever it was sent.
        assert_eq!(latencies(&report), [20, 200, 40], "{scenario}");
        assert_eq!(report["flows"][0]["latency"]["count"], 260, "{scenario}");
        assert_eq!(report["flows"][0]["pace"], "open, 200:100ms,1000:200ms,400:100ms a second");
    }
}

#[test]
fn a_ramp_takes_as_long_as_it_says() {
    let peer = Peer::start(Faults::default());
    let (exit, report) = run(&peer, &format!("room -c 6 --rate 100..2100/400ms {SHORT}"));
    assert!(is_sound(exit), "{exit:?} {report}");
    let found = offered(&report);
    assert_eq!((found.len(), report["measured_seconds"].as_f64().unwrap()), (10, 0.4));
    // The area under the ramp is 440 operations; a tenth has 40 ms.
    assert!((found.iter().sum::<f64>() - 440.0).abs() <= 2.0, "{found:?}");
    assert!((found[0] - 8.0).abs() <= 1.0 && (found[9] - 80.0).abs() <= 1.0, "{found:?}");
}

#[test]
fn a_seed_repeats_its_arrivals_and_another_one_does_not() {
    let peer = Peer::start(Faults::default());
    let count = |arrivals: &str| {
        let line = format!("echo -c 10 --rate 2000 --arrivals {arrivals} --duration 300ms {SHORT}");
        let (exit, report) = run(&peer, &line);
        assert!(is_sound(exit), "{arrivals}: {exit:?} {report}");
        report["flows"][0]["latency"]["count"].as_u64().unwrap()
    };
    let (even, one, again, other) =
        (count("uniform"), count("poisson:1"), count("poisson"), count("poisson:2"));
    assert_eq!((even, one), (600, again));
    assert!(one != other && one.abs_diff(600) < 150, "{one} and {other}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let peer = Peer::start(Faults::default());
    for line in [
        "echo -c 5 --rate fast",
        "echo -c 5 --rate 100,200",
        "echo -c 5 --rate 100..200/5s --duration 1s",
        "echo -c 5 --depth 4 --arrivals poisson",
        "echo -c 5 --rate 100 --arrivals pareto",
        "echo -c 5 --rate 100m --duration 1h --arrivals poisson",
        "churn -c 5 --rate 10..20/1s",
        "connect -c 5 --arrivals poisson",
    ] {
        assert_eq!(run(&peer, line).0, Exit::CouldNotRun, "{line}");
    }
}

#[test]
fn a_fault_is_counted_whatever_the_arrivals() {
    let peer = Peer::start(Faults { drop: Some(49), ..Faults::default() });
    let line = "push -c 5 --rate 400:200ms,1200:200ms --arrivals poisson --warmup 0ms --settle 4s";
    let (exit, report) = run(&peer, line);
    assert_eq!(exit, Exit::Missed, "{report}");
    let flow = &report["flows"][0];
    assert!(flow["conservation"]["lost"].as_u64() > Some(0), "{report}");
    // What never came is among the latencies of its step.
    assert_eq!(latencies(&report).iter().sum::<u64>(), flow["conservation"]["owed"].as_u64().unwrap());
}

#[test]
fn what_never_comes_is_as_late_as_it_is_whatever_the_arrivals() {
    let peer = Peer::start(Faults { drop: Some(1), ..Faults::default() });
    for arrivals in ["uniform", "poisson"] {
        let line =
            format!("push -c 100 --rate 800 --duration 400ms --arrivals {arrivals} --warmup 0ms --settle 1s");
        let (exit, report) = run(&peer, &line);
        assert_eq!(exit, Exit::Missed, "{report}");
        let flow = &report["flows"][0];
        assert_eq!(flow["conservation"]["delivered"], 0, "{report}");
        assert_eq!(flow["latency"]["count"], flow["conservation"]["owed"], "{arrivals}: {report}");
    }
}
