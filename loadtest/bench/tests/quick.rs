//! The quick run: every server echoes and fans out rightly, or the generator says what was wrong.

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

/// A quick run with these words besides; what it told on the way.
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
fn a_server_that_does_not_start_is_named() {
    // It announces no port.
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--quick", "--server", "/bin/true"])
        .output()
        .unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("did not start"));
}
