//! A server over the crate's machine and record layer, and rustls' own client, in memory.

use netpoll_tls::{
    Acceptor, Alert, CertificateEntry, CertificateStore, Certificates, Cut, Established, HandshakeError,
    HelloScan, Machine, Opened, Peer, RecordError, RecordLayer, ServerSettings, Step, TicketKeys, Ticketer,
    look,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::sync::Arc;

macro_rules! entry {
    ($names:expr, $name:literal) => {
        CertificateEntry {
            names: $names,
            chain_pem: include_bytes!(concat!("../keys/", $name, ".pem")),
            key_pem: include_bytes!(concat!("../keys/", $name, ".key.pem")),
        }
    };
}
pub(crate) use entry;

/// A default certificate, one for chat.example.org, one for its other neighbors.
pub(crate) fn certificates() -> Certificates {
    let entries = [
        entry!(&["gateway.example"], "default"),
        entry!(&["chat.example.org"], "exact"),
        entry!(&["*.example.org"], "wildcard"),
    ];
    Certificates::new(&entries).unwrap()
}

/// What the servers of a test share.
pub(crate) struct Shared {
    pub(crate) certificates: Arc<CertificateStore>,
    pub(crate) tickets: Arc<Ticketer>,
    pub(crate) acceptor: Acceptor,
}

impl Shared {
    pub(crate) fn new(protocols: &[&str]) -> Shared {
        let certificates = Arc::new(CertificateStore::new(certificates()));
        let tickets = Arc::new(Ticketer::new(TicketKeys::random().unwrap()));
        let settings = ServerSettings {
            certificates: Arc::clone(&certificates),
            tickets: Arc::clone(&tickets),
            protocols: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
        };
        let acceptor = Acceptor::new(settings).unwrap();
        Shared { certificates, tickets, acceptor }
    }
}

enum State {
    Hello(HelloScan),
    Handshake(Box<Machine>),
    Open(Box<RecordLayer>),
    Ended,
}

/// One connection of a server.
pub(crate) struct Server {
    acceptor: Acceptor,
    state: State,
    inbox: Vec<u8>,
    pub(crate) outbox: Vec<u8>,
    pub(crate) received: Vec<u8>,
    pub(crate) peer: Option<Peer>,
    pub(crate) failure: Option<HandshakeError>,
    pub(crate) fault: Option<RecordError>,
    pub(crate) is_closed_by_peer: bool,
}

impl Server {
    pub(crate) fn new(shared: &Shared) -> Server {
        Server {
            acceptor: shared.acceptor.clone(),
            state: State::Hello(HelloScan::default()),
            inbox: vec![],
            outbox: vec![],
            received: vec![],
            peer: None,
            failure: None,
            fault: None,
            is_closed_by_peer: false,
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while self.advance() {}
    }

    /// One step; false when more bytes are needed.
    fn advance(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Hello(mut scan) => match scan.look(&self.inbox) {
                Ok(None) => {
                    self.state = State::Hello(scan);
                    false
                }
                Ok(Some(_)) => {
                    self.state = State::Handshake(self.acceptor.begin().unwrap());
                    true
                }
                Err(alert) => {
                    let [level, description] = alert.to_bytes();
                    self.outbox.extend_from_slice(&[21, 3, 3, 0, 2, level, description]);
                    self.failure = Some(HandshakeError::Malformed);
                    false
                }
            },
            State::Handshake(machine) => self.step(machine),
            State::Open(layer) => self.open(layer),
            State::Ended => false,
        }
    }

    fn step(&mut self, machine: Box<Machine>) -> bool {
        let (taken, step) = machine.step(&self.inbox, &mut self.outbox);
        self.inbox.drain(..taken);
        match step {
            Step::More(machine) => self.state = State::Handshake(machine),
            Step::Failed(failure) => self.failure = Some(failure),
            Step::Done(established) => {
                let Established { layer, peer } = *established;
                self.state = State::Open(Box::new(layer));
                self.peer = Some(peer);
                return true;
            }
        }
        false
    }

    fn open(&mut self, mut layer: Box<RecordLayer>) -> bool {
        let mut opener = layer.opener();
        let mut at = 0;
        while let Ok(Cut::Whole(size)) = look(&self.inbox[at..]) {
            let record = &mut self.inbox[at..at + size];
            at += size;
            match opener.open(record, 0) {
                Ok(Opened::Data(range)) => self.received.extend_from_slice(&record[range]),
                Ok(Opened::Nothing) => {}
                Ok(Opened::Closed) => self.is_closed_by_peer = true,
                Ok(Opened::Alert(description)) => panic!("alert {description}"),
                Err(fault) => self.fault = Some(fault),
            }
        }
        self.inbox.drain(..at);
        self.state = State::Open(layer);
        self.send_control();
        false
    }

    pub(crate) fn layer(&mut self) -> &mut RecordLayer {
        let State::Open(layer) = &mut self.state else { panic!("not open: {:?}", self.failure) };
        layer
    }

    pub(crate) fn send_control(&mut self) {
        let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
        while let Some(size) = self.layer().seal_control(&mut record) {
            self.outbox.extend_from_slice(&record[..size]);
        }
    }

    pub(crate) fn send(&mut self, data: &[u8]) {
        for part in data.chunks(netpoll_tls::PLAINTEXT_SIZE_MAX) {
            let layer = self.layer();
            let mut record = vec![0; layer.record_size(part.len())];
            let start = layer.plaintext_start();
            record[start..start + part.len()].copy_from_slice(part);
            layer.seal(&mut record).unwrap();
            self.outbox.extend_from_slice(&record);
        }
    }

    pub(crate) fn close(&mut self) {
        let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
        let size = self.layer().seal_alert(Alert::CloseNotify, &mut record).unwrap();
        self.outbox.extend_from_slice(&record[..size]);
    }
}

/// Takes any certificate with the key that signs the handshake.
#[derive(Debug)]
struct AnyServer(CryptoProvider);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The settings of a client that offers what `provider` has.
pub(crate) fn client_config(
    version: &'static SupportedProtocolVersion,
    provider: CryptoProvider,
) -> ClientConfig {
    let verifier = Arc::new(AnyServer(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[version]).unwrap().dangerous();
    builder.with_custom_certificate_verifier(verifier).with_no_client_auth()
}

/// rustls' client.
pub(crate) struct Client {
    pub(crate) connection: ClientConnection,
    pub(crate) error: Option<Error>,
}

impl Client {
    pub(crate) fn new(config: ClientConfig, name: &'static str) -> Client {
        Client::with(Arc::new(config), name)
    }

    pub(crate) fn with(config: Arc<ClientConfig>, name: &'static str) -> Client {
        let name = ServerName::try_from(name).unwrap();
        Client { connection: ClientConnection::new(config, name).unwrap(), error: None }
    }

    /// What it wants to send.
    pub(crate) fn flush(&mut self) -> Vec<u8> {
        let mut bytes = vec![];
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Takes bytes and returns the plaintext that they bring.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plaintext = vec![];
        while !bytes.is_empty() && self.error.is_none() {
            self.connection.read_tls(&mut bytes).unwrap();
            self.error = self.connection.process_new_packets().err();
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = self.connection.reader().read(&mut part) {
                plaintext.extend_from_slice(&part[..count]);
            }
        }
        plaintext
    }

    pub(crate) fn send(&mut self, data: &[u8]) {
        self.connection.writer().write_all(data).unwrap();
    }
}

/// Passes bytes in pieces of `size` until neither side has more, and returns what the client
/// received.
pub(crate) fn pump(client: &mut Client, server: &mut Server, size: usize) -> Vec<u8> {
    let mut plaintext = vec![];
    loop {
        let up = client.flush();
        up.chunks(size).for_each(|piece| server.receive(piece));
        let down = std::mem::take(&mut server.outbox);
        plaintext.extend(down.chunks(size).flat_map(|piece| client.receive(piece)).collect::<Vec<_>>());
        if up.is_empty() && down.is_empty() {
            return plaintext;
        }
    }
}
