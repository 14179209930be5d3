//! The quick run: every server echoes and fans out rightly, or the generator says what was wrong.

use std::process::Command;

#[test]
fn every_server_answers_rightly() {
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--quick", "--server", env!("CARGO_BIN_EXE_bench-server"), "--seconds", "0.05"])
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("every server answered rightly"), "{said}{errors}");
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
