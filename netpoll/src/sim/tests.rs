use super::*;
use crate::{Backend, CloseReason, Completion, Completions, ConnectionId, ListenerConfig, SharedBuffer};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const FOREVER: Duration = Duration::MAX;

/// An owner of a backend that echoes what it receives and counts what it sees.
struct Owner {
    backend: SimBackend,
    batch: Completions,
    echoes: bool,
    live: BTreeSet<ConnectionId>,
    closed: Vec<CloseReason>,
    received: usize,
    completions: u64,
}

impl Owner {
    fn new(network: &SimNetwork, echoes: bool) -> Owner {
        let backend = network.backend(&BackendConfig::small(64)).unwrap();
        Owner {
            backend,
            batch: Completions::with_capacity(256),
            echoes,
            live: BTreeSet::new(),
            closed: Vec::new(),
            received: 0,
            completions: 0,
        }
    }

    fn text(&mut self, text: &[u8]) -> SharedBuffer {
        self.backend.pools().copy(text).unwrap().freeze()
    }

    fn turn(&mut self, wait: Duration) {
        self.backend.poll(wait, &mut self.batch).unwrap();
        self.completions += self.batch.len() as u64;
        for completion in self.batch.drain() {
            match completion {
                Completion::Accepted { connection, .. } | Completion::Connected { connection } => {
                    self.live.insert(connection);
                }
                Completion::Received { connection, buffer } => {
                    self.received += buffer.len();
                    if self.echoes {
                        let _ = self.backend.send(connection, buffer.freeze());
                    }
                }
                Completion::Sent { .. } | Completion::PeerFinished { .. } => {}
                Completion::Closed { connection, reason } => {
                    self.live.remove(&connection);
                    self.closed.push(reason);
                }
            }
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Runs until nothing happens any more.
fn run(network: &SimNetwork, owners: &mut [Owner]) {
    while let Some(number) = network.step() {
        owners[number].turn(FOREVER);
    }
    assert!(network.is_quiet());
}

/// An echo server and a client, `count` connections, each with a text sent.
fn echo(seed: u64, faults: FaultConfig, count: usize) -> (SimNetwork, [Owner; 2]) {
    let network = SimNetwork::new(seed, faults);
    let mut owners = [Owner::new(&network, true), Owner::new(&network, false)];
    owners[0].backend.listen(&ListenerConfig::new(address(80))).unwrap();
    for _ in 0..count {
        let id = owners[1].backend.connect(None, address(80)).unwrap();
        let text = owners[1].text(&[7; 2000]);
        owners[1].backend.send(id, text).unwrap();
    }
    run(&network, &mut owners);
    (network, owners)
}

#[test]
fn a_seed_is_a_run() {
    let hash = |seed| echo(seed, FaultConfig::hostile(), 20).0.trace_hash();
    for seed in 0..20 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
        assert_ne!(hash(seed), hash(seed + 1), "seeds {seed} and the next");
    }
}

#[test]
fn a_lossless_network_loses_nothing() {
    for seed in 0..50 {
        let faults = FaultConfig::drawn(&mut Rng::new(seed)).lossless();
        let (_, owners) = echo(seed, faults, 10);
        assert_eq!(owners[1].received, 10 * 2000, "seed {seed}");
        assert!(owners[1].closed.is_empty());
    }
}

#[test]
fn backends_share_an_address() {
    let network = SimNetwork::new(5, FaultConfig::calm());
    let mut owners: Vec<Owner> = (0..4).map(|number| Owner::new(&network, number < 3)).collect();
    for owner in &mut owners[..3] {
        owner.backend.listen(&ListenerConfig::new(address(80))).unwrap();
    }
    for _ in 0..60 {
        owners[3].backend.connect(None, address(80)).unwrap();
    }
    run(&network, &mut owners);
    let shares: Vec<usize> = owners[..3].iter().map(|owner| owner.live.len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 60);
    assert!(shares.iter().all(|share| *share > 5), "{shares:?}");
}

#[test]
fn waits_end_on_the_virtual_clock() {
    let network = SimNetwork::new(1, FaultConfig::calm());
    let mut owner = Owner::new(&network, false);
    assert_eq!(network.step(), Some(0), "a new backend has its first turn");
    owner.turn(Duration::from_secs(3600));
    assert_eq!(network.now(), Timestamp::ZERO, "a poll takes no time");
    assert_eq!(network.step(), Some(0));
    assert_eq!(network.now().as_millis(), 3_600_000);
    owner.turn(FOREVER);
    assert_eq!(network.step(), None, "nothing will ever happen");
}

#[test]
fn a_wake_up_may_be_late_and_is_never_lost() {
    let faults = FaultConfig { wake_delay: 1.0, ..FaultConfig::calm() };
    let network = SimNetwork::new(1, faults);
    let mut owner = Owner::new(&network, false);
    owner.turn(FOREVER);
    let waker = owner.backend.waker();
    for _ in 0..50 {
        assert_eq!(network.step(), None);
        std::thread::scope(|scope| drop(scope.spawn(|| waker.wake())));
        let before = network.now();
        assert_eq!(network.step(), Some(0));
        assert!(network.now() > before);
        owner.turn(FOREVER);
        // The poll that found the wake-up did not sleep; the next one does.
        assert_eq!(network.step(), Some(0));
        owner.turn(FOREVER);
    }
    network.nudge(0);
    assert_eq!(network.step(), Some(0));
}

#[test]
fn connects_fail_as_the_faults_say() {
    let refuse = FaultConfig { refuse: 1.0, ..FaultConfig::calm() };
    assert_eq!(echo(1, refuse, 2).1[1].closed, [CloseReason::Refused; 2]);
    let timeout = FaultConfig { connect_timeout: 1.0, ..FaultConfig::calm() };
    let (network, owners) = echo(1, timeout, 2);
    assert_eq!(owners[1].closed, [CloseReason::TimedOut; 2]);
    assert!(network.now().as_millis() >= 1000);
    assert_eq!(network.link_count(), 0);
}

#[test]
fn a_cut_is_a_reset_for_both() {
    let (network, mut owners) = echo(1, FaultConfig::calm(), 3);
    let id = *owners[1].live.first().unwrap();
    owners[1].backend.cut(id);
    run(&network, &mut owners);
    for owner in &owners {
        assert_eq!(owner.closed, [CloseReason::PeerReset]);
    }
    assert_eq!(network.link_count(), 2);
}

#[test]
fn a_backend_that_is_dropped_resets_its_peers() {
    let (network, owners) = echo(1, FaultConfig::calm(), 3);
    let [server, mut client] = owners;
    drop(server);
    while let Some(number) = network.step() {
        assert_eq!(number, 1);
        client.turn(FOREVER);
    }
    assert_eq!(client.closed, [CloseReason::PeerReset; 3]);
    client.backend.connect(None, address(80)).unwrap();
    while network.step().is_some() {
        client.turn(FOREVER);
    }
    assert_eq!(client.closed.last(), Some(&CloseReason::Refused), "the address is free again");
    assert_eq!(network.link_count(), 0);
}

#[test]
fn a_full_backlog_makes_peers_try_again() {
    let network = SimNetwork::new(1, FaultConfig::calm());
    let mut owners = [Owner::new(&network, true), Owner::new(&network, false)];
    let listener = ListenerConfig { backlog: 2, ..ListenerConfig::new(address(80)) };
    owners[0].backend.listen(&listener).unwrap();
    for _ in 0..6 {
        owners[1].backend.connect(None, address(80)).unwrap();
    }
    run(&network, &mut owners);
    assert_eq!(owners[0].live.len(), 6);
    assert!(network.now().as_millis() >= 1000, "some came a second later");
}

#[test]
fn the_trace_keeps_the_last_events() {
    let network = SimNetwork::new(1, FaultConfig::calm());
    network.keep_trace(3);
    let mut owner = Owner::new(&network, false);
    for _ in 0..5 {
        owner.turn(Duration::from_millis(1));
        network.step();
    }
    let trace = network.trace();
    assert_eq!(trace.iter().map(|event| event.what).collect::<Vec<_>>(), ["turn", "poll", "turn"]);
    assert!(trace.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

/// Measures speed:
/// `cargo test --release -p netpoll --lib sim::tests::speed -- --ignored --nocapture`.
#[test]
#[ignore = "measures; run it in release"]
fn speed() {
    for (name, faults) in [("calm", FaultConfig::calm()), ("rough", FaultConfig::rough())] {
        let network = SimNetwork::new(1, faults);
        let mut owners: Vec<Owner> = (0..4).map(|_| Owner::new(&network, true)).collect();
        for owner in &mut owners[..2] {
            owner.backend.listen(&ListenerConfig::new(address(80))).unwrap();
        }
        for owner in &mut owners[2..] {
            for _ in 0..50 {
                let id = owner.backend.connect(None, address(80)).unwrap();
                let text = owner.text(&[7; 200]);
                owner.backend.send(id, text).unwrap();
            }
        }
        let start = std::time::Instant::now();
        let completions = |owners: &[Owner]| owners.iter().map(|owner| owner.completions).sum::<u64>();
        while completions(&owners) < 2_000_000 {
            let number = network.step().expect("echoes go on for ever");
            owners[number].turn(FOREVER);
        }
        let rate = completions(&owners) as f64 / start.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} completions/s, virtual time {} ms", network.now().as_millis());
    }
    let start = std::time::Instant::now();
    for seed in 0..1000 {
        echo(seed, FaultConfig::rough(), 1);
    }
    println!("set-up, one echo and tear-down of two small backends: {:?}", start.elapsed() / 1000);
}
