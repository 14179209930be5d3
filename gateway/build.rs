//! What `gateway --version` says of the build: commit and its date, target, compiler.
//!
//! Without a repository, as in a tarball or an image's build, `GATEWAY_COMMIT` and
//! `GATEWAY_COMMIT_DATE` say it, else nobody knows. Debug builds do not ask: each commit would
//! build the crate anew.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["GATEWAY_COMMIT", "GATEWAY_COMMIT_DATE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let released = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let (commit, date) = match (given("GATEWAY_COMMIT"), released) {
        (Some(commit), _) => (commit, given("GATEWAY_COMMIT_DATE").unwrap_or_else(|| "unknown date".into())),
        (None, true) => of_repository(),
        (None, false) => ("debug build".into(), "unknown date".into()),
    };
    println!("cargo::rustc-env=GATEWAY_COMMIT={commit}");
    println!("cargo::rustc-env=GATEWAY_COMMIT_DATE={date}");
    println!("cargo::rustc-env=GATEWAY_TARGET={}", given("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=GATEWAY_RUSTC={}", compiler().unwrap_or_else(|| "unknown rustc".into()));
}

fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Commit and day of the repository that the sources are in, with a mark when they were changed
/// since.
fn of_repository() -> (String, String) {
    // A checkout moves HEAD, a commit the branch that it names; an edit makes the mark true or
    // false.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for sources in [
        "src",
        "assets",
        "auth/src",
        "config/src",
        "control/src",
        "core/src",
        "proto/src",
        "../netpoll/src",
        "../dpdk-backend/src",
        "../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={sources}");
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return ("unknown commit".into(), "unknown date".into());
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
    let mark = if changed { "+changes" } else { "" };
    let date = git(&["log", "-1", "--format=%cs"]).unwrap_or_else(|| "unknown date".into());
    (format!("{commit}{mark}"), date)
}

/// What git says, without its line end; `None`: nothing, or there is no git.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!said.is_empty()).then_some(said)
}

fn compiler() -> Option<String> {
    let output = Command::new(given("RUSTC")?).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.split(" (").next()?.trim().to_owned())
}
