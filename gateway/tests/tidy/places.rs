//! What each place may hold: `unsafe`, marks of unfinished work, the protocol crate's purity, the
//! text that opens a module.

use crate::complain;
use crate::source::rust_files;

/// Where `unsafe` may be: system calls, the arena, the allocator guard, calls into DPDK, the tests
/// that forbid or count such calls, threads with a table of descriptors of their own, and the bare
/// floors of the benchmark.
const UNSAFE_ALLOWED: [&str; 13] = [
    "netpoll/src/epoll/mod.rs",
    "netpoll/tests/epoll_descriptors.rs",
    "gateway/src/workers/threads.rs",
    "loadtest/src/backend/mod.rs",
    "netpoll/src/sys/",
    "netpoll/src/buffer/arena",
    "gateway/core/src/alloc_guard.rs",
    "netpoll/tests/uring_setup.rs",
    "netpoll/tests/uring_allocations.rs",
    "dpdk-backend/src/ffi/",
    "dpdk-backend/tests/zero_allocations.rs",
    "loadtest/bench/src/floor/",
    "loadtest/tests/zero_allocations.rs",
];

#[test]
fn unsafe_stays_in_its_places_and_says_why() {
    let mut problems = vec![];
    for file in rust_files() {
        let reasons: Vec<_> = file.comments.lines().collect();
        for (index, line) in file.code.lines().enumerate() {
            if !line.contains("unsafe {") && !line.contains("unsafe impl") {
                continue;
            }
            let allowed = UNSAFE_ALLOWED.iter().any(|place| file.name.starts_with(place));
            let reasoned =
                reasons[index.saturating_sub(6)..=index].iter().any(|line| line.contains("SAFETY:"));
            if !allowed || !reasoned {
                problems.push(format!(
                    "{}:{}: unsafe outside its places or without a SAFETY sentence",
                    file.name,
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
    let problems = rust_files().iter().flat_map(|file| {
        let name = &file.name;
        let found =
            file.text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
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
    let problems = rust_files().iter().filter(|file| pure(&file.name)).flat_map(|file| {
        let name = &file.name;
        let found =
            banned.iter().filter(|word| file.text.contains(**word)).map(|word| format!("{name}: {word}"));
        found.collect::<Vec<_>>()
    });
    complain(&problems.collect::<Vec<_>>());
}

#[test]
fn modules_open_with_their_model() {
    let problems = rust_files().iter().filter(|file| {
        let name = &file.name;
        name.contains("/src/")
            && !name.ends_with("tests.rs")
            && !name.contains("/tests/")
            && !file.text.starts_with("//!")
    });
    complain(
        &problems.map(|file| format!("{}: begins without a module text", file.name)).collect::<Vec<_>>(),
    );
}
