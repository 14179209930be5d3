//! The whole gateway in one thread: workers, clients, network and clock, everything drawn from one
//! seed.
//!
//! `SIM_SEED=n` replays one run and prints what happened; `SIM_SEEDS=n` runs the first n;
//! `SIM_FROM=n` begins there.
#![allow(unreachable_pub, missing_docs)] // a test of its own

mod checkers;
mod clients;
mod control;
mod echo;
mod hear;
mod model;
mod pause;
mod plan;
mod race;
mod tally;
mod tokens;
mod verifier;
mod wire;
mod workload;
mod world;

use netpoll::Timestamp;
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
    run_from(Timestamp::ZERO, seed, mutation, log_size)
}

/// The same with a clock that begins at `start`.
fn run_from(start: Timestamp, seed: u64, mutation: Option<Mutation>, log_size: usize) -> Result<Ran, String> {
    let mut world = World::new(start, seed, mutation, log_size);
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

/// Seeds that are run over each wrap.
const SEEDS_PER_WRAP: u64 = 12;
/// Nanoseconds of what times are kept in somewhere: sixteenths of a second, a timer's tick,
/// microseconds, milliseconds, nanoseconds.
const UNITS: [u64; 5] = [62_500_000, 64_000_000, 1_000, 1_000_000, 1];

/// A clock that runs over the end of 16, 31 or 32 bits of any unit, while connections come, wait
/// and go, is a clock like any other. `SIM_START=nanoseconds SIM_SEED=n` replays one run.
#[test]
fn far_clocks() {
    let replayed = number("SIM_START").zip(number("SIM_SEED"));
    let wraps = UNITS.iter().flat_map(|unit| [16, 31, 32].map(|bits| unit << bits));
    // Runs take a minute or several: the wrap is in their first, and in the first seconds of some.
    let early = [1_000_000_000, 20_000_000_000, 60_000_000_000];
    let starts = wraps.flat_map(|wrap| early.map(|early: u64| wrap.saturating_sub(early)));
    let runs = starts.flat_map(|start| (0..SEEDS_PER_WRAP / 3).map(move |seed| (start, seed)));
    let mut all: Vec<_> = replayed.map_or_else(|| runs.collect(), |one| vec![one]);
    all.sort_unstable();
    all.dedup();
    for (start, seed) in all {
        let log_size = if replayed.is_some() { 3000 } else { 0 };
        let ran = run_from(Timestamp::from_nanos(start), seed, None, log_size);
        let replay =
            format!("SIM_START={start} SIM_SEED={seed} cargo test -p gateway --test simulation far_clocks");
        assert!(ran.is_ok(), "{}\n  replay: {replay}", ran.unwrap_err());
    }
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
