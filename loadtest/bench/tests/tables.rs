//! The documents' tables against the stored reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `bench tables WHAT` on the repository at `root`: its exit code, and what it printed.
fn tables(what: &str, root: &Path) -> (Option<i32>, String) {
    let bench = env!("CARGO_BIN_EXE_bench");
    let out = Command::new(bench).args(["tables", what, "--root"]).arg(root).output().unwrap();
    let text = [String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)].concat();
    (out.status.code(), text)
}

#[test]
fn documents_say_what_the_stored_reports_say() {
    let (code, text) = tables("--check", &root());
    assert_eq!(code, Some(0), "{text}");
}

/// A copy of what the tables are made of.
fn copied(name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&copy);
    let reports = root().join("docs/reports");
    for entry in fs::read_dir(&reports).unwrap().map(Result::unwrap) {
        let to = copy.join("docs/reports").join(entry.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in ["report.json", "summary.md"] {
            let _ = fs::copy(entry.path().join(file), to.join(file)); // not every folder has both
        }
    }
    for file in ["README.md", "docs/benchmarks.md"] {
        fs::copy(root().join(file), copy.join(file)).unwrap();
    }
    copy
}

#[test]
fn a_figure_that_was_changed_by_hand_is_found_and_written_anew() {
    let copy = copied("tables-changed");
    let page = copy.join("docs/benchmarks.md");
    let text = fs::read_to_string(&page).unwrap();
    let begin = text.find("<!-- bench tables: floors").unwrap();
    let end = begin + text[begin..].find("<!-- end -->").unwrap();
    let at = text[..end].rfind(|c: char| c.is_ascii_digit()).filter(|at| *at > begin).unwrap();
    let digit = if &text[at..=at] == "9" { "8" } else { "9" };
    fs::write(&page, [&text[..at], digit, &text[at + 1..]].concat()).unwrap();
    let (code, said) = tables("--check", &copy);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("benchmarks.md:") && said.contains("bench tables --write"), "{said}");
    assert_eq!(tables("--write", &copy).0, Some(0));
    assert_eq!(fs::read_to_string(&page).unwrap(), text);
    assert_eq!(tables("--check", &copy).0, Some(0));
}

#[test]
fn a_report_that_is_gone_is_no_verdict() {
    let copy = copied("tables-gone");
    fs::remove_file(copy.join("docs/reports/bench/report.json")).unwrap();
    let (code, said) = tables("--check", &copy);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("bench/report.json"), "{said}");
}
