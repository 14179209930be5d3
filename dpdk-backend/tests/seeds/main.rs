//! Two hosts over a line drawn from a seed. Whatever is lost, late, doubled or broken, streams are
//! delivered as they were sent, and nothing is left at the end: no block, no segment, no timer, no
//! buffer.
//!
//! `TCP_SEEDS=n` runs the first n seeds, `TCP_SEED=n` replays one.

mod engine;
mod host;
mod smoltcp_peer;

use netpoll::sim::Rng;

/// The seeds of a normal run, of either kind.
const ENGINE_SEEDS: u64 = 3000;
const SMOLTCP_SEEDS: u64 = 1500;

fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("TCP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TCP_SEEDS").unwrap_or(count),
    }
}

/// Runs seeds on both processors. The first that fails is named.
fn run_all(name: &str, count: u64, run: fn(u64)) {
    let all = seeds(count);
    let next = std::sync::atomic::AtomicU64::new(all.start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= all.end {
                        return;
                    }
                    if let Err(failure) = std::panic::catch_unwind(|| run(seed)) {
                        eprintln!("{name}: replay with TCP_SEED={seed}");
                        std::panic::resume_unwind(failure);
                    }
                }
            });
        }
    });
}

#[test]
fn engine_against_engine() {
    run_all("engine against engine", ENGINE_SEEDS, engine::run);
}

#[test]
fn engine_against_smoltcp() {
    run_all("engine against smoltcp", SMOLTCP_SEEDS, smoltcp_peer::run);
    smoltcp_peer::check_stuck(seeds(SMOLTCP_SEEDS).count() as u64);
}

/// A seed's choices.
fn rng(seed: u64) -> Rng {
    let mut rng = Rng::new(seed);
    rng.next_u64();
    rng
}
