//! The contract suite over the simulated network: a calm one, and a rough one for several seeds.
//! Then runs of everything at once under drawn faults, resets among them; and proof that the suite
//! finds the bugs that it is meant for.

use netpoll::sim::{FaultConfig, Mutation, Rng, SimBackend, SimNetwork};
use netpoll::{Backend, Completions};
use netpoll_contract::{Setup, Side, SuccessorWorld, World, behavior, contract_suite, handover_suite};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

/// The kind of network.
trait Weather {
    const NAME: &'static str;
    const SEEDS: &'static [u64] = &[1];

    fn network(seed: u64) -> SimNetwork;
}

struct Sim<W: Weather> {
    network: SimNetwork,
    server: SimBackend,
    client: SimBackend,
    weather: PhantomData<W>,
}

impl<W: Weather> World for Sim<W> {
    type Backend = SimBackend;
    const NAME: &'static str = W::NAME;
    const SEEDS: &'static [u64] = W::SEEDS;
    const IDLE_WAIT: Duration = Duration::ZERO;
    const REAL_TIME: bool = false;

    fn new(setup: &Setup) -> Self {
        let network = W::network(setup.seed);
        let backend = |config| network.backend(config).expect("pools");
        Sim { server: backend(&setup.server), client: backend(&setup.client), network, weather: PhantomData }
    }

    fn backend(&mut self, side: Side) -> &mut SimBackend {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }

    /// A poll without events sleeps in place: virtual time passes until the wait is over or there
    /// is an event.
    fn poll(&mut self, side: Side, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        let network = self.network.clone();
        let backend = self.backend(side);
        backend.poll(wait, batch)?;
        if batch.is_empty() && !wait.is_zero() {
            network.sleep(backend);
            backend.poll(Duration::ZERO, batch)?;
        }
        Ok(())
    }

    fn idle(&mut self) -> bool {
        self.network.advance(Duration::from_secs(10));
        !self.network.is_quiet()
    }

    fn vacant_address(&mut self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }
}

impl<W: Weather> SuccessorWorld for Sim<W> {
    fn successor(&mut self, side: Side, setup: &Setup) -> SimBackend {
        let config = if side == Side::Server { &setup.server } else { &setup.client };
        self.network.backend(config).expect("pools")
    }
}

struct Calm;

impl Weather for Calm {
    const NAME: &'static str = "sim (calm)";

    fn network(seed: u64) -> SimNetwork {
        SimNetwork::new(seed, FaultConfig::calm())
    }
}

struct Rough;

impl Weather for Rough {
    const NAME: &'static str = "sim (rough)";
    const SEEDS: &'static [u64] = &[1, 2, 3, 4, 5];

    fn network(seed: u64) -> SimNetwork {
        SimNetwork::new(seed, FaultConfig::rough())
    }
}

mod calm {
    use super::*;
    contract_suite!(Sim<Calm>);
    handover_suite!(Sim<Calm>);
}

mod rough {
    use super::*;
    contract_suite!(Sim<Rough>);
    handover_suite!(Sim<Rough>);
}

/// Another mix of faults for each seed, resets, refusals and time-outs among them.
struct Drawn;

impl Weather for Drawn {
    const NAME: &'static str = "sim (drawn)";

    fn network(seed: u64) -> SimNetwork {
        let faults = FaultConfig::drawn(&mut Rng::new(seed ^ 0x6661_756c_7473));
        SimNetwork::new(seed, faults)
    }
}

/// `SIM_SEED=n` runs that seed alone; `SIM_SEEDS=n` runs the first n.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(count),
    }
}

#[test]
fn anything_may_happen_under_drawn_faults() {
    for seed in seeds(100) {
        let run = || behavior::chaos::anything_may_happen::<Sim<Drawn>>(seed);
        if let Err(failure) = std::panic::catch_unwind(run) {
            eprintln!("replay with SIM_SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

// --- bugs put in on purpose ---

macro_rules! mutants {
    ($($name:ident: $mutation:ident, seen as $symptoms:expr;)*) => {
        $(
            struct $mutation;

            impl Weather for $mutation {
                const NAME: &'static str = stringify!($mutation);

                fn network(seed: u64) -> SimNetwork {
                    let network = Calm::network(seed);
                    network.mutate(Mutation::$mutation);
                    network
                }
            }

            #[test]
            fn $name() {
                must_be_seen::<$mutation>(&$symptoms);
            }
        )*
    };
}

mutants! {
    reordered_sends_are_seen: ReorderTwoSends, seen as ["the stream is broken"];
    duplicated_bytes_are_seen: DuplicateBytes, seen as ["the stream is broken", "received as much as was sent"];
    a_leaked_buffer_is_seen: LeakBuffer, seen as ["a buffer is missing"];
    a_lost_wake_up_is_seen: LoseWakeup, seen as ["waited in vain"];
    a_second_closed_is_seen: CloseTwice, seen as ["while not live"];
    a_forgotten_closed_is_seen: ForgetClose, seen as ["connections are counted", "slot is in use"];
}

/// Runs behaviors that do not mention the bug until one fails, for a few seeds; each seed must find
/// it.
fn must_be_seen<W: Weather>(symptoms: &[&str]) {
    let crossing = behavior::streams::connections_do_not_mix::<Sim<W>>;
    let chaos = behavior::chaos::anything_may_happen::<Sim<W>>;
    let churn = behavior::crowds::two_thousand_connections_come_and_go::<Sim<W>>;
    for seed in 1..=5 {
        let messages: Vec<String> =
            [("crossing streams", crossing as fn(u64)), ("chaos", chaos), ("churn", churn)]
                .into_iter()
                .filter_map(|(name, run)| {
                    let failure = std::panic::catch_unwind(|| run(seed)).err()?;
                    let text = failure.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    Some(format!("{name}: {}", text.unwrap_or_default()))
                })
                .collect();
        println!("{}, seed {seed}: {messages:#?}", W::NAME);
        let named = messages.iter().any(|message| symptoms.iter().any(|symptom| message.contains(symptom)));
        assert!(named, "{} went unseen with seed {seed}: {messages:?}", W::NAME);
    }
}
