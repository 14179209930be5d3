//! What a handshake agrees on: certificate, protocol, group, resumption.

use crate::peers::{Client, Server, Shared, certificates, client_config, entry, pump};
use netpoll_tls::{CertificateEntry, CertificateError, Certificates, HandshakeError, TicketKey};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, NamedGroup};
use std::sync::Arc;

fn config() -> ClientConfig {
    client_config(&TLS13, aws_lc_rs::default_provider())
}

fn certificate_for(shared: &Shared, name: &'static str) -> CertificateDer<'static> {
    let (mut client, mut server) = (Client::new(config(), name), Server::new(shared));
    pump(&mut client, &mut server, usize::MAX);
    assert_eq!(server.peer.as_ref().unwrap().server_name.as_deref(), Some(name));
    client.connection.peer_certificates().unwrap()[0].clone().into_owned()
}

fn pem(bytes: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(bytes).unwrap()
}

#[test]
fn the_name_chooses_the_certificate() {
    let shared = Shared::new(&[]);
    let [default, exact, wildcard] = [
        pem(include_bytes!("../keys/default.pem")),
        pem(include_bytes!("../keys/exact.pem")),
        pem(include_bytes!("../keys/wildcard.pem")),
    ];
    for (name, expected) in [
        ("gateway.example", &default),
        ("unknown.example", &default),
        ("chat.example.org", &exact),
        ("other.example.org", &wildcard),
        // A wildcard stands for one label.
        ("a.chat.example.org", &default),
        ("example.org", &default),
    ] {
        assert!(certificate_for(&shared, name) == *expected, "{name}");
    }
}

#[test]
fn certificates_are_replaced_as_a_whole() {
    let shared = Shared::new(&[]);
    let (mut client, mut server) = (Client::new(config(), "chat.example.org"), Server::new(&shared));
    pump(&mut client, &mut server, usize::MAX);
    let only = Certificates::new(&[entry!(&["*.EXAMPLE.org"], "wildcard")]).unwrap();
    shared.certificates.replace(only);
    let wildcard = pem(include_bytes!("../keys/wildcard.pem"));
    assert!(certificate_for(&shared, "chat.example.org") == wildcard);
    assert!(certificate_for(&shared, "gateway.example") == wildcard);
    // What is established stays.
    client.send(b"still here");
    pump(&mut client, &mut server, usize::MAX);
    assert_eq!(server.received, b"still here");
    shared.certificates.replace(certificates());
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let good = entry!(&["a.example"], "exact");
    let of = |entries: &[CertificateEntry<'_>]| Certificates::new(entries).err();
    assert_eq!(of(&[]), Some(CertificateError::Empty));
    assert_eq!(
        of(&[CertificateEntry { chain_pem: b"no certificate", ..good }]),
        Some(CertificateError::NoCertificate { entry: 0 })
    );
    let good = entry!(&["a.example"], "exact");
    let encrypted =
        CertificateEntry { key_pem: b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", ..entry!(&[], "wildcard") };
    assert_eq!(of(&[good, encrypted]), Some(CertificateError::NoKey { entry: 1 }));
    let other = include_bytes!("../keys/default.key.pem");
    let mismatch = CertificateEntry { key_pem: other, ..entry!(&[], "exact") };
    assert_eq!(of(&[mismatch]), Some(CertificateError::Mismatch { entry: 0 }));
    let twice = of(&[entry!(&["a.example"], "exact"), entry!(&["A.example"], "default")]);
    let expected = CertificateError::Twice { entry: 1, name: "A.example".into() };
    assert_eq!(twice, Some(expected.clone()));
    assert!(expected.to_string().contains("A.example"));
}

#[test]
fn the_servers_first_protocol_that_the_client_offers_is_chosen() {
    let shared = Shared::new(&["im/2", "im/1"]);
    for (offered, expected) in
        [(&["im/1", "im/2"][..], Some("im/2")), (&["h2", "im/1"], Some("im/1")), (&[], None)]
    {
        let mut config = config();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (mut client, mut server) = (Client::new(config, "gateway.example"), Server::new(&shared));
        pump(&mut client, &mut server, usize::MAX);
        let expected = expected.map(|name| name.as_bytes().to_vec());
        assert_eq!(server.peer.unwrap().protocol, expected);
    }
    let mut config = config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (mut client, mut server) = (Client::new(config, "gateway.example"), Server::new(&shared));
    pump(&mut client, &mut server, usize::MAX);
    assert_eq!(server.failure, Some(HandshakeError::NoProtocol));
    // The alert has arrived.
    assert!(matches!(client.error, Some(rustls::Error::AlertReceived(_))), "{:?}", client.error);
}

#[test]
fn groups_are_agreed_on_also_in_a_second_round() {
    let shared = Shared::new(&[]);
    for (groups, expected) in [
        (vec![kx_group::X25519MLKEM768, kx_group::X25519], NamedGroup::X25519MLKEM768),
        (vec![kx_group::X25519], NamedGroup::X25519),
        (vec![kx_group::SECP256R1], NamedGroup::secp256r1),
        // A share for a group that the server does not have: HelloRetryRequest.
        (vec![kx_group::SECP384R1, kx_group::SECP256R1], NamedGroup::secp256r1),
    ] {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = groups;
        for size in [3, usize::MAX] {
            let config = client_config(&TLS13, provider.clone());
            let (mut client, mut server) = (Client::new(config, "gateway.example"), Server::new(&shared));
            client.send(b"data");
            pump(&mut client, &mut server, size);
            let group = client.connection.negotiated_key_exchange_group().unwrap().name();
            assert_eq!((group, &server.received[..]), (expected, &b"data"[..]));
        }
    }
}

#[test]
fn without_a_common_group_the_handshake_fails_with_an_alert() {
    let shared = Shared::new(&[]);
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::SECP384R1];
    let config = client_config(&TLS13, provider);
    let (mut client, mut server) = (Client::new(config, "gateway.example"), Server::new(&shared));
    pump(&mut client, &mut server, usize::MAX);
    assert_eq!(server.failure, Some(HandshakeError::Incompatible));
    assert!(matches!(client.error, Some(rustls::Error::AlertReceived(_))), "{:?}", client.error);
}

/// Whether a connection resumes; what it is sent arrives in any case.
fn resumes(shared: &Shared, config: &Arc<ClientConfig>) -> bool {
    let (mut client, mut server) = (Client::with(Arc::clone(config), "gateway.example"), Server::new(shared));
    pump(&mut client, &mut server, usize::MAX);
    client.send(b"up");
    server.send(b"down");
    assert_eq!(pump(&mut client, &mut server, usize::MAX), b"down");
    assert_eq!(server.received, b"up");
    server.peer.unwrap().is_resumed
}

#[test]
fn sessions_resume_across_reloads_and_one_rotation() {
    let rotate = |shared: &Shared| {
        shared.tickets.replace(shared.tickets.keys().rotated(TicketKey::random().unwrap()));
    };
    for version in [&TLS13, &TLS12] {
        let shared = Shared::new(&[]);
        let config = Arc::new(client_config(version, aws_lc_rs::default_provider()));
        assert!(!resumes(&shared, &config));
        assert!(resumes(&shared, &config));
        shared.certificates.replace(certificates());
        assert!(resumes(&shared, &config), "across a reload, {:?}", version.version);
        rotate(&shared);
        assert!(resumes(&shared, &config), "across a rotation, {:?}", version.version);
        rotate(&shared);
        rotate(&shared);
        assert!(!resumes(&shared, &config), "across two rotations, {:?}", version.version);
    }
}

#[test]
fn a_server_with_the_same_keys_resumes_what_another_began() {
    let (one, other) = (Shared::new(&[]), Shared::new(&[]));
    let config = Arc::new(config());
    assert!(!resumes(&one, &config));
    let keys = one.tickets.keys();
    other.tickets.replace((*keys).clone());
    assert!(resumes(&other, &config));
}
