//! The machine and the record layer as a client, against the crate's own server.

use crate::peers::{Server, Shared};
use netpoll_tls::{
    Alert, Connector, Cut, Established, HandshakeError, Opened, RecordLayer, Step, Trust, Version, look,
};

/// Hands bytes to and fro until the client is done. What lies behind is left in the last place.
fn connect(
    connector: &Connector,
    name: &str,
    server: &mut Server,
) -> Result<(Box<Established>, Vec<u8>), HandshakeError> {
    let mut output = vec![];
    let mut machine = connector.begin(name, &mut output).unwrap();
    let mut input = vec![];
    loop {
        server.receive(&std::mem::take(&mut output));
        input.append(&mut server.outbox);
        let (taken, step) = machine.step(&input, &mut output);
        input.drain(..taken);
        match step {
            Step::More(more) => machine = more,
            Step::Failed(failure) => {
                server.receive(&output);
                return Err(failure);
            }
            Step::Done(established) => {
                server.receive(&output);
                input.append(&mut server.outbox);
                return Ok((established, input));
            }
        }
    }
}

fn seal(layer: &mut RecordLayer, data: &[u8]) -> Vec<u8> {
    let (start, size) = (layer.plaintext_start(), layer.record_size(data.len()));
    let mut record = vec![0; size];
    record[start..start + data.len()].copy_from_slice(data);
    layer.seal(&mut record).unwrap();
    record
}

fn open_all(layer: &mut RecordLayer, bytes: &mut Vec<u8>) -> Vec<u8> {
    let (mut plaintext, mut at) = (vec![], 0);
    let mut opener = layer.opener();
    while let Ok(Cut::Whole(size)) = look(&bytes[at..]) {
        let record = &mut bytes[at..at + size];
        match opener.open(record, 0).unwrap() {
            Opened::Data(range) => plaintext.extend_from_slice(&record[range]),
            opened => assert_eq!(opened, Opened::Nothing),
        }
        at += size;
    }
    bytes.drain(..at);
    plaintext
}

#[test]
fn a_client_of_ours_speaks_to_a_server_of_ours() {
    let shared = Shared::new(&["im/1"]);
    let connector = Connector::new(&Trust::Anything, vec![b"im/1".to_vec()]).unwrap();
    let mut server = Server::new(&shared);
    let (mut client, mut bytes) = connect(&connector, "chat.example.org", &mut server).unwrap();
    assert_eq!(
        (client.layer.version(), client.peer.protocol.as_deref()),
        (Version::Tls13, Some(&b"im/1"[..]))
    );
    assert_eq!(server.peer.as_ref().unwrap().server_name.as_deref(), Some("chat.example.org"));
    for round in 0..5 {
        // The server's ticket is among the first bytes, and is skipped.
        server.receive(&seal(&mut client.layer, b"up"));
        server.send(&[round; 20_000]);
        bytes.append(&mut server.outbox);
        assert_eq!(open_all(&mut client.layer, &mut bytes), [round; 20_000]);
        client.layer.request_key_update();
        let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
        let size = client.layer.seal_control(&mut record).unwrap();
        server.receive(&record[..size]);
    }
    assert_eq!((&server.received[..], server.fault), (&b"up".repeat(5)[..], None));
    let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    let size = client.layer.seal_alert(Alert::CloseNotify, &mut record).unwrap();
    server.receive(&record[..size]);
    assert!(server.is_closed_by_peer);
}

#[test]
fn a_client_with_roots_takes_only_what_follows_from_them() {
    let shared = Shared::new(&[]);
    let unknown = Connector::new(&Trust::Roots(include_bytes!("../keys/default.pem")), vec![]).unwrap();
    let mut server = Server::new(&shared);
    let refused = connect(&unknown, "chat.example.org", &mut server).err();
    assert_eq!(refused, Some(HandshakeError::Certificate));
    // The server has its alert.
    assert_eq!(server.failure, Some(HandshakeError::PeerAlert));
}

#[test]
fn names_and_roots_that_are_none_are_refused() {
    assert!(Connector::new(&Trust::Roots(b"-----BEGIN CERTIFICATE-----\n!"), vec![]).is_err());
    let connector = Connector::new(&Trust::Anything, vec![]).unwrap();
    assert!(connector.begin("no name", &mut vec![]).is_err());
    assert!(connector.begin("192.0.2.1", &mut vec![]).is_ok());
}
