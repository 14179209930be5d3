//! Reports are as `schema/report.json` says: of every scenario, against the test peer.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

#[allow(dead_code, reason = "shared with tests that order faults")]
mod peer;

use boon::{Compiler, SchemaIndex, Schemas};
use peer::{Faults, Peer};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn load() -> Schema {
        let schema: Value = serde_json::from_str(loadtest::report::SCHEMA).unwrap();
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("https://gateway.invalid/loadtest/report-1.json", schema).unwrap();
        let index = compiler.compile("https://gateway.invalid/loadtest/report-1.json", &mut schemas).unwrap();
        Schema { schemas, index }
    }

    fn problem(&self, report: &Value) -> Option<String> {
        self.schemas.validate(report, self.index).err().map(|error| format!("{error:#}"))
    }
}

/// Runs a command line against `peer`; returns the report.
fn report(peer: &Peer, line: &str) -> Value {
    // Each run's own: the tests of this file run at the same time.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("loadtest-schema-{}-{run}.json", std::process::id()));
    let short = "--warmup 20ms --duration 150ms --settle 10s";
    let words = format!(
        "loadtest {line} {short} -q --server {} --http {} --json {}",
        peer.tcp,
        peer.http,
        path.display()
    );
    loadtest::run(words.split(' ').map(OsString::from));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{line}: {error}"));
    std::fs::remove_file(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn reports_of_every_scenario_are_as_the_schema_says() {
    let (peer, schema) = (Peer::start(Faults::default()), Schema::load());
    let million = "million --quick -c 200 -w 2 --room-size 20 --push-rate 500 --heartbeat 200ms --churn-rate 100 \
                   --idle-for 200ms --churn-for 200ms --recover-for 50ms";
    for line in [
        "connect -c 20",
        "idle -c 20 --heartbeat 100ms",
        "echo -c 10 --depth 4 --goal p99=1s loss=0",
        "echo -c 10 --rate 500",
        "echo -c 10 --rate 200:50ms,200..600/50ms,300 --arrivals poisson",
        "push -c 10 --rate 200",
        "room -c 10 --rate 50",
        "broadcast -c 10 --rate 20",
        "churn -c 20 --rate 50",
        "slow-reader -c 10 --slow-connections 2 --rate 50",
        "mix -c 30",
        million,
    ] {
        let report = report(&peer, line);
        assert_eq!(schema.problem(&report), None, "{line}");
        assert_eq!(report["schema_version"], loadtest::report::SCHEMA_VERSION);
    }
}

#[test]
fn a_report_of_a_server_with_faults_is_as_the_schema_says() {
    let peer = Peer::start(Faults { drop: Some(20), duplicate: Some(31), ..Faults::default() });
    let report = report(&peer, "push -c 5 --rate 500");
    assert_eq!(Schema::load().problem(&report), None);
    assert_eq!(report["verdict"]["judgment"], "failed");
}

#[test]
fn the_schema_refuses_what_it_does_not_describe() {
    let peer = Peer::start(Faults::default());
    let (whole, schema) = (report(&peer, "echo -c 5 --depth 1"), Schema::load());
    let changed = |change: fn(&mut Value)| {
        let mut report = whole.clone();
        change(&mut report);
        schema.problem(&report).is_some()
    };
    assert!(changed(|report| report["surprise"] = json!(1)), "an unknown field");
    assert!(changed(|report| report["flows"][0]["latency"]["p99"] = json!("5 ms")), "text for a number");
    assert!(changed(|report| report["schema_version"] = json!("2.0")), "another major");
    assert!(
        changed(|report| drop(report["verdict"].as_object_mut().unwrap().remove("judgment"))),
        "a field less"
    );
    assert!(!changed(|report| report["schema_version"] = json!("1.7")), "a later minor");
}
