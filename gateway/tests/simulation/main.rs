//! The whole gateway in one thread: workers, clients, network and clock, everything drawn from one seed.
//!
//! `SIM_SEED=n` replays one run and prints what happened; `SIM_SEEDS=n` runs the first n; `SIM_FROM=n` begins there.
#![allow(unreachable_pub, missing_docs)] // a test of its own

mod checkers;
mod clients;
mod control;
mod echo;
mod hear;
mod model;
mod plan;
mod race;
mod tally;
mod tokens;
mod verifier;
mod wire;
mod workload;
mod world;

use netpoll::sim::Mutation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tally::Tally;
use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a run was.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    trace_hash: u64,
    ticks: u64,
    tally: Tally,
}

/// Runs a seed; `Err` says what went wrong.
fn run(seed: u64, mutation: Option<Mutation>, log_size: usize) -> Result<Ran, String> {
    let mut world = World::new(seed, mutation, log_size);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let Err(failure) = result else {
        return Ok(Ran { trace_hash: world.network.trace_hash(), ticks: world.ticks, tally: world.tally });
    };
    if log_size > 0 {
        world.print_log();
    }
    std::mem::forget(world); // its parts may be in any state
    let text = failure.downcast_ref::<String>().cloned();
    Err(text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

#[test]
fn schedules() {
    let alone = number("SIM_SEED");
    let from = number("SIM_FROM").unwrap_or(0);
    let count = number("SIM_SEEDS").unwrap_or(3000);
    let seeds = alone.map_or(from..from + count, |seed| seed..seed + 1);
    let keep_going = std::env::var_os("SIM_KEEP_GOING").is_some();
    let (mut failures, mut tally) = (0, Tally::default());
    for seed in seeds {
        match run(seed, None, if alone.is_some() { 3000 } else { 0 }) {
            Ok(ran) => tally.add(&ran.tally),
            Err(failure) => {
                failures += 1;
                eprintln!(
                    "{failure}\n  replay: SIM_SEED={seed} cargo test -p gateway --test simulation schedules"
                );
                if !keep_going {
                    break;
                }
            }
        }
    }
    println!("{tally:#?}");
    assert_eq!(failures, 0, "seeds failed; see above");
    assert!(alone.is_some() || count < 1000 || tally.unseen().is_empty(), "unseen: {:?}", tally.unseen());
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, None, 0), run(seed, None, 10), "seed {seed}");
    }
}

// --- bugs put in on purpose ------------------------------------------------------------------------------------------

/// One of the first seeds must fail by one of these checks.
fn must_be_seen(mutation: Mutation, checks: &[&str]) {
    let mut failures = (0..60).filter_map(|seed| Some((seed, run(seed, Some(mutation), 0).err()?)));
    let named = |(_, failure): &(u64, String)| checks.iter().any(|check| failure.contains(check));
    let (seed, failure) = failures.find(named).unwrap_or_else(|| panic!("{mutation:?} went unseen"));
    println!("{mutation:?} is seen with seed {seed}: {failure}");
}

#[test]
fn reordered_sends_are_seen() {
    must_be_seen(Mutation::ReorderTwoSends, &["wire:", "pushes:", "replies:"]);
}

#[test]
fn a_leaked_buffer_is_seen() {
    must_be_seen(Mutation::LeakBuffer, &["leaks: a buffer"]);
}

#[test]
fn a_lost_wake_up_is_seen() {
    must_be_seen(Mutation::LoseWakeup, &["progress:"]);
}

#[test]
fn duplicated_bytes_are_seen() {
    must_be_seen(Mutation::DuplicateBytes, &["wire:", "pushes:", "replies:", "closed with 3500"]);
}

#[test]
fn a_second_closed_is_seen() {
    must_be_seen(Mutation::CloseTwice, &["closed twice", "a dead connection"]);
}

#[test]
fn a_forgotten_closed_is_seen() {
    must_be_seen(Mutation::ForgetClose, &["is taken", "progress:", "leaks:"]);
}
