//! What handshakes are made from: versions, suites, groups, certificates, tickets.

use super::capture::KeyCapture;
use super::certificates::CertificateStore;
use super::machine::Machine;
use super::tickets::Ticketer;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// Tickets that a full handshake of TLS 1.3 ends with.
const TICKETS: usize = 1;

/// What the handshakes of a listener are made from.
pub struct ServerSettings {
    /// Certificates by name; they may be replaced while connections live.
    pub certificates: Arc<CertificateStore>,
    /// Seals and opens tickets; all listeners and workers may share one.
    pub tickets: Arc<Ticketer>,
    /// Application protocols, the preferred one first; empty: none is negotiated.
    pub protocols: Vec<Vec<u8>>,
}

/// The cryptographic library does not offer what these settings need. Does not depend on peers.
#[derive(Debug)]
pub struct SetupError(Error);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS cannot be set up: {}", self.0)
    }
}

impl std::error::Error for SetupError {}

/// Begins the handshakes of a listener. Any thread may use it.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// TLS 1.3, and 1.2 with ECDHE, AEAD and the extended master secret only. No early data, no
    /// session cache, no compressed certificates.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(settings: ServerSettings) -> Result<Acceptor, SetupError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
        let builder = builder.map_err(SetupError)?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(settings.certificates);
        config.alpn_protocols = settings.protocols;
        config.ticketer = settings.tickets;
        config.send_tls13_tickets = TICKETS;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.key_log = Arc::new(KeyCapture);
        config.enable_secret_extraction = true;
        config.ignore_client_order = true;
        config.require_ems = true;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.cert_compressors = vec![];
        config.cert_decompressors = vec![];
        Ok(Acceptor { config: Arc::new(config) })
    }

    /// Begins a handshake with a client that has sent all of its ClientHello
    /// ([`HelloScan`](super::HelloScan)).
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn begin(&self) -> Result<Box<Machine>, SetupError> {
        let connection = rustls::ServerConnection::new(Arc::clone(&self.config));
        connection.map(|server| Machine::new(server.into())).map_err(SetupError)
    }
}

/// Which servers a client takes for the right one.
pub enum Trust<'a> {
    /// Those with a certificate for the name that follows from one of these, as PEM.
    Roots(&'a [u8]),
    /// Any server: the connection is encrypted, and may lead to another server. For load generators
    /// and tests.
    Anything,
}

/// Begins handshakes as a client. Tickets of servers are not kept: no session is resumed.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// TLS 1.3 and 1.2, as an [`Acceptor`] has them, with these application protocols.
    ///
    /// # Errors
    /// [`SetupError`]; among others, that the roots are no certificates.
    pub fn new(trust: &Trust<'_>, protocols: Vec<Vec<u8>>) -> Result<Connector, SetupError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
        let builder = builder.map_err(SetupError)?;
        let mut config = match trust {
            Trust::Roots(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
            Trust::Anything => {
                let verifier = Arc::new(AnyServer(provider().signature_verification_algorithms));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        config.alpn_protocols = protocols;
        config.resumption = Resumption::disabled();
        config.key_log = Arc::new(KeyCapture);
        config.enable_secret_extraction = true;
        config.require_ems = true;
        config.cert_compressors = vec![];
        config.cert_decompressors = vec![];
        Ok(Connector { config: Arc::new(config) })
    }

    /// Begins a handshake with the server of this name, or IP address. `output` gets the
    /// ClientHello.
    ///
    /// # Errors
    /// [`SetupError`]; among others, that the name is none.
    pub fn begin(&self, name: &str, output: &mut Vec<u8>) -> Result<Box<Machine>, SetupError> {
        let name = ServerName::try_from(name.to_owned());
        let name = name.map_err(|_| SetupError(Error::General("this is no name of a server".into())))?;
        let connection = rustls::ClientConnection::new(Arc::clone(&self.config), name).map_err(SetupError)?;
        Ok(Machine::speaking_first(connection.into(), output))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|_| SetupError(Error::General("the roots are not PEM".into())))?;
        roots.add(root).map_err(SetupError)?;
    }
    Ok(roots)
}

/// Takes any certificate with the key that signs the handshake.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Suites and groups, the preferred ones first. SHA-256 before SHA-384: the key schedule has
/// hardware help then, which makes a handshake cheaper by a quarter.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    }
}
