//! Two record layers that speak to each other; what one is sent, the other receives.

use super::drawn;
use crate::alert::Alert;
use crate::fuzzing::{pair, sealed};
use crate::layer::{Opened, RENEW_AT, RecordLayer, SealError};
use crate::record::{HEADER_SIZE, PLAINTEXT_SIZE_MAX};
use crate::suite::{Suite, Version};
use netpoll::sim::Rng;
use std::collections::{HashSet, VecDeque};

const VERSIONS: [Version; 2] = [Version::Tls13, Version::Tls12];

fn each_kind(mut run: impl FnMut(Version, Suite)) {
    for version in VERSIONS {
        Suite::ALL.into_iter().for_each(|suite| run(version, suite));
    }
}

/// One side, with the records that are on their way to it.
struct Side {
    layer: RecordLayer,
    inbox: VecDeque<Vec<u8>>,
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Keys and nonces of all records that this side has sealed.
    used: HashSet<(Vec<u8>, u64)>,
    /// The parts of nonces that its records have carried, under the one key of TLS 1.2.
    carried: HashSet<Vec<u8>>,
    key_updates: usize,
}

impl Side {
    fn new(layer: RecordLayer) -> Side {
        let (inbox, sent, received) = (VecDeque::new(), vec![], vec![]);
        Side { layer, inbox, sent, received, used: HashSet::new(), carried: HashSet::new(), key_updates: 0 }
    }

    fn note_nonce(&mut self) {
        let send = self.layer.directions().1;
        let nonce = (send.keys().0.to_vec(), send.sequence());
        assert!(self.used.insert(nonce), "a number is used twice under a key");
    }

    fn send_control(&mut self, to: &mut VecDeque<Vec<u8>>) {
        for _ in 0..3 {
            let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
            if self.layer.is_control_due() {
                self.note_nonce();
            }
            let Some(size) = self.layer.seal_control(&mut record) else { return };
            self.key_updates += 1;
            record.truncate(size);
            to.push_back(record);
        }
        panic!("control messages go on and on");
    }

    fn send(&mut self, data: &[u8], to: &mut VecDeque<Vec<u8>>) {
        self.send_control(to);
        let (start, size) = (self.layer.plaintext_start(), self.layer.record_size(data.len()));
        let mut record = vec![0; size];
        record[start..start + data.len()].copy_from_slice(data);
        self.note_nonce();
        self.layer.seal(&mut record).unwrap();
        let explicit = self.layer.directions().1.explicit_nonce_size();
        let carried = record[HEADER_SIZE..HEADER_SIZE + explicit].to_vec();
        assert!(explicit == 0 || self.carried.insert(carried), "a nonce is carried twice");
        self.sent.extend_from_slice(data);
        to.push_back(record);
    }

    fn receive(&mut self, count: usize, now_ms: u64) {
        let mut opener = self.layer.opener();
        for mut record in self.inbox.drain(..count.min(self.inbox.len())) {
            match opener.open(&mut record, now_ms).unwrap() {
                Opened::Data(range) => self.received.extend_from_slice(&record[range]),
                opened => assert_eq!(opened, Opened::Nothing),
            }
        }
    }
}

#[test]
fn what_is_sealed_opens_in_order_over_key_updates() {
    for seed in 0..40 {
        each_kind(|version, suite| {
            let mut rng = Rng::new(seed);
            let (client, server) = pair(version, suite);
            let mut sides = [Side::new(client), Side::new(server)];
            let mut now_ms = rng.next_u64() >> 20;
            for _ in 0..120 {
                now_ms += rng.below(400) as u64;
                let [one, other] = &mut sides;
                let size = [1, rng.below(300), rng.below(PLAINTEXT_SIZE_MAX + 1)][rng.below(3)];
                match rng.below(8) {
                    0..3 => one.send(&drawn(&mut rng, size), &mut other.inbox),
                    3..6 => one.receive(rng.below(20), now_ms),
                    6 => one.layer.request_key_update(),
                    _ => one.send_control(&mut other.inbox),
                }
                if rng.chance(0.5) {
                    sides.reverse();
                }
            }
            now_ms += 10_000;
            sides.iter_mut().for_each(|side| side.receive(usize::MAX, now_ms));
            let [one, other] = &sides;
            assert!(
                one.received == other.sent && other.received == one.sent,
                "seed {seed}: {version:?} {suite:?}"
            );
            let updates = one.key_updates + other.key_updates;
            assert!(updates > 0 || version == Version::Tls12, "seed {seed}: no key was renewed");
        });
    }
}

fn seal(layer: &mut RecordLayer, data: &[u8]) -> Result<Vec<u8>, SealError> {
    let (start, size) = (layer.plaintext_start(), layer.record_size(data.len()));
    let mut record = vec![0; size];
    record[start..start + data.len()].copy_from_slice(data);
    layer.seal(&mut record).map(|()| record)
}

fn control(layer: &mut RecordLayer) -> Option<Vec<u8>> {
    let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    let size = layer.seal_control(&mut record)?;
    record.truncate(size);
    Some(record)
}

#[test]
fn a_request_is_answered_once_and_before_data() {
    let (mut client, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
    // Two requests before the answer: one answer (RFC 8446, 4.6.3).
    for now_ms in [0, 1000] {
        let mut request = sealed(&mut client, 22, &[24, 0, 0, 1, 1]);
        assert_eq!(server.opener().open(&mut request, now_ms), Ok(Opened::Nothing));
        client.directions().1.renew();
    }
    assert_eq!(seal(&mut server, b"x"), Err(SealError::ControlDue));
    let mut answer = control(&mut server).unwrap();
    assert_eq!(control(&mut server), None);
    assert_eq!(client.opener().open(&mut answer, 0), Ok(Opened::Nothing));
    let mut data = seal(&mut server, b"x").unwrap();
    assert!(matches!(client.opener().open(&mut data, 0), Ok(Opened::Data(_))));
    // The answer asks for nothing, so it is not answered.
    assert_eq!(control(&mut client), None);
}

#[test]
fn one_request_of_ours_is_outstanding() {
    let (mut client, mut server) = pair(Version::Tls13, Suite::ChaCha20Poly1305);
    server.request_key_update();
    let mut request = control(&mut server).unwrap();
    server.request_key_update();
    assert_eq!(control(&mut server), None);
    assert_eq!(client.opener().open(&mut request, 0), Ok(Opened::Nothing));
    let mut answer = control(&mut client).unwrap();
    assert_eq!(server.opener().open(&mut answer, 0), Ok(Opened::Nothing));
    // The second wish is granted now.
    assert!(control(&mut server).is_some());
}

#[test]
fn a_key_is_renewed_at_its_limit() {
    for suite in Suite::ALL {
        let (mut client, mut server) = pair(Version::Tls13, suite);
        client.directions().0.set_sequence(RENEW_AT - 1);
        server.directions().1.set_sequence(RENEW_AT - 1);
        let mut last = seal(&mut server, b"last").unwrap();
        assert!(matches!(client.opener().open(&mut last, 0), Ok(Opened::Data(_))));
        assert_eq!(seal(&mut server, b"next"), Err(SealError::ControlDue));
        let mut update = control(&mut server).unwrap();
        assert_eq!(client.opener().open(&mut update, 0), Ok(Opened::Nothing));
        let mut next = seal(&mut server, b"next").unwrap();
        assert!(matches!(client.opener().open(&mut next, 0), Ok(Opened::Data(_))));
    }
}

#[test]
fn a_peer_is_asked_once_to_renew_a_key_at_its_limit() {
    let (mut client, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
    client.directions().1.set_sequence(RENEW_AT);
    server.directions().0.set_sequence(RENEW_AT);
    let mut request = control(&mut server).unwrap();
    assert_eq!(control(&mut server), None);
    assert_eq!(client.opener().open(&mut request, 0), Ok(Opened::Nothing));
    let mut answer = control(&mut client).unwrap();
    assert_eq!(server.opener().open(&mut answer, 0), Ok(Opened::Nothing));
    assert_eq!((control(&mut server), control(&mut client)), (None, None));
}

#[test]
fn a_used_up_key_of_tls12_leaves_an_alert() {
    let (mut client, mut server) = pair(Version::Tls12, Suite::Aes128Gcm);
    client.directions().0.set_sequence(RENEW_AT - 1);
    server.directions().1.set_sequence(RENEW_AT - 1);
    let mut last = seal(&mut server, b"last").unwrap();
    assert!(matches!(client.opener().open(&mut last, 0), Ok(Opened::Data(_))));
    assert!(server.is_exhausted());
    assert_eq!(seal(&mut server, b"next"), Err(SealError::Exhausted));
    assert_eq!(control(&mut server), None);
    let mut alert = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    let size = server.seal_alert(Alert::CloseNotify, &mut alert).unwrap();
    assert_eq!(client.opener().open(&mut alert[..size], 0), Ok(Opened::Closed));
}

#[test]
fn a_closed_direction_ends_and_the_other_goes_on() {
    each_kind(|version, suite| {
        let (mut client, mut server) = pair(version, suite);
        let mut alert = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
        let size = client.seal_alert(Alert::CloseNotify, &mut alert).unwrap();
        assert_eq!(server.opener().open(&mut alert[..size], 0), Ok(Opened::Closed));
        assert_eq!(seal(&mut client, b"more"), Err(SealError::Ended));
        assert_eq!(control(&mut client), None);
        assert_eq!(client.seal_alert(Alert::InternalError, &mut alert), None);
        let mut answer = seal(&mut server, b"answer").unwrap();
        assert!(matches!(client.opener().open(&mut answer, 0), Ok(Opened::Data(_))));
    });
}

#[test]
fn the_largest_record_has_the_largest_plaintext() {
    each_kind(|version, suite| {
        let (mut client, mut server) = pair(version, suite);
        let mut record = seal(&mut client, &[5; PLAINTEXT_SIZE_MAX]).unwrap();
        assert!(record.len() <= crate::RECORD_SIZE_MAX);
        let Ok(Opened::Data(range)) = server.opener().open(&mut record, 0) else { panic!("does not open") };
        assert_eq!(record[range], [5; PLAINTEXT_SIZE_MAX]);
    });
}
