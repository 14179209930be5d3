//! What one client takes does not keep another from it: an address beside one that has all it may,
//! and a place in the table of connections beside those that linger in it.

mod common;

use common::websocket::{Said, WebSocket, masked};
use common::{BackendChoice, Client, Gateway, settings};
use gateway_auth::{KeySet, TokenPolicy, UserKind, Verifier, VerifierMetrics};
use gateway_core::message::{KickTarget, Message, verify_queue};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::AuthMode;
use gateway_core::sources::Sources;
use gateway_proto::body::Closed;
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use gateway_proto::websocket::Opcode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use netpoll::BackendConfig;
use serde_json::json;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_backend!(
    an_address_that_has_all_its_connections_leaves_others_theirs,
    an_address_that_floods_the_verifier_leaves_others_a_place,
    tokens_that_wait_leave_buffers_to_others,
    tokens_of_connections_that_are_gone_are_not_checked,
    places_that_linger_cost_others_neither_theirs_nor_their_last_word,
);

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Another address of the loopback interface, by its last byte; a link to a network namespace has
/// one address only.
fn other_address(backend: &BackendChoice) -> Option<u8> {
    match backend {
        BackendChoice::Epoll | BackendChoice::Uring(_) => Some(2),
        #[cfg(feature = "dpdk")]
        BackendChoice::Dpdk => None,
    }
}

fn metric(gateway: &Gateway, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    gateway.threads.as_ref().unwrap().metrics.iter().map(|metrics| of(metrics)).sum()
}

fn lives(client: &mut Client) {
    assert_eq!(client.ask(Operation::HEARTBEAT, 77, b"").operation, 3);
}

fn is_refused(client: &mut Client) {
    let closed = client.read();
    assert_eq!((closed.operation, Closed::parse(&closed.body).unwrap().code), (111, CloseCode::OVERLOAD));
}

fn an_address_that_has_all_its_connections_leaves_others_theirs(backend: &BackendChoice) {
    const SHARE: u32 = 5;
    let Some(other) = other_address(backend) else { return };
    let mut settings = settings(2, 64);
    settings.shared.sources = Some((Arc::new(Sources::new(64)), SHARE));
    let gateway = Gateway::start_on(backend, settings);
    let mut greedy: Vec<Client> = (1..=5).map(|mid| gateway.login(mid, "")).collect();
    let mut bystanders: Vec<Client> = Vec::new();
    // One of each in turn: the greedy address is refused each time, the other one never, up to its
    // own share.
    for mid in 100..100 + i64::from(SHARE) {
        is_refused(&mut gateway.client());
        let mut client = Client::connect_from(other, gateway.addresses[0]);
        client.login(mid, "", "");
        bystanders.push(client);
        bystanders.iter_mut().for_each(lives);
    }
    is_refused(&mut Client::connect_from(other, gateway.addresses[0]));
    greedy.iter_mut().for_each(lives);
    assert_eq!(metric(&gateway, |one| one.address_refusals.get()), u64::from(SHARE) + 1);
}

fn policy() -> TokenPolicy {
    TokenPolicy {
        keys: KeySet::from_secret(SECRET).unwrap(),
        audience: vec![],
        issuer: None,
        leeway_s: 30,
        user_claim: "sub".into(),
        user_kind: UserKind::Auto,
        service_scope: None,
        key_claim: None,
        rooms_claim: "rooms".into(),
        threads: 1,
        queue_requests_max: PLACES,
    }
}

/// Logins that the verifier's queue takes.
const PLACES: usize = 16;

fn ask_to_log_in(client: &mut Client, mid: i64) {
    let claims = json!({ "sub": mid, "exp": 4_102_444_800_i64 });
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    let body = json!({ "token": token, "mid": mid, "platform": "test", "accepts": [1000] }).to_string();
    client.send(Operation::AUTH, 1, body.as_bytes());
}

/// The verifier does not run, so tokens wait without end, more than there are blocks and receive
/// buffers.
fn tokens_that_wait_leave_buffers_to_others(backend: &BackendChoice) {
    const CLIENTS: usize = 200;
    let (sender, _queue) = verify_queue(1, 4096).unwrap();
    let mut settings = settings(1, 2 * CLIENTS);
    settings.auth = AuthMode::Jwt;
    let mut config = BackendConfig::small(settings.tables.connections_max);
    config.pools.receive.count = 64;
    let size = |size, count| netpoll::PoolSize { size, count };
    config.pools.blocks = vec![size(256, 32), size(1024, 32), size(4096, 32), size(128 << 10, 16)];
    let gateway = Gateway::start_verified(settings, config, backend.clone(), Some(sender.clone()));
    let mut flood: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    flood.iter_mut().zip(1..).for_each(|(client, mid)| ask_to_log_in(client, mid));
    let refused = || metric(&gateway, |one| one.verifier_overloads.get()) as usize;
    wait_until(|| refused() + sender.len() == CLIENTS, "the flood to be judged");
    assert!((1..CLIENTS - 16).contains(&refused()), "{} of {CLIENTS} are refused", refused());
    // All others are still received from, and answered.
    for _ in 0..64 {
        let mut other = WebSocket::open(gateway.addresses[2]);
        other.write(&masked(Opcode::Binary, true, &[7; 700]));
        assert_eq!(other.read(), Said::Message(vec![7; 700]));
    }
}

fn tokens_of_connections_that_are_gone_are_not_checked(backend: &BackendChoice) {
    let policy = policy();
    let (sender, queue) = verify_queue(1, 64).unwrap();
    let mut settings = settings(1, 64);
    settings.auth = AuthMode::Jwt;
    let config = BackendConfig::small(settings.tables.connections_max);
    let gateway = Gateway::start_verified(settings, config, backend.clone(), Some(sender.clone()));
    let mut clients: Vec<Client> = (0..12).map(|_| gateway.client()).collect();
    clients.iter_mut().zip(1..).for_each(|(client, mid)| ask_to_log_in(client, mid));
    wait_until(|| sender.len() == clients.len(), "all to wait for the verifier");
    let connections = || metric(&gateway, |one| one.connections.iter().map(|count| count.get()).sum());
    for client in clients.drain(4..) {
        // A client that only says that it has no more to say still reads its answer.
        rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    }
    wait_until(|| connections() == 4, "their ends to be heard of");
    let senders = &gateway.threads.as_ref().unwrap().senders;
    let verifier = Verifier::start(queue, Arc::new(policy), senders, 0).unwrap();
    for client in &mut clients {
        assert_eq!(client.read().operation, 8);
        lives(client);
    }
    wait_until(|| sender.is_empty(), "the queue to be empty");
    let count = |of: fn(&VerifierMetrics) -> u64| verifier.metrics().iter().map(|one| of(one)).sum::<u64>();
    wait_until(|| count(|one| one.withdrawn.get()) == 8, "the rest to be dropped");
    assert_eq!(count(|one| one.accepted.get()), 4);
}

/// Long enough for any machine; only a fault takes so long.
fn wait_until(done: impl Fn() -> bool, what: &str) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The verifier does not run until all have asked, so its queue is as full as the flood can make
/// it.
fn an_address_that_floods_the_verifier_leaves_others_a_place(backend: &BackendChoice) {
    const SHARE: usize = PLACES / 2 + 1; // as many as are left, when it has them
    let Some(other) = other_address(backend) else { return };
    let policy = policy();
    let (sender, queue) = verify_queue(policy.threads, policy.queue_requests_max).unwrap();
    let mut settings = settings(1, 64);
    settings.auth = AuthMode::Jwt;
    let config = BackendConfig::small(settings.tables.connections_max);
    let gateway = Gateway::start_verified(settings, config, backend.clone(), Some(sender.clone()));
    let mut flood: Vec<Client> = (0..2 * PLACES).map(|_| gateway.client()).collect();
    flood.iter_mut().zip(1..).for_each(|(client, mid)| ask_to_log_in(client, mid));
    let refused = || metric(&gateway, |one| one.verifier_overloads.get()) as usize;
    wait_until(|| refused() + sender.len() == flood.len(), "the flood to be judged");
    assert_eq!((sender.len(), refused()), (SHARE, flood.len() - SHARE));
    let mut bystanders: Vec<Client> =
        (0..2).map(|_| Client::connect_from(other, gateway.addresses[0])).collect();
    bystanders.iter_mut().zip(100..).for_each(|(client, mid)| ask_to_log_in(client, mid));
    wait_until(|| sender.len() == SHARE + bystanders.len(), "the bystanders' logins to find a place");
    let senders = &gateway.threads.as_ref().unwrap().senders;
    let verifier = Verifier::start(queue, Arc::new(policy), senders, 0).unwrap();
    for client in &mut bystanders {
        assert_eq!(client.read().operation, 8);
        lives(client);
    }
    let entered = flood.iter_mut().filter_map(|client| (client.read().operation == 8).then_some(()));
    assert_eq!(entered.count(), SHARE);
    drop(verifier);
}

fn kick(gateway: &Gateway, mid: i64) {
    let target = KickTarget::Name(gateway.names.mid(mid));
    gateway.tell(0, Message::Kick { target, code: CloseCode::KICKED, reason: None, ticket: 0 });
}

fn expect_last_word(client: &mut WebSocket) {
    while !matches!(client.read(), Said::Close(Some(CloseCode::KICKED))) {}
}

/// A full table of connections that were closed and never answer, and newcomers that need their
/// places again and again: a bystander keeps its own, and one that is closed meanwhile hears its
/// last word whole, and a clean end.
fn places_that_linger_cost_others_neither_theirs_nor_their_last_word(backend: &BackendChoice) {
    const PLACES: usize = 16;
    let gateway = Gateway::start_on(backend, settings(1, PLACES));
    let mut bystander = gateway.login(1, "");
    let mut leaving = WebSocket::login(gateway.addresses[1], 2, "");
    let mut held = Vec::new();
    // On a crowded machine connections may end by themselves before a newcomer needs their place.
    while held.len() < 3 || metric(&gateway, |one| one.linger_evictions.get()) == 0 {
        assert!(held.len() < 30, "places are made");
        // The table may have some places more than the gateway promises.
        let first = 100 + 100 * held.len() as i64;
        let mids = first..first + PLACES as i64 - 2;
        let mut deaf: Vec<_> =
            mids.clone().map(|mid| WebSocket::login(gateway.addresses[1], mid, "")).collect();
        mids.for_each(|mid| kick(&gateway, mid));
        deaf.iter_mut().for_each(expect_last_word); // and they never answer
        lives(&mut bystander);
        held.push(deaf);
    }
    kick(&gateway, 2);
    let newcomers: Vec<_> = (10_000..10_000 + PLACES as i64 - 2).map(|mid| gateway.login(mid, "")).collect();
    expect_last_word(&mut leaving);
    assert_eq!(leaving.stream.read(&mut [0; 64]).unwrap(), 0, "nothing follows, and no reset");
    lives(&mut bystander);
    drop((held, newcomers));
}
