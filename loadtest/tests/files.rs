//! Scenario files of one's own, and what is made of stored reports.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

#[allow(dead_code, reason = "shared with tests that order faults")]
mod peer;

use loadtest::Exit;
use peer::{Faults, Peer};
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("loadtest-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Runs a command line, split at spaces.
fn run(line: &str) -> Exit {
    loadtest::run(line.split(' ').map(OsString::from))
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

const STAGES: &str = "\
scenario = \"evening\"
connections = 20
warmup = \"20ms\"
duration = \"200ms\"
settle = \"10s\"
push_rate = 200
room_size = 10

[[stage]]
name = \"quiet\"
flow = [{ kind = \"push\", rate = \"push_rate / 2\" }]
goal = [\"loss=0\"]

[[stage]]
name = \"busy\"
duration = \"1s\"
flow = [{ kind = \"push\", rate = \"push_rate\", users = 2 }, { kind = \"room\", rate = 50 }]
goal = [\"p50=1ns\"]

[[stage]]
name = \"restart\"
kind = \"churn\"
rate = 50
";

#[test]
fn a_file_with_stages_of_its_own_is_run_and_each_stage_judged_by_its_goals() {
    let (peer, folder) = (Peer::start(Faults::default()), Folder::new("stages"));
    let (file, json) = (folder.file("evening.toml"), folder.file("report.json"));
    std::fs::write(&file, STAGES).unwrap();
    let server = format!("--server {} --http {}", peer.tcp, peer.http);
    let exit = run(&format!("loadtest run {file} -q {server} -c 30 --json {json}"));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(exit, Exit::Missed, "a push in a nanosecond: {report}");
    assert_eq!(
        (&report["scenario"], &report["connect"]["asked"]),
        (&"evening".into(), &30.into()),
        "flags win"
    );
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&report["stages"]), ["quiet", "busy", "restart"]);
    assert_eq!(names(&report["flows"]), ["quiet", "busy push", "busy room"]);
    let goals: Vec<(&str, bool)> = report["goals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|goal| (goal["goal"].as_str().unwrap(), goal["met"].as_bool().unwrap()))
        .collect();
    assert_eq!(goals, [("quiet: loss=0", true), ("busy: p50=1ns", false)]);
    assert_eq!(report["verdict"]["reasons"], serde_json::json!(["goal busy: p50=1ns missed"]));
    for flow in report["flows"].as_array().unwrap() {
        assert!(flow["conservation"]["delivered"].as_u64() > Some(0), "{flow}");
        assert_eq!(flow["conservation"]["delivered"], flow["conservation"]["owed"], "{flow}");
    }
}

#[test]
fn a_built_in_scenario_can_be_printed_changed_and_run() {
    let (peer, folder) = (Peer::start(Faults::default()), Folder::new("printed"));
    let printed = program(&["scenario", "mix"]);
    let text = String::from_utf8(printed.stdout).unwrap().replace("\"mix\"", "\"my-mix\"");
    let file = folder.file("mix.toml");
    std::fs::write(&file, text).unwrap();
    let json = folder.file("report.json");
    let line = format!(
        "loadtest run {file} -q --server {} --http {} -c 20 --push-rate 50 --warmup 20ms --duration 150ms --json {json}",
        peer.tcp, peer.http
    );
    assert!(matches!(run(&line), Exit::Met | Exit::Invalid));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report["flows"].as_array().unwrap().len(), 1, "only the part with a rate");
    assert!(!program(&["scenario", "nonsense"]).status.success());
}

#[test]
fn a_stored_report_becomes_a_page_and_one_of_another_major_does_not() {
    let (peer, folder) = (Peer::start(Faults::default()), Folder::new("page"));
    let json = folder.file("echo.json");
    run(&format!(
        "loadtest echo -q -c 5 --depth 2 --warmup 0ms --duration 150ms --server {} --json {json}",
        peer.tcp
    ));
    let page = program(&["page", &json]);
    assert!(page.status.success());
    let html = String::from_utf8(page.stdout).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.contains("uPlot"), "{}", &html[..80]);
    let text = std::fs::read_to_string(&json).unwrap();
    let other = text.replace("\"schema_version\": \"1.", "\"schema_version\": \"9.");
    assert_ne!(text, other);
    std::fs::write(&json, other).unwrap();
    for arguments in [&["page", &json][..], &["compare", &json, &json]] {
        let refused = program(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("schema 9."), "{refused:?}");
    }
}
