//! The program, as people call it.

use std::process::{Command, Output};

fn hostile(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hostile")).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_abuse_is_listed_with_what_is_right() {
    let output = hostile(&["list"]);
    assert!(output.status.success());
    let text = text(&output.stdout);
    let names = hostile::names();
    assert!(names.len() >= 60);
    for name in &names {
        assert!(text.contains(&format!("\n  {name} (")), "{name}");
    }
    assert_eq!(text.matches("      Right: ").count(), names.len());
}

#[test]
fn the_page_about_the_suite_names_every_kind() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let page = std::fs::read_to_string(format!("{root}/docs/hostile.md")).unwrap();
    let listed = text(&hostile(&["list"]).stdout);
    let kinds =
        listed.lines().filter(|line| !line.is_empty() && !line.starts_with(' ') && !line.ends_with("abuses"));
    for kind in kinds {
        assert!(page.contains(&format!("`{kind}`")), "{kind} is not in docs/hostile.md");
    }
}

#[test]
fn what_cannot_run_says_what_to_do_and_exits_with_2() {
    let unknown = hostile(&["run", "no_such_abuse"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("hostile list"), "{unknown:?}");
    let missing = hostile(&["run", "lying_lengths", "--gateway", "/no/such/gateway"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("cargo build"), "{missing:?}");
    assert_eq!(hostile(&["run"]).status.code(), Some(2));
}
