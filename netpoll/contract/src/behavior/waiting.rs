//! How long `poll` waits, and what ends a wait.

use crate::{Harness, Side, World};
use netpoll::Backend;
use netpoll::Queues;
use std::time::Duration;

/// Longer than any test may take: a wait that does not end fails.
const LONG: Duration = Duration::from_secs(60);

/// Steps until quiet, so that nothing is left over that would end a wait early, and measures the
/// next wait.
fn measured<W: World>(h: &mut Harness<W>, wait: Duration) -> Duration {
    let before = h.backend(Side::Server).now();
    h.poll(Side::Server, wait);
    h.backend(Side::Server).now() - before
}

/// A wake-up before the wait begins ends it; several count as one.
pub fn a_wake_before_the_wait_counts<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.pair();
    h.until_quiet();
    let waker = h.backend(Side::Server).waker();
    for _ in 0..3 {
        waker.wake();
        waker.wake();
        assert!(measured(&mut h, LONG) < LONG / 2);
    }
    h.end();
}

/// A wake-up from another thread ends a wait that has begun.
pub fn a_wake_from_another_thread_ends_the_wait<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.pair();
    h.until_quiet();
    let waker = h.backend(Side::Server).waker();
    if W::REAL_TIME {
        let thread = std::thread::spawn(move || {
            // Usually the wait has begun by then; both orders must work.
            std::thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        assert!(measured(&mut h, LONG) < LONG / 2);
        thread.join().unwrap();
    } else {
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert!(measured(&mut h, LONG) < LONG / 2);
    }
    h.end();
}

/// A wait without news ends when it is over, and not much before.
pub fn a_wait_ends_in_time<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.pair();
    h.until_quiet();
    let wait = Duration::from_millis(20);
    // A wake-up or another left-over may end one wait early; it cannot end all of them.
    let longest = (0..5).map(|_| measured(&mut h, wait)).max().unwrap_or_default();
    assert!(longest >= wait * 9 / 10, "{longest:?}");
    assert!(longest < LONG / 2, "{longest:?}");
    h.end();
}

/// A batch that was too small leaves work over, and then no poll waits.
pub fn no_wait_while_work_is_left<W: World>(seed: u64) {
    let mut setup = crate::Setup::small(16, seed);
    setup.server.batch_max = 1;
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(8);
    for pair in &pairs {
        h.send(Side::Client, pair.client, b"news").unwrap();
    }
    let seen = |h: &mut Harness<W>| pairs.iter().filter(|p| h.server().received(p.server) == b"news").count();
    h.until("the first", |h| seen(h) == 1);
    h.until("the others to leave", |h| {
        pairs.iter().all(|pair| h.backend(Side::Client).queued_bytes(pair.client) == 0)
    });
    let before = h.backend(Side::Server).now();
    for _ in 0..100 {
        if seen(&mut h) == 8 {
            break;
        }
        h.poll(Side::Server, LONG);
    }
    assert_eq!(seen(&mut h), 8);
    assert!(h.backend(Side::Server).now() - before < LONG / 2);
    h.end();
}
