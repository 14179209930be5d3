//! The generator's workers allocate nothing per message: what they cost must not hide what the
//! server does. Counted by the allocator on their threads; a run that sends far more messages
//! allocates no more.
#![allow(missing_docs, unreachable_pub, reason = "a test")]
#![allow(unsafe_code, reason = "an allocator")]

#[allow(dead_code, reason = "shared with tests that order faults")]
mod peer;

use loadtest::Exit;
use peer::{Faults, Peer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts what threads named `loadtest-…` allocate.
struct WorkersAllocator;

#[global_allocator]
static ALLOCATOR: WorkersAllocator = WorkersAllocator;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Whether a thread is a worker. Its name is not there from its first allocation on, so it is asked
/// for a few times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    Unknown(u8),
    Worker,
    Other,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown(0)) };
}

fn is_named_worker() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, and allocates nothing.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"loadtest-")
}

fn count() {
    let _ = THREAD.try_with(|thread| {
        if let Thread::Unknown(asked) = thread.get() {
            thread.set(match asked {
                _ if is_named_worker() => Thread::Worker,
                32 => Thread::Other,
                asked => Thread::Unknown(asked + 1),
            });
        }
        if thread.get() == Thread::Worker {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
    });
}

// SAFETY: every method passes its arguments to `System` unchanged, whose contract is the same.
unsafe impl GlobalAlloc for WorkersAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` through this allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from `System` through this allocator, with this layout; the caller
        // guarantees `size`.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// A second passes its histogram to the coordinator: so many allocations per second and flow.
const PER_SECOND: u64 = 6;

/// Allocations of the workers and messages of a run that measures for so many milliseconds.
fn run(peer: &Peer, line: &str, measure_ms: u64) -> (u64, u64) {
    let path = std::env::temp_dir().join(format!("loadtest-allocations-{}.json", std::process::id()));
    let server = if line.contains("--transport ws") { peer.websocket } else { peer.tcp };
    let words = format!(
        "loadtest {line} -q --server {server} --http {} --json {} --warmup 100ms --duration {measure_ms}ms",
        peer.http,
        path.display()
    );
    let before = ALLOCATIONS.load(Relaxed);
    let exit = loadtest::run(words.split(' ').map(OsString::from));
    let allocations = ALLOCATIONS.load(Relaxed) - before;
    // Times are not judged here.
    assert!(matches!(exit, Exit::Met | Exit::Invalid), "{line}: {exit:?}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let _ = std::fs::remove_file(path);
    let flows = report["flows"].as_array().unwrap().iter();
    let delivered: u64 = flows.map(|flow| flow["conservation"]["delivered"].as_u64().unwrap()).sum();
    (allocations, delivered + report["heartbeats"]["answered"].as_u64().unwrap_or(0))
}

#[test]
fn workers_allocate_nothing_per_message() {
    let peer = Peer::start(Faults::default());
    for line in [
        "echo -c 10 --depth 16 --backend epoll",
        "echo -c 10 --depth 16 --backend auto",
        "echo -c 10 --rate 5000 --size 1000",
        "echo -c 10 --depth 4 --transport ws",
        "echo -c 10 --rate 2000:30ms,5000 --arrivals poisson",
        "push -c 10 --rate 1000",
        "push -c 12 --batch 4 --by keys",
        "room -c 12 --room-size 4 --rate 500",
        "room -c 12 --depth 2 --transport ws",
        "room -c 12 --rate 300 --via http",
        "broadcast -c 10 --rate 100",
        "idle -c 200 --heartbeat 50ms",
        "mix -c 10 --echo-rate 500 --push-rate 200 --room-rate 200 --broadcast-rate 50",
    ] {
        let (few_allocations, few) = run(&peer, line, 50);
        let (many_allocations, many) = run(&peer, line, 600);
        assert!(few_allocations > 0 && many > few + 100, "{line}: {few} and {many} messages");
        let more = many_allocations.saturating_sub(few_allocations);
        assert!(more <= 4 * PER_SECOND, "{line}: {more} allocations for {} messages", many - few);
    }
}
