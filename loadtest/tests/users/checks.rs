//! Comparisons that fail, and checks as CI shows them.

use crate::peer::{Faults, Peer};
use crate::{Scratch, run, words};
use loadtest::Exit;
use std::ffi::OsString;
use std::process::Command;

const LINE: &str = "push -c 5 --rate 400 --warmup 0ms --duration 200ms --settle 4s";

fn compare(files: [&Scratch; 2], more: &[&str]) -> Exit {
    let words = ["loadtest", "compare", files[0].path(), files[1].path()];
    loadtest::run(words.iter().chain(more).map(OsString::from))
}

#[test]
fn a_comparison_fails_by_its_conditions() {
    let (good, bad) = (Scratch::new("json"), Scratch::new("json"));
    let peer = Peer::start(Faults::default());
    loadtest::run(words(&peer, &format!("{LINE} --json {}", good.path())));
    drop(peer);
    let peer = Peer::start(Faults { drop: Some(9), ..Faults::default() });
    loadtest::run(words(&peer, &format!("{LINE} --json {}", bad.path())));
    let (files, junit) = ([&good, &bad], Scratch::new("xml"));
    assert_eq!(compare(files, &[]), Exit::Met, "without a condition it only shows");
    assert_eq!(compare([&good, &good], &["--fail-if", "loss>0"]), Exit::Met);
    let all = ["--fail-if", "loss>0", "--fail-if", "violations>0", "--junit", junit.path()];
    assert_eq!(compare(files, &all), Exit::Missed);
    let xml = junit.text();
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\""), "{xml}");
    // What was never measured is not judged, and no pass.
    let idle = Scratch::new("json");
    loadtest::run(words(&peer, &format!("connect -c 5 --duration 50ms --json {}", idle.path())));
    assert_eq!(compare([&idle, &idle], &["--fail-if", "loss>0"]), Exit::Invalid);
    assert_eq!(compare(files, &["--fail-if", "speed>1"]), Exit::CouldNotRun);
}

#[test]
fn a_lost_delivery_is_a_failure_of_junit_and_an_annotation() {
    let peer = Peer::start(Faults { drop: Some(9), ..Faults::default() });
    let (junit, report) = (Scratch::new("xml"), Scratch::new("json"));
    let line = format!("{LINE} --goal loss=0 --junit {} --json {}", junit.path(), report.path());
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(words(&peer, &line).into_iter().skip(1))
        .env("GITHUB_ACTIONS", "true")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("::error title=loadtest conservation%3A push%3A nothing is lost::"), "{text}");
    assert!(text.contains("::error title=loadtest goals%3A loss=0::"), "{text}");
    let xml = junit.text();
    for part in ["name=\"loss=0\"", "name=\"push: nothing is lost\"", "<failure message=", "</testsuites>"] {
        assert!(xml.contains(part), "{part}: {xml}");
    }
    let quiet = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(words(&peer, &format!("{LINE} --annotations none")).into_iter().skip(1))
        .env("GITHUB_ACTIONS", "true")
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&quiet.stdout).contains("::error"), "none were asked for");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let peer = Peer::start(Faults::default());
    for flag in ["--junit", "--profile"] {
        let line = format!("echo -c 5 --depth 1 --duration 600s {flag} /nonexistent/file");
        assert_eq!(run(&peer, &line).0, Exit::CouldNotRun, "{flag}");
    }
}
