//! One handshake, step by step.

use super::capture::{Captured, capturing};
use super::failure::HandshakeError;
use crate::alert::Alert;
use crate::layer::{RecordLayer, Traffic};
use crate::record::{Cut, look};
use crate::suite::{IV_SIZE, Role, Suite, Version};
use rustls::{Connection, ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};
use zeroize::Zeroize;

/// The most bytes that a peer may send until its Finished. Its certificate chain is in there.
pub const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// A handshake under way.
pub struct Machine {
    connection: Connection,
    captured: Captured,
    /// Bytes that have come from the peer.
    received: usize,
}

/// What a step leads to.
pub enum Step {
    /// The handshake goes on with the peer's next record.
    More(Box<Machine>),
    /// The handshake is done.
    Done(Box<Established>),
    /// The handshake has failed: after what is to be sent the connection ends.
    Failed(HandshakeError),
}

/// What a handshake leaves.
pub struct Established {
    /// Keys and numbers of the connection.
    pub layer: RecordLayer,
    /// What the peer said of itself.
    pub peer: Peer,
}

/// What a handshake says of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// A client's: the name that it wants to reach (SNI).
    pub server_name: Option<String>,
    /// The application protocol that was chosen (ALPN).
    pub protocol: Option<Vec<u8>>,
    /// Whether it resumed an earlier session.
    pub is_resumed: bool,
}

impl Machine {
    pub(super) fn new(connection: Connection) -> Box<Machine> {
        Box::new(Machine { connection, captured: Captured::default(), received: 0 })
    }

    /// A client's machine; `output` gets its ClientHello.
    pub(super) fn speaking_first(connection: Connection, output: &mut Vec<u8>) -> Box<Machine> {
        let mut machine = Machine::new(connection);
        machine.drain(output);
        machine
    }

    /// Takes whole records from the front of `input`, as many as the handshake needs, and appends
    /// to `output` what the peer is to be sent, whatever the step leads to. Returns how many bytes
    /// it took; behind [`Step::Done`] the rest is the record layer's.
    pub fn step(mut self: Box<Machine>, input: &[u8], output: &mut Vec<u8>) -> (usize, Step) {
        let mut taken = 0;
        loop {
            let size = match look(&input[taken..]) {
                Ok(Cut::Whole(size)) => size,
                Ok(Cut::Needs(_)) => return (taken, Step::More(self)),
                Err(_) => {
                    output.extend_from_slice(&plain_alert(Alert::RecordOverflow));
                    return (taken, Step::Failed(HandshakeError::TooLong));
                }
            };
            if self.received + size > HANDSHAKE_BYTES_MAX {
                output.extend_from_slice(&plain_alert(Alert::IllegalParameter));
                return (taken, Step::Failed(HandshakeError::TooLong));
            }
            let read = self.read_record(&input[taken..taken + size]);
            self.received += size;
            taken += size;
            // Always, and before anything is extracted: an alert may be in there.
            self.drain(output);
            match read {
                Err(failure) => return (taken, Step::Failed(failure)),
                Ok(()) if self.connection.is_handshaking() => {}
                Ok(()) => return (taken, self.finish()),
            }
        }
    }

    /// Feeds one record.
    fn read_record(&mut self, mut record: &[u8]) -> Result<(), HandshakeError> {
        let Machine { connection, captured, .. } = self;
        capturing(captured, || {
            while !record.is_empty() {
                // rustls reads 4 KiB at a time, and fails only when it is not let process them.
                connection.read_tls(&mut record).map_err(|_| HandshakeError::Internal)?;
                connection.process_new_packets().map_err(|error| HandshakeError::of(&error))?;
            }
            Ok(())
        })
    }

    fn drain(&mut self, output: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(output).expect("a vector takes all bytes");
        }
    }

    fn finish(self: Box<Machine>) -> Step {
        match self.into_established() {
            Some(established) => Step::Done(Box::new(established)),
            None => Step::Failed(HandshakeError::Internal),
        }
    }

    fn into_established(self) -> Option<Established> {
        let Machine { connection, captured, .. } = self;
        let peer = Peer {
            server_name: match &connection {
                Connection::Server(server) => server.server_name().map(str::to_owned),
                Connection::Client(_) => None,
            },
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            is_resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        };
        let version = match connection.protocol_version()? {
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            _ => return None,
        };
        let role = match &connection {
            Connection::Server(_) => Role::Server,
            Connection::Client(_) => Role::Client,
        };
        let secrets = connection.dangerous_extract_secrets().ok()?;
        let layer = match version {
            Version::Tls13 => tls13_layer(role, &secrets, &captured)?,
            Version::Tls12 => tls12_layer(role, &secrets)?,
        };
        Some(Established { layer, peer })
    }
}

fn tls13_layer(role: Role, secrets: &ExtractedSecrets, captured: &Captured) -> Option<RecordLayer> {
    let (suite, ..) = key_of(&secrets.rx.1)?;
    let size = suite.secret_size();
    let (client, server) = (captured.client.as_ref()?, captured.server.as_ref()?);
    let (from_peer, to_peer) = match role {
        Role::Server => (client, server),
        Role::Client => (server, client),
    };
    let (mut from_peer, mut to_peer) = (from_peer.of_size(size)?, to_peer.of_size(size)?);
    let receive = Traffic::Secret { secret: &from_peer[..size], sequence: secrets.rx.0 };
    let send = Traffic::Secret { secret: &to_peer[..size], sequence: secrets.tx.0 };
    let layer = RecordLayer::new(role, suite, &receive, &send);
    from_peer.zeroize();
    to_peer.zeroize();
    Some(layer)
}

fn tls12_layer(role: Role, secrets: &ExtractedSecrets) -> Option<RecordLayer> {
    let ((suite, receive_key, receive_iv), (_, key, iv)) = (key_of(&secrets.rx.1)?, key_of(&secrets.tx.1)?);
    let receive = Traffic::Key { key: receive_key, iv: receive_iv, sequence: secrets.rx.0 };
    let send = Traffic::Key { key, iv, sequence: secrets.tx.0 };
    Some(RecordLayer::new(role, suite, &receive, &send))
}

fn key_of(secrets: &ConnectionTrafficSecrets) -> Option<(Suite, &[u8], &[u8; IV_SIZE])> {
    let (suite, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    let key = key.as_ref().get(..suite.key_size())?;
    Some((suite, key, iv.as_ref().try_into().ok()?))
}

/// An alert in a record without protection.
pub(super) fn plain_alert(alert: Alert) -> [u8; 7] {
    let [level, description] = alert.to_bytes();
    [crate::record::content::ALERT, 3, 3, 0, 2, level, description]
}
