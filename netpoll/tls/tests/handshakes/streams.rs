//! Every version and suite: what each side sends arrives, over KeyUpdates, until both close.

use crate::peers::{Client, Server, Shared, client_config, pump};
use netpoll_tls::{Suite, Version};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig};

const SUITES: [(Version, Suite, CipherSuite); 6] = [
    (Version::Tls13, Suite::Aes128Gcm, CipherSuite::TLS13_AES_128_GCM_SHA256),
    (Version::Tls13, Suite::Aes256Gcm, CipherSuite::TLS13_AES_256_GCM_SHA384),
    (Version::Tls13, Suite::ChaCha20Poly1305, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (Version::Tls12, Suite::Aes128Gcm, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    (Version::Tls12, Suite::Aes256Gcm, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (Version::Tls12, Suite::ChaCha20Poly1305, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
];

fn config(version: Version, suite: CipherSuite) -> ClientConfig {
    let mut provider: CryptoProvider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    client_config(if version == Version::Tls13 { &TLS13 } else { &TLS12 }, provider)
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 % 251) as u8).collect()
}

#[test]
fn streams_of_all_sizes_arrive_with_every_suite() {
    let shared = Shared::new(&[]);
    for (version, suite, offered) in SUITES {
        for size in [1, 7, 1000, usize::MAX] {
            let mut client = Client::new(config(version, offered), "gateway.example");
            let mut server = Server::new(&shared);
            pump(&mut client, &mut server, size);
            assert_eq!((server.layer().version(), server.layer().suite()), (version, suite));
            let (mut up, mut down) = (vec![], vec![]);
            for count in [1, 2, 100, 5000, 16_384, 40_000] {
                client.send(&bytes(count));
                up.extend(bytes(count));
                server.send(&bytes(count));
                down.extend(pump(&mut client, &mut server, size));
                assert_eq!(down.len(), up.len(), "{suite:?} in pieces of {size}");
            }
            assert!(server.received == up && down == up, "{suite:?} in pieces of {size}");
        }
    }
}

#[test]
fn data_behind_finished_in_one_receive_is_the_record_layers() {
    let shared = Shared::new(&[]);
    for (version, _, offered) in SUITES {
        let mut client = Client::new(config(version, offered), "gateway.example");
        let mut server = Server::new(&shared);
        // Sent with the Finished, in one piece, by a client of TLS 1.3.
        client.send(b"before the handshake ends");
        pump(&mut client, &mut server, usize::MAX);
        assert_eq!(server.received, b"before the handshake ends", "{version:?}");
        server.send(b"answer");
        assert_eq!(pump(&mut client, &mut server, usize::MAX), b"answer");
    }
}

#[test]
fn key_updates_of_both_sides_are_followed() {
    let shared = Shared::new(&[]);
    for (version, suite, offered) in SUITES.iter().copied().filter(|(version, ..)| *version == Version::Tls13)
    {
        let mut client = Client::new(config(version, offered), "gateway.example");
        let mut server = Server::new(&shared);
        pump(&mut client, &mut server, usize::MAX);
        for round in 0..10 {
            // rustls asks for an update in return.
            client.connection.refresh_traffic_keys().unwrap();
            client.send(b"from the client");
            pump(&mut client, &mut server, 9);
            server.layer().request_key_update();
            server.send_control();
            server.send(b"from the server");
            assert_eq!(pump(&mut client, &mut server, 9), b"from the server", "{suite:?}, round {round}");
            assert_eq!(server.received, b"from the client".repeat(round + 1));
        }
        assert_eq!((server.fault, client.error), (None, None));
    }
}

#[test]
fn either_side_may_close_first() {
    let shared = Shared::new(&[]);
    for (version, _, offered) in SUITES {
        let mut client = Client::new(config(version, offered), "gateway.example");
        let mut server = Server::new(&shared);
        pump(&mut client, &mut server, usize::MAX);
        client.connection.send_close_notify();
        pump(&mut client, &mut server, usize::MAX);
        assert!(server.is_closed_by_peer);
        server.send(b"last");
        server.close();
        let down = std::mem::take(&mut server.outbox);
        let received = client.receive(&down);
        let state = client.connection.process_new_packets().unwrap();
        assert!(state.peer_has_closed() && received == b"last", "{version:?}");
    }
}
