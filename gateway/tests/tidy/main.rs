//! Style as a test: what reviewers would otherwise have to repeat.

use std::fs;
use std::path::{Path, PathBuf};

/// Where `unsafe` may be: system calls, the arena, the allocator guard, calls into DPDK, the tests that forbid or count
/// such calls, threads with a table of descriptors of their own, and the bare floors of the benchmark.
const UNSAFE_ALLOWED: [&str; 13] = [
    "netpoll/src/epoll/mod.rs",
    "netpoll/tests/epoll_descriptors.rs",
    "gateway/src/workers/threads.rs",
    "loadtest/src/backend/mod.rs",
    "netpoll/src/sys/",
    "netpoll/src/buffer/arena",
    "gateway/src/alloc_guard.rs",
    "netpoll/tests/uring_setup.rs",
    "netpoll/tests/uring_allocations.rs",
    "dpdk-backend/src/ffi/",
    "dpdk-backend/tests/zero_allocations.rs",
    "loadtest/bench/src/floor/",
    "loadtest/tests/zero_allocations.rs",
];

const LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn rust_files() -> Vec<(String, String)> {
    let mut files = vec![];
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                files.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 50);
    files
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn files_fit_their_limit() {
    let long = rust_files().into_iter().filter_map(|(name, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{name}: {lines} lines, {LINES_MAX} at most: split it by noun"))
    });
    complain(&long.collect::<Vec<_>>());
}

#[test]
fn functions_fit_a_screen() {
    let mut problems = vec![];
    for (name, text) in rust_files() {
        let lines: Vec<_> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let is_function = words.starts_with("fn ") || words.contains(" fn ") && words.starts_with("pub");
            if !is_function || words.ends_with(';') {
                continue;
            }
            // A declaration over several lines, such as a trait's, has no body.
            let at_indent = |line: &&&str| line.len() - line.trim_start().len() == indent;
            if lines[start + 1..].iter().find(at_indent).is_some_and(|line| line.ends_with(';')) {
                continue;
            }
            let end_mark = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == end_mark).unwrap_or(0) + 1;
            if length > FUNCTION_LINES_MAX {
                problems.push(format!("{name}:{}: {length} lines, {FUNCTION_LINES_MAX} at most", start + 1));
            }
        }
    }
    complain(&problems);
}

#[test]
fn unsafe_stays_in_its_places_and_says_why() {
    let mut problems = vec![];
    for (name, text) in rust_files().iter().filter(|(name, _)| name != "gateway/tests/tidy.rs") {
        let lines: Vec<_> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let allowed = UNSAFE_ALLOWED.iter().any(|place| name.starts_with(place));
            let reasoned = lines[index.saturating_sub(6)..=index].iter().any(|line| line.contains("SAFETY:"));
            if !allowed || !reasoned {
                problems.push(format!(
                    "{name}:{}: unsafe outside its places or without a SAFETY sentence",
                    index + 1
                ));
            }
        }
    }
    complain(&problems);
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimpl", "emented!(")];
    let problems = rust_files().into_iter().flat_map(|(name, text)| {
        let found = text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
        found.map(|(index, line)| format!("{name}:{}: {}", index + 1, line.trim())).collect::<Vec<_>>()
    });
    complain(&problems.collect::<Vec<_>>());
}

#[test]
fn the_protocol_crate_stays_pure() {
    let banned = ["extern crate alloc", "use std::", "Instant::now", "SystemTime"];
    let pure = |name: &str| {
        name.starts_with("gateway/proto/src/")
            && !name.contains("tests")
            && !name.contains("/fuzz")
            && !name.ends_with("vectors.rs")
    };
    let problems = rust_files().into_iter().filter(|(name, _)| pure(name)).flat_map(|(name, text)| {
        let found = banned.iter().filter(|word| text.contains(**word)).map(|word| format!("{name}: {word}"));
        found.collect::<Vec<_>>()
    });
    complain(&problems.collect::<Vec<_>>());
}

#[test]
fn modules_open_with_their_model() {
    let problems = rust_files().into_iter().filter(|(name, text)| {
        name.contains("/src/")
            && !name.ends_with("tests.rs")
            && !name.contains("/tests/")
            && !text.starts_with("//!")
    });
    complain(&problems.map(|(name, _)| format!("{name}: begins without a module text")).collect::<Vec<_>>());
}
