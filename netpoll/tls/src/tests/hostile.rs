//! What a hostile peer sends after the handshake. A peer that has the keys may seal anything.

use super::raw;
use crate::alert::{Alert, RecordError};
use crate::fuzzing::{pair, sealed};
use crate::layer::{Opened, RecordLayer};
use crate::record::{BODY_SIZE_MAX, PLAINTEXT_SIZE_MAX};
use crate::suite::{Suite, Version};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// What the server makes of one record with this content.
fn answer(version: Version, kind: u8, content: &[u8]) -> Result<Opened, RecordError> {
    let (mut client, mut server) = pair(version, Suite::Aes128Gcm);
    let mut record = sealed(&mut client, kind, content);
    server.opener().open(&mut record, 0)
}

#[test]
fn a_record_is_bounded() {
    let (_, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
    let mut too_long = raw(DATA, &vec![0; BODY_SIZE_MAX + 1]);
    assert_eq!(server.opener().open(&mut too_long, 0), Err(RecordError::TooLong));
    assert_eq!(RecordError::TooLong.alert(), Alert::RecordOverflow);
    // A body within its limit with a plaintext beyond its own: 2^14 bytes, and the type.
    assert_eq!(answer(Version::Tls13, DATA, &vec![1; PLAINTEXT_SIZE_MAX + 1]), Err(RecordError::TooLong));
    assert_eq!(answer(Version::Tls12, DATA, &vec![1; PLAINTEXT_SIZE_MAX + 1]), Err(RecordError::TooLong));
    assert!(matches!(answer(Version::Tls13, DATA, &vec![1; PLAINTEXT_SIZE_MAX]), Ok(Opened::Data(_))));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    for version in [Version::Tls13, Version::Tls12] {
        for suite in Suite::ALL {
            let (mut client, _) = pair(version, suite);
            let record = sealed(&mut client, DATA, b"sixteen bytes of");
            for at in 0..record.len() {
                let (_, mut server) = pair(version, suite);
                let mut changed = record.clone();
                changed[at] ^= 1;
                let expected = match (at, version) {
                    (0, Version::Tls13) => RecordError::Unprotected,
                    // A length that no cutter would have passed.
                    (3 | 4, _) => RecordError::Malformed,
                    _ => RecordError::BadTag,
                };
                let opened = server.opener().open(&mut changed, 0);
                assert_eq!(opened, Err(expected), "{version:?} {suite:?}: byte {at}");
            }
        }
    }
}

#[test]
fn records_that_are_repeated_dropped_or_swapped_do_not_open() {
    for version in [Version::Tls13, Version::Tls12] {
        for order in [&[0, 0][..], &[1], &[0, 2]] {
            let (mut client, mut server) = pair(version, Suite::ChaCha20Poly1305);
            let records: Vec<_> = (0..3).map(|byte| sealed(&mut client, DATA, &[byte])).collect();
            let opened: Vec<_> =
                order.iter().map(|index| server.opener().open(&mut records[*index].clone(), 0)).collect();
            assert_eq!(opened.last(), Some(&Err(RecordError::BadTag)), "{version:?} {order:?}");
        }
    }
}

#[test]
fn a_body_without_room_for_a_tag_does_not_open() {
    for version in [Version::Tls13, Version::Tls12] {
        for size in 0..=24 {
            let (_, mut server) = pair(version, Suite::Aes128Gcm);
            let opened = server.opener().open(&mut raw(DATA, &vec![0; size]), 0);
            assert_eq!(opened, Err(RecordError::BadTag), "{version:?} {size}");
        }
    }
}

#[test]
fn padding_is_stripped_and_padding_alone_is_a_fault() {
    // Content type 0 on the wire makes the plaintext's own end the type.
    let padded = |padding: usize| [&b"text"[..], &[DATA], &vec![0; padding]].concat();
    for padding in [0, 1, 255, PLAINTEXT_SIZE_MAX - 5] {
        assert_eq!(answer(Version::Tls13, 0, &padded(padding)), Ok(Opened::Data(5..9)));
    }
    for size in [0, 1, 1000, PLAINTEXT_SIZE_MAX] {
        assert_eq!(answer(Version::Tls13, 0, &vec![0; size]), Err(RecordError::NoContent));
    }
}

#[test]
fn records_in_clear_text_end_the_connection() {
    for (kind, body) in [(ALERT, &[1, 0][..]), (ALERT, &[2, 40]), (20, &[1]), (HANDSHAKE, &[24, 0, 0, 1, 0])]
    {
        let (_, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
        let opened = server.opener().open(&mut raw(kind, body), 0);
        assert_eq!(opened, Err(RecordError::Unprotected), "type {kind}");
        let (_, mut server) = pair(Version::Tls12, Suite::Aes128Gcm);
        assert_eq!(server.opener().open(&mut raw(kind, body), 0), Err(RecordError::BadTag), "type {kind}");
    }
    // Protected by the keys, and still without a place.
    for kind in [20, 24, 99, 255] {
        assert_eq!(answer(Version::Tls13, kind, &[1]), Err(RecordError::Unexpected));
        assert_eq!(answer(Version::Tls12, kind, &[1]), Err(RecordError::Unexpected));
    }
}

#[test]
fn empty_records_are_bounded_in_a_row() {
    for version in [Version::Tls13, Version::Tls12] {
        let (mut client, mut server) = pair(version, Suite::Aes128Gcm);
        let mut send =
            |kind, content: &[u8]| server.opener().open(&mut sealed(&mut client, kind, content), 0);
        for _ in 0..100 {
            assert!((0..32).all(|_| send(DATA, &[]) == Ok(Opened::Nothing)));
            assert!(matches!(send(DATA, b"x"), Ok(Opened::Data(_))));
        }
        // Alerts that change nothing count as well.
        assert!((0..16).all(|_| send(DATA, &[]) == Ok(Opened::Nothing)));
        assert!((0..16).all(|_| send(ALERT, &Alert::UserCanceled.to_bytes()) == Ok(Opened::Nothing)));
        assert_eq!(send(DATA, &[]), Err(RecordError::TooManyEmpty));
    }
}

#[test]
fn alerts_are_whole_and_alone() {
    for version in [Version::Tls13, Version::Tls12] {
        for content in [&[][..], &[2], &[2, 40, 0], &[1, 0, 1, 0]] {
            assert_eq!(answer(version, ALERT, content), Err(RecordError::Malformed), "{content:?}");
        }
        assert_eq!(answer(version, ALERT, &[1, 0]), Ok(Opened::Closed));
        assert_eq!(answer(version, ALERT, &[2, 40]), Ok(Opened::Alert(40)));
    }
    // TLS 1.3 has no warnings but these two; TLS 1.2 has others.
    assert_eq!(answer(Version::Tls13, ALERT, &[1, 100]), Ok(Opened::Alert(100)));
    assert_eq!(answer(Version::Tls12, ALERT, &[1, 100]), Ok(Opened::Nothing));
}

#[test]
fn nothing_is_heard_behind_the_end() {
    let ends = [(ALERT, &[1, 0][..]), (ALERT, &[2, 40]), (99, &[1])];
    for (kind, content) in ends {
        let (mut client, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
        let _ = server.opener().open(&mut sealed(&mut client, kind, content), 0);
        let later = sealed(&mut client, DATA, b"later");
        for mut record in [later, raw(DATA, b"noise"), raw(ALERT, &[2, 40])] {
            assert_eq!(server.opener().open(&mut record, 0), Ok(Opened::Nothing));
        }
    }
}

/// Sends a KeyUpdate cut at `cuts`, then data under the next key.
fn split_key_update(cuts: &[usize]) {
    let (mut client, mut server) = pair(Version::Tls13, Suite::Aes256Gcm);
    let update = [24, 0, 0, 1, 1];
    let mut from = 0;
    for to in cuts.iter().copied().chain([update.len()]) {
        let mut record = sealed(&mut client, HANDSHAKE, &update[from..to]);
        assert_eq!(server.opener().open(&mut record, 0), Ok(Opened::Nothing), "{cuts:?}");
        assert_eq!(server.is_control_due(), to == update.len(), "{cuts:?}");
        from = to;
    }
    client.directions().1.renew();
    let mut record = sealed(&mut client, DATA, b"next");
    assert!(matches!(server.opener().open(&mut record, 0), Ok(Opened::Data(_))), "{cuts:?}");
}

#[test]
fn a_key_update_may_be_split_anywhere() {
    (1..5).for_each(|cut| split_key_update(&[cut]));
    split_key_update(&[1, 2, 3, 4]);
    split_key_update(&[]);
}

#[test]
fn a_split_message_is_not_interrupted() {
    for cut in 1..5 {
        for (kind, content) in [(DATA, &b"data"[..]), (DATA, b""), (ALERT, &[1, 0])] {
            let (mut client, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
            let part = &[24, 0, 0, 1, 0][..cut];
            let mut record = sealed(&mut client, HANDSHAKE, part);
            assert_eq!(server.opener().open(&mut record, 0), Ok(Opened::Nothing));
            let mut record = sealed(&mut client, kind, content);
            assert_eq!(server.opener().open(&mut record, 0), Err(RecordError::Interleaved));
        }
    }
}

#[test]
fn faulty_key_updates_have_their_alerts() {
    let faults: [(&[u8], RecordError, Alert); 10] = [
        (&[24, 0, 0, 1, 2], RecordError::BadKeyUpdate, Alert::IllegalParameter),
        (&[24, 0, 0, 1, 255], RecordError::BadKeyUpdate, Alert::IllegalParameter),
        (&[24, 0, 0, 0], RecordError::Malformed, Alert::DecodeError),
        (&[24, 0, 0, 2], RecordError::Malformed, Alert::DecodeError),
        (&[24, 255, 255, 255], RecordError::Malformed, Alert::DecodeError),
        (&[24, 0, 0, 1, 0, 0], RecordError::KeyUpdateNotLast, Alert::UnexpectedMessage),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], RecordError::KeyUpdateNotLast, Alert::UnexpectedMessage),
        (&[], RecordError::Unexpected, Alert::UnexpectedMessage),
        // A ClientHello, and a ticket from a client.
        (&[1, 0, 0, 4], RecordError::Unexpected, Alert::UnexpectedMessage),
        (&[4, 0, 0, 1, 0], RecordError::Unexpected, Alert::UnexpectedMessage),
    ];
    for (content, fault, alert) in faults {
        assert_eq!(answer(Version::Tls13, HANDSHAKE, content), Err(fault), "{content:?}");
        assert_eq!(fault.alert(), alert);
    }
    // TLS 1.2 has no KeyUpdate.
    assert_eq!(answer(Version::Tls12, HANDSHAKE, &[24, 0, 0, 1, 0]), Err(RecordError::Unexpected));
}

/// KeyUpdates that pass, one every `interval_ms`, of `count`.
fn key_updates(interval_ms: u64, count: u64) -> u64 {
    let (mut client, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
    let mut scratch = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    for index in 0..count {
        let mut record = sealed(&mut client, HANDSHAKE, &[24, 0, 0, 1, 1]);
        match server.opener().open(&mut record, 1_000_000 + index * interval_ms) {
            Ok(opened) => assert_eq!(opened, Opened::Nothing),
            Err(fault) => {
                assert_eq!(fault, RecordError::TooManyKeyUpdates);
                return index;
            }
        }
        client.directions().1.renew();
        assert!(server.seal_control(&mut scratch).is_some());
    }
    count
}

#[test]
fn key_updates_are_bounded_by_time_and_not_by_number() {
    assert_eq!(key_updates(0, 1000), 32);
    assert!((32..40).contains(&key_updates(1, 1000)));
    assert_eq!(key_updates(100, 1000), 1000);
}

#[test]
fn another_handshake_is_refused_once() {
    let (mut client, mut server) = pair(Version::Tls12, Suite::Aes128Gcm);
    let hello = [&[1, 0, 1, 44][..], &[7; 300]].concat();
    let mut scratch = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    // Split anywhere, it is one request.
    for part in hello.chunks(3) {
        let mut record = sealed(&mut client, HANDSHAKE, part);
        let opened = server.opener().open(&mut record, 0);
        // Parts that bring nothing are bounded like empty records, so data comes in between.
        assert!(matches!(opened, Ok(Opened::Nothing)), "{opened:?}");
        let mut data = sealed(&mut client, DATA, b"x");
        assert!(matches!(server.opener().open(&mut data, 0), Ok(Opened::Data(_))));
    }
    let size = server.seal_control(&mut scratch).unwrap();
    assert_eq!(server.seal_control(&mut scratch.clone()), None);
    // A warning, so the client goes on.
    assert_eq!(client.opener().open(&mut scratch[..size], 0), Ok(Opened::Nothing));
    let mut record = sealed(&mut client, HANDSHAKE, &hello);
    assert_eq!(server.opener().open(&mut record, 0), Err(RecordError::Renegotiation));
}

#[test]
fn tickets_are_skipped_by_a_client_and_bounded() {
    let (mut client, mut server) = pair(Version::Tls13, Suite::Aes128Gcm);
    let ticket = [&[4, 0, 1, 44][..], &[7; 300]].concat();
    for part in ticket.chunks(100) {
        let mut record = sealed(&mut server, HANDSHAKE, part);
        assert_eq!(client.opener().open(&mut record, 0), Ok(Opened::Nothing));
    }
    let mut data = sealed(&mut server, DATA, b"data");
    assert!(matches!(client.opener().open(&mut data, 0), Ok(Opened::Data(_))));
    let mut record = sealed(&mut server, HANDSHAKE, &[4, 1, 0, 0]);
    assert_eq!(client.opener().open(&mut record, 0), Err(RecordError::Malformed));
}
