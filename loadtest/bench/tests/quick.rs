//! The quick run: every server echoes and fans out correctly, or the generator reports what was
//! wrong.

use std::process::Command;

#[test]
fn every_server_answers_rightly() {
    let figures = quick(&[]);
    for row in ["codec", "gateway, epoll, WebSocket", "fastwebsockets, gathered", "a thread each, blocking"] {
        assert!(figures.contains(row), "{row} is missing: {figures}");
    }
    assert!(figures.contains("dispatch delay at half load · 1 · gateway, epoll"), "{figures}");
}

/// Both rows of it, in a build that has them.
#[cfg(feature = "dpdk")]
#[test]
fn dpdk_answers_rightly() {
    let figures = quick(&["--row", "dpdk"]);
    // In each case; the floor is not beside threads.
    for (row, count) in [("gateway, dpdk", 5), ("floor, dpdk", 4)] {
        assert_eq!(figures.matches(row).count(), count, "{figures}");
    }
}

/// A quick run with these further arguments; returns what it printed.
fn quick(words: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--quick", "--server", env!("CARGO_BIN_EXE_bench-server"), "--seconds", "0.2"])
        .args(words)
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("every server answered rightly"), "{said}{errors}");
    errors.into_owned()
}

#[test]
fn a_broadcast_over_several_rings_reaches_everyone() {
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["broadcast", "--server", env!("CARGO_BIN_EXE_bench-server")])
        .args(["--connections", "200", "--rings", "3", "--rounds", "2"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((figures["receivers"].as_u64(), figures["rings"].as_u64()), (Some(200), Some(3)));
    let costs = figures["server_ns"].as_array().unwrap();
    assert!(costs.len() == 2 && costs.iter().all(|cost| cost.as_f64().unwrap() > 100.0), "{figures}");
}

/// What `bench` prints and its exit code.
fn bench(words: &[&str]) -> (String, Option<i32>) {
    let out = Command::new(env!("CARGO_BIN_EXE_bench")).args(words).output().unwrap();
    let text = [String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)].concat();
    (text, out.status.code())
}

#[test]
fn a_server_that_does_not_start_is_named_and_could_not_run() {
    // It announces no port.
    let (text, code) = bench(&["--quick", "--server", "/bin/true"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("did not start"), "{text}");
}

#[test]
fn wrong_use_has_a_code_of_its_own_and_says_what_to_write() {
    for (words, what) in [
        (&["--cycle", "3"][..], "--help"),
        (&["--cycles", "0"], "no samples"),
        (&["--seconds", "0"], "no samples"),
        (&["--case", "nothing"], "'nothing'"),
        (&["--row", "nothing"], "'nothing'"),
        (&["--cpus", "1"], "0,1"),
        (&["tables"], "--write"),
        (&["compare", "one"], "two report.json"),
        (&["broadcast", "--rings"], "needs a value"),
    ] {
        let (text, code) = bench(words);
        assert_eq!(code, Some(2), "{words:?}: {text}");
        assert!(text.contains(what), "{words:?}: {text}");
    }
}

#[test]
fn only_what_a_codec_allocates_is_counted() {
    let folder = format!("{}/codec", env!("CARGO_TARGET_TMPDIR"));
    let words = ["--case", "codec", "--cycles", "1", "--nice", "0", "--out", &folder, "--cpus", "0,0"];
    let (text, _) = bench(&words);
    let stored = std::fs::read_to_string(format!("{folder}/report.json")).expect(&text);
    let report: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let rows = report["codec"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 14, "seven kinds in two directions");
    for row in rows {
        assert_eq!(row["allocations"][0].as_f64(), Some(0.0), "the protocol allocates: {row}");
    }
    let of =
        |message: &str| rows.iter().find(|row| row["message"] == message && row["direction"] == "decode");
    // Two names are strings of their own; the payload is a slice of what was received.
    assert_eq!(of("published message, 64 B").unwrap()["allocations"][1].as_f64(), Some(2.0));
}
