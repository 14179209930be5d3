//! Fuzz bodies: any bytes in, an assertion fails where an oracle does.
//!
//! Plain functions, so that `cargo test` runs them over drawn inputs and a fuzzer can run them. The
//! first bytes of an input choose suites, roles and cuts; the rest is what the peer sends.
//!
//! | body | oracles |
//! |---|---|
//! | [`cutter`] | any cuts give the same records, which are the input again; at most one is held |
//! | [`forged`] | bytes that no key has sealed never open, and nothing opens after a fault |
//! | [`content`] | whatever a peer seals: data comes out as it was, a fault is the last result |
//! | [`hello`] | any cuts give the same result |
//! | [`ticket`] | bytes that no key has sealed are no ticket |

use crate::alert::Alert;
use crate::cutter::{CutError, Cutter};
use crate::handshake::{HelloScan, TicketKey, TicketKeys, Ticketer};
use crate::layer::{Opened, RecordLayer, Traffic};
use crate::record::{Cut, RECORD_SIZE_MAX, look};
use crate::suite::{Role, Suite, Version};
use netpoll::sim::Rng;
use netpoll::{BufferPools, PoolSize, PoolsConfig};

/// Takes a choice from the input's front; 0 from an empty one.
fn choose(input: &mut &[u8]) -> u8 {
    let Some((&choice, rest)) = input.split_first() else { return 0 };
    *input = rest;
    choice
}

fn suite(choice: u8) -> Suite {
    Suite::ALL[usize::from(choice) % Suite::ALL.len()]
}

static CLIENT_SECRET: [u8; 48] = [1; 48];
static SERVER_SECRET: [u8; 48] = [2; 48];

/// Two record layers with known keys that belong together: a client's and a server's.
pub(crate) fn pair(version: Version, suite: Suite) -> (RecordLayer, RecordLayer) {
    let traffic = |secret: &'static [u8; 48]| match version {
        Version::Tls13 => Traffic::Secret { secret: &secret[..suite.secret_size()], sequence: 0 },
        // The first record of each side was its Finished.
        Version::Tls12 => Traffic::Key { key: &secret[..suite.key_size()], iv: &[3; 12], sequence: 1 },
    };
    let (up, down) = (traffic(&CLIENT_SECRET), traffic(&SERVER_SECRET));
    let client = RecordLayer::new(Role::Client, suite, &down, &up);
    (client, RecordLayer::new(Role::Server, suite, &up, &down))
}

/// Blocks for the records of one connection.
pub(crate) fn pools() -> BufferPools {
    let blocks = [256, 1024, 4096, 17 << 10].map(|size| PoolSize { size, count: 4 });
    let receive = PoolSize { size: 4096, count: 64 };
    let config = PoolsConfig { receive, blocks: blocks.to_vec(), huge_pages: false };
    BufferPools::new(&config).expect("memory for a few blocks")
}

/// Records of a stream, whatever its cuts.
pub fn cutter(mut input: &[u8]) {
    let mut rng = Rng::new(u64::from(choose(&mut input)));
    let chunk_max = 1 + usize::from(choose(&mut input)) * 16;
    let mut expected = vec![];
    let mut at = 0;
    let fault = loop {
        match look(&input[at..]) {
            Ok(Cut::Whole(size)) => {
                expected.push(&input[at..at + size]);
                at += size;
            }
            Ok(Cut::Needs(_)) => break None,
            Err(fault) => break Some(CutError::Record(fault)),
        }
    };
    let mut pools = pools();
    let (mut cutter, mut records, mut rest, mut found) = (Cutter::default(), vec![], input, None);
    while !rest.is_empty() && found.is_none() {
        let chunk = (1 + rng.below(chunk_max)).min(rest.len()).min(pools.receive_size());
        let mut buffer = pools.take_receive().expect("records were copied and dropped");
        buffer.append(&rest[..chunk]);
        rest = &rest[chunk..];
        let mut buffer = Some(buffer);
        while found.is_none() && buffer.is_some() {
            match cutter.next(&mut buffer, &mut pools) {
                Ok(Some(record)) => records.push(record.as_slice().to_vec()),
                Ok(None) => assert!(buffer.is_none()),
                Err(error) => found = Some(error),
            }
        }
        assert!(cutter.held() < RECORD_SIZE_MAX);
    }
    // A fault is seen with its record's header, however much lies before it.
    assert_eq!(found, fault);
    assert_eq!(records, expected);
    drop(cutter);
    assert!(pools.is_full(), "a block is lost");
}

/// Records that no key has sealed.
pub fn forged(mut input: &[u8]) {
    let choice = choose(&mut input);
    let version = if choice & 1 == 0 { Version::Tls13 } else { Version::Tls12 };
    let (_, mut server) = pair(version, suite(choice >> 1));
    let mut opener = server.opener();
    let mut failed = false;
    while let Ok(Cut::Whole(size)) = look(input) {
        let mut record = input[..size].to_vec();
        input = &input[size..];
        let opened = opener.open(&mut record, 0);
        assert_eq!(opened.is_err(), !failed, "{opened:?}");
        failed = true;
    }
}

/// Whatever a peer seals: types, cuts of messages, padding, empty records.
pub fn content(mut input: &[u8]) {
    let choice = choose(&mut input);
    let version = if choice & 1 == 0 { Version::Tls13 } else { Version::Tls12 };
    let (mut client, mut server) = pair(version, suite(choice >> 1));
    let (mut now_ms, mut ended) = (0_u64, false);
    let mut scratch = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    while !input.is_empty() {
        let (kind, size) = (choose(&mut input), usize::from(choose(&mut input)));
        let (plaintext, rest) = input.split_at(size.min(input.len()));
        input = rest;
        // Half of all types are those that have a meaning; 0 makes the plaintext's end the type.
        let kind = if kind & 1 == 0 { 20 + (kind >> 1) % 5 } else { kind.wrapping_add(1) };
        let mut record = sealed(&mut client, kind, plaintext);
        now_ms += u64::from(kind);
        let opened = server.opener().open(&mut record, now_ms);
        if let Ok(Opened::Data(range)) = &opened {
            assert_eq!((23, &record[range.clone()]), inner(version, kind, plaintext));
        }
        let ends = !matches!(opened, Ok(Opened::Data(_) | Opened::Nothing));
        assert!(!ended || opened == Ok(Opened::Nothing), "{opened:?} behind the end");
        ended |= ends;
        // After a KeyUpdate the peer goes on with its next key, too.
        if !ended && server.directions().0.sequence() == 0 {
            client.directions().1.renew();
        }
        // One KeyUpdate and one refusal at most are due at a time.
        let sealed = (0..3).take_while(|_| server.seal_control(&mut scratch).is_some()).count();
        assert!(sealed < 3 && !server.is_control_due());
    }
    assert!(server.seal_alert(Alert::CloseNotify, &mut scratch).is_some());
    assert!(server.seal_alert(Alert::CloseNotify, &mut scratch).is_none());
}

/// What a receiver takes for type and content.
fn inner(version: Version, kind: u8, plaintext: &[u8]) -> (u8, &[u8]) {
    let end = plaintext.iter().rposition(|byte| *byte != 0);
    match (version, kind, end) {
        (Version::Tls13, 0, Some(end)) => (plaintext[end], &plaintext[..end]),
        _ => (kind, plaintext),
    }
}

/// A record of any content type, as a faulty peer may send it.
pub(crate) fn sealed(layer: &mut RecordLayer, kind: u8, plaintext: &[u8]) -> Vec<u8> {
    let (start, size) = (layer.plaintext_start(), layer.record_size(plaintext.len()));
    let mut record = vec![0; size];
    record[start..start + plaintext.len()].copy_from_slice(plaintext);
    layer.directions().1.seal(kind, &mut record);
    record
}

/// The bytes of a ClientHello, whatever their cuts.
pub fn hello(mut input: &[u8]) {
    let mut rng = Rng::new(u64::from(choose(&mut input)));
    let whole = HelloScan::default().look(input);
    let (mut scan, mut end) = (HelloScan::default(), 0);
    while end < input.len() {
        end = (end + 1 + rng.below(64)).min(input.len());
        match scan.look(&input[..end]) {
            Ok(None) => {}
            decided => {
                // A fault may lie behind the bound, where one look finds the bound first.
                assert!(decided == whole || decided.is_err() && whole.is_err(), "{decided:?} {whole:?}");
                return;
            }
        }
    }
    assert!(input.is_empty() || whole == Ok(None), "{whole:?}");
}

/// Tickets that no key has sealed.
pub fn ticket(input: &[u8]) {
    let key = |byte| TicketKey::from_bytes(&[byte; TicketKey::SIZE]);
    let keys = TicketKeys { next: key(1), current: key(2), previous: Some(key(3)) };
    let ticketer = Ticketer::new(keys);
    assert!(ticketer.open(input).is_none());
    let named: Vec<u8> = [&[2; 16], input].concat();
    assert!(ticketer.open(&named).is_none());
}
