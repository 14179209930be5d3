//! Kernel memory of idle connections over io_uring, armed and demoted: `idle_memory [connections]`,
//! as root for /proc/slabinfo. Prints, by cache, the bytes that demotion and promotion free and
//! take again, for each connection.

use netpoll::{
    Backend, BackendConfig, Completion, Completions, ConnectionId, Introspect, ListenerConfig, UringBackend,
    UringConfig,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const DEMOTE: Duration = Duration::from_secs(4);

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(9_000);
    let mut config = BackendConfig::small(count);
    config.send_pieces_shared = count;
    let mut client = UringBackend::new(&config, &UringConfig::default()).expect("a ring");
    config.idle_demote = Some(DEMOTE);
    let mut server = UringBackend::new(&config, &UringConfig::default()).expect("a ring");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let (_, address) = server.listen(&ListenerConfig::new(loopback)).expect("a port");
    let mut batch = Completions::with_capacity(config.batch_max);
    let (mut accepted, mut connected, mut ids) = (0, 0, Vec::<ConnectionId>::new());
    while accepted < count || connected < count {
        for _ in 0..256.min(count - ids.len()) {
            let local = SocketAddr::from(([127, 0, 0, 2 + (ids.len() % 16) as u8], 0));
            ids.push(client.connect(Some(local), address).expect("a connection"));
        }
        connected += turn(&mut client, &mut batch).0;
        accepted += turn(&mut server, &mut batch).0;
    }
    let armed = slabs();
    let start = Instant::now();
    while (server.counters().demotions as usize) < count && start.elapsed() < 10 * DEMOTE {
        turn(&mut server, &mut batch);
    }
    let demoted = slabs();
    println!("{} of {count} demoted after {:?}", server.counters().demotions, start.elapsed());
    report("demotion", &armed, &demoted, count);
    let hello = client.pools().copy(b"x").expect("a block").freeze();
    let mut bytes = 0;
    for chunk in ids.chunks(256) {
        chunk.iter().for_each(|id| client.send(*id, hello.clone()).expect("room"));
        turn(&mut client, &mut batch);
        bytes += turn(&mut server, &mut batch).1;
    }
    while bytes < count {
        bytes += turn(&mut server, &mut batch).1;
    }
    report("promotion", &demoted, &slabs(), count);
}

/// One turn: connections opened, bytes received.
fn turn(backend: &mut UringBackend, batch: &mut Completions) -> (usize, usize) {
    backend.poll(Duration::from_millis(1), batch).expect("a ring that works");
    let (mut opened, mut bytes) = (0, 0);
    for completion in batch.drain() {
        match completion {
            Completion::Accepted { .. } | Completion::Connected { .. } => opened += 1,
            Completion::Received { buffer, .. } => bytes += buffer.len(),
            Completion::Sent { .. } | Completion::PeerFinished { .. } | Completion::Closed { .. } => {}
        }
    }
    (opened, bytes)
}

/// Bytes of active objects, by cache.
fn slabs() -> BTreeMap<String, i64> {
    std::thread::sleep(Duration::from_millis(500)); // RCU lets go of what was freed
    let text = std::fs::read_to_string("/proc/slabinfo").expect("/proc/slabinfo, as root");
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let numbers: Vec<i64> = words.take(3).filter_map(|word| word.parse().ok()).collect();
            Some((name, numbers.first()? * numbers.get(2)?))
        })
        .collect()
}

fn report(what: &str, before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>, count: usize) {
    let mut sum = 0;
    for (name, bytes) in after {
        let change = bytes - before.get(name).copied().unwrap_or(0);
        if change.unsigned_abs() as usize > 16 * count {
            println!("{what}: {name:24} {:+8.0} B a connection", change as f64 / count as f64);
            sum += change;
        }
    }
    println!("{what}: {:24} {:+8.0} B a connection", "together", sum as f64 / count as f64);
}
