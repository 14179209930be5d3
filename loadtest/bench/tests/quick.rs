//! The quick run: every server echoes and fans out correctly, or the generator reports what was
//! wrong.

use std::process::Command;

#[test]
fn every_server_answers_rightly() {
    quick(&[]);
}

/// Both rows of it, in a build that has them.
#[cfg(feature = "dpdk")]
#[test]
fn dpdk_answers_rightly() {
    let figures = quick(&["--row", "dpdk"]);
    for row in ["gateway, dpdk", "floor, dpdk"] {
        assert_eq!(figures.matches(row).count(), 4, "{figures}"); // in each case
    }
}

/// A quick run with these further arguments; returns what it printed.
fn quick(words: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--quick", "--server", env!("CARGO_BIN_EXE_bench-server"), "--seconds", "0.05"])
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

#[test]
fn a_server_that_does_not_start_is_named() {
    // It announces no port.
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--quick", "--server", "/bin/true"])
        .output()
        .unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("did not start"));
}
