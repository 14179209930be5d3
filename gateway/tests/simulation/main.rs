//! The whole gateway in one thread: workers, clients, network and clock, everything drawn from one seed.
//!
//! `SIM_SEED=n` replays one run and prints what happened; `SIM_SEEDS=n` runs the first n; `SIM_FROM=n` begins there.
#![allow(unreachable_pub, missing_docs)] // a test of its own

mod checkers;
mod clients;
mod control;
mod hear;
mod model;
mod plan;
mod wire;
mod workload;
mod world;

use netpoll::sim::Mutation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; the trace's hash, or what went wrong.
fn run(seed: u64, mutation: Option<Mutation>, log_size: usize) -> Result<(u64, u64), String> {
    let mut world = World::new(seed, mutation, log_size);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    if result.is_ok() {
        return Ok((world.network.trace_hash(), world.ticks));
    }
    if log_size > 0 {
        world.print_log();
    }
    std::mem::forget(world); // its parts may be in any state
    let failure = result.expect_err("it was no success");
    let text = failure.downcast_ref::<String>().cloned();
    Err(text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

#[test]
fn schedules() {
    let alone = number("SIM_SEED");
    let from = number("SIM_FROM").unwrap_or(0);
    let count = number("SIM_SEEDS").unwrap_or(1500);
    let seeds = alone.map_or(from..from + count, |seed| seed..seed + 1);
    let keep_going = std::env::var("SIM_KEEP_GOING").is_ok();
    let mut failures = vec![];
    for seed in seeds {
        if let Err(failure) = run(seed, None, if alone.is_some() { 3000 } else { 0 }) {
            failures.push((seed, failure));
            if !keep_going {
                break;
            }
        }
    }
    for (seed, failure) in &failures {
        eprintln!("{failure}\n  replay: SIM_SEED={seed} cargo test -p gateway --test simulation schedules");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, None, 0), run(seed, None, 10), "seed {seed}");
    }
}
