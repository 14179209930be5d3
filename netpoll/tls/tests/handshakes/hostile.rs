//! What a hostile peer sends before the handshake is done.

use crate::peers::{Client, Server, Shared, client_config, pump};
use netpoll_tls::{
    Alert, HANDSHAKE_BYTES_MAX, HELLO_BYTES_MAX, HELLO_SIZE_MAX, HandshakeError, HelloScan, Step,
};
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};

const HEADER_SIZE: usize = netpoll_tls::HEADER_SIZE;

fn client() -> Client {
    Client::new(client_config(&TLS13, aws_lc_rs::default_provider()), "gateway.example")
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[kind, 3, 1, length[0], length[1]], body].concat()
}

/// The ClientHello's message in records of `size` bytes.
fn hello_in_records_of(size: usize, hello: &[u8]) -> Vec<u8> {
    hello[HEADER_SIZE..].chunks(size).flat_map(|part| record(22, part)).collect()
}

#[test]
fn a_hello_in_small_records_is_a_hello() {
    let shared = Shared::new(&[]);
    for size in [1, 2, 100] {
        let (mut client, mut server) = (client(), Server::new(&shared));
        let hello = hello_in_records_of(size, &client.flush());
        assert!(hello.len() < HELLO_BYTES_MAX);
        hello.chunks(3).for_each(|piece| server.receive(piece));
        client.send(b"data");
        pump(&mut client, &mut server, usize::MAX);
        assert_eq!(server.received, b"data", "in records of {size}");
    }
}

#[test]
fn a_hello_that_never_ends_is_bounded() {
    // A length beyond the bound is seen at once.
    let length = (HELLO_SIZE_MAX as u32).to_be_bytes();
    let head = [1, length[1], length[2], length[3]];
    assert_eq!(HelloScan::default().look(&record(22, &head)), Err(Alert::IllegalParameter));
    assert_eq!(HelloScan::default().look(&record(22, &[1, 1, 0, 0])), Err(Alert::IllegalParameter));
    // One-byte records, each of which says little.
    let mut bytes = record(22, &[1, 0, 63, 0]);
    let mut scan = HelloScan::default();
    while scan.look(&bytes) == Ok(None) {
        bytes.extend_from_slice(&record(22, &[0]));
        assert!(bytes.len() <= HELLO_BYTES_MAX + 6);
    }
    assert_eq!(scan.look(&bytes), Err(Alert::IllegalParameter));
}

#[test]
fn other_protocols_are_refused_at_their_first_bytes() {
    let shared = Shared::new(&[]);
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\0\0\0\x14\0\x10\0\x01",
        b"SSH-2.0-",
        &[0x80, 0x2e, 1, 3, 1],
        &[23],
        &[21, 3, 3, 0, 2, 1, 0],
        &[22, 3, 1, 0, 0],
        // A ServerHello.
        &[22, 3, 1, 0, 1, 2],
        // A record that is too long.
        &[22, 3, 1, 0x41, 1],
    ] {
        let mut server = Server::new(&shared);
        server.receive(bytes);
        assert_eq!(server.failure, Some(HandshakeError::Malformed), "{bytes:?}");
        assert_eq!((server.outbox.len(), server.outbox[0]), (7, 21), "an alert");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_clients_flight_fails_or_is_no_other_connection() {
    let shared = Shared::new(&[]);
    for version in [&TLS13, &TLS12] {
        let config = || client_config(version, aws_lc_rs::default_provider());
        let hello = Client::new(config(), "gateway.example").flush();
        for at in (HEADER_SIZE..hello.len()).step_by(7) {
            let (mut client, mut server) = (Client::new(config(), "gateway.example"), Server::new(&shared));
            let mut hello = client.flush();
            let at = at.min(hello.len() - 1);
            hello[at] ^= 1;
            server.receive(&hello);
            client.send(b"data");
            pump(&mut client, &mut server, usize::MAX);
            // Both see another transcript, so no handshake is completed.
            assert!(server.peer.is_none() && server.received.is_empty(), "byte {at}");
        }
    }
}

#[test]
fn garbage_after_the_hello_ends_with_an_alert() {
    let shared = Shared::new(&[]);
    for body in [&[0; 40][..], &[7; 100]] {
        let (mut client, mut server) = (client(), Server::new(&shared));
        server.receive(&client.flush());
        server.outbox.clear();
        server.receive(&record(23, body));
        assert_eq!(server.failure, Some(HandshakeError::Misbehaved));
        // Under the handshake's key, so its type is that of protected records.
        assert_eq!(server.outbox[0], 23);
    }
}

#[test]
fn bytes_before_finished_are_bounded() {
    // A ClientHello of almost 64 KiB that comes byte by byte, past the scan of a careful owner.
    let shared = Shared::new(&[]);
    let mut machine = shared.acceptor.begin().unwrap();
    let (mut sent, mut output, mut next) = (0, vec![], record(22, &[1, 0, 255, 0]));
    let failure = loop {
        sent += next.len();
        match machine.step(&next, &mut output).1 {
            Step::More(more) => machine = more,
            Step::Failed(failure) => break failure,
            Step::Done(_) => panic!("done without Finished"),
        }
        assert!(sent <= HANDSHAKE_BYTES_MAX);
        next = record(22, &[0]);
    };
    assert_eq!(failure, HandshakeError::TooLong);
    assert_eq!(output, [21, 3, 3, 0, 2, 2, Alert::IllegalParameter as u8]);
}

#[test]
fn change_cipher_specs_before_finished_are_few() {
    let shared = Shared::new(&[]);
    let (mut client, mut server) = (client(), Server::new(&shared));
    server.receive(&client.flush());
    let ignored = (0..100).take_while(|_| {
        server.receive(&record(20, &[1]));
        server.failure.is_none()
    });
    assert!(ignored.count() < 10);
    assert_eq!(server.failure, Some(HandshakeError::Misbehaved));
}

#[test]
fn a_record_too_long_before_finished_ends_with_an_alert() {
    let shared = Shared::new(&[]);
    let (mut client, mut server) = (client(), Server::new(&shared));
    server.receive(&client.flush());
    server.outbox.clear();
    server.receive(&[23, 3, 3, 0x41, 1]);
    assert_eq!(server.failure, Some(HandshakeError::TooLong));
    assert_eq!(server.outbox, [21, 3, 3, 0, 2, 2, Alert::RecordOverflow as u8]);
}
