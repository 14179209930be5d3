//! Profiles of the server, with a perf of this test's own in front of the real one.

use crate::peer::{Faults, Peer};
use crate::{Scratch, words};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a program called perf, removed when dropped.
struct Perf(PathBuf);

impl Perf {
    fn new(name: &str, script: &str) -> Perf {
        let folder = std::env::temp_dir().join(format!("loadtest-perf-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("perf");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Perf(folder)
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// It records until it is interrupted, as perf does, and has two stacks to tell.
const WORKS: &str = r#"case "$1" in
--version) echo perf version 6 ;;
record) trap 'exit 0' INT; while :; do sleep 0.02; done ;;
script) printf 'worker \n\t1 send\n\t2 main\n\nworker \n\t3 parse\n\t2 main\n\n' ;;
esac"#;

fn run(peer: &Peer, folder: &Path, file: &str) -> Output {
    let line = format!("echo -c 5 --depth 1 --warmup 0ms --duration 200ms --profile {file}");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(words(peer, &line).into_iter().skip(1))
        .args(["--server-pid", &std::process::id().to_string()])
        .env("PATH", path)
        .output()
        .unwrap()
}

#[test]
fn stacks_are_stored_folded_and_compared() {
    let (peer, perf) = (Peer::start(Faults::default()), Perf::new("works", WORKS));
    let folded = Scratch::new("folded");
    let output = run(&peer, &perf.0, folded.path());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    assert_eq!(folded.text(), "worker;main;parse 1\nworker;main;send 1\n", "{text}");
    let after = Scratch::new("folded");
    std::fs::write(after.path(), "worker;main;send 3\nworker;main;parse 1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["profile-diff", folded.path(), after.path()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.lines().any(|line| line.contains("send") && line.contains("+25.00")), "{text}");
}

#[test]
fn a_perf_that_is_missing_or_refuses_is_said() {
    let peer = Peer::start(Faults::default());
    let refuses = r#"[ "$1" = --version ] || { echo 'no permission' >&2; exit 255; }"#;
    let folded = Scratch::new("folded");
    let refused = Perf::new("refuses", refuses);
    let output = run(&peer, &refused.0, folded.path());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no permission") && text.contains("perf_event_paranoid"), "{text}");
    let missing = Perf::new("missing", "exit 127");
    let output = run(&peer, &missing.0, folded.path());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--profile needs perf"), "{text}");
}
