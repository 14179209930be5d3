//! What records and handshakes cost on this machine, on one thread: medians of rounds, of the time
//! that passes, so nothing else should run beside it.
//!
//! `cargo run --release -p netpoll-tls --example record_cost`

use netpoll_tls::{
    Acceptor, CertificateEntry, CertificateStore, Certificates, Opened, RecordLayer, Role, ServerSettings,
    Step, Suite, TicketKeys, Ticketer, Traffic,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const RECORDS: usize = 20_000;
const HANDSHAKES: usize = 200;

fn pair(suite: Suite) -> (RecordLayer, RecordLayer) {
    let traffic =
        |secret: &'static [u8; 48]| Traffic::Secret { secret: &secret[..suite.secret_size()], sequence: 0 };
    let (up, down) = (traffic(&[1; 48]), traffic(&[2; 48]));
    let client = RecordLayer::new(Role::Client, suite, &down, &up);
    (client, RecordLayer::new(Role::Server, suite, &up, &down))
}

fn median(mut rounds: Vec<Duration>, count: usize) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2].as_nanos() as f64 / count as f64
}

/// Nanoseconds a record: sealing, opening in batches of 50, opening one by one.
fn records(suite: Suite, size: usize) -> [f64; 3] {
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..ROUNDS {
        let (mut client, mut server) = pair(suite);
        let mut records: Vec<Vec<u8>> = (0..RECORDS).map(|_| vec![7; client.record_size(size)]).collect();
        let start = Instant::now();
        records.iter_mut().for_each(|record| client.seal(record).expect("the key is young"));
        times[0].push(start.elapsed());
        let copies = records.clone();
        let start = Instant::now();
        for batch in records.chunks_mut(50) {
            let mut opener = server.opener();
            for record in batch {
                assert!(matches!(opener.open(record, 0), Ok(Opened::Data(_))));
            }
        }
        times[1].push(start.elapsed());
        let (_, mut server) = pair(suite);
        let mut records = copies;
        let start = Instant::now();
        for record in &mut records {
            assert!(matches!(server.opener().open(record, 0), Ok(Opened::Data(_))));
        }
        times[2].push(start.elapsed());
    }
    times.map(|rounds| median(rounds, RECORDS))
}

fn acceptor() -> Acceptor {
    let entry = CertificateEntry {
        names: &[],
        chain_pem: include_bytes!("../tests/keys/default.pem"),
        key_pem: include_bytes!("../tests/keys/default.key.pem"),
    };
    let certificates = Certificates::new(&[entry]).expect("a certificate");
    let settings = ServerSettings {
        certificates: Arc::new(CertificateStore::new(certificates)),
        tickets: Arc::new(Ticketer::new(TicketKeys::random().expect("random bytes"))),
        protocols: vec![],
    };
    Acceptor::new(settings).expect("the library has what is needed")
}

/// Microseconds of the server's first step, up to its flight. The step behind the client's Finished
/// is short beside it.
fn first_steps(acceptor: &Acceptor, hello: &[u8]) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for _ in 0..HANDSHAKES {
            let machine = acceptor.begin().expect("a machine");
            let (_, step) = machine.step(hello, &mut Vec::with_capacity(4096));
            assert!(matches!(step, Step::More(_)));
        }
        start.elapsed()
    });
    median(rounds.collect(), HANDSHAKES) / 1000.0
}

fn main() {
    println!("a connection keeps {} bytes", RecordLayer::SIZE);
    println!("ns a record                 seal   open, 50 a batch   open, one by one");
    for suite in Suite::ALL {
        for size in [64, 1024, 16_384] {
            let [seal, batch, single] = records(suite, size);
            println!("{:20} {size:6} {seal:8.0} {batch:12.0} {single:16.0}", format!("{suite:?}"));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
    let config =
        Arc::new(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    let name = rustls::pki_types::ServerName::try_from("gateway.example").expect("a name");
    let mut client = rustls::ClientConnection::new(config, name).expect("a client");
    let mut hello = vec![];
    client.write_tls(&mut hello).expect("a vector takes all bytes");
    println!("us of a first step: {:.0}", first_steps(&acceptor(), &hello));
}
