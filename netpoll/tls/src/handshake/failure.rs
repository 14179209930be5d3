//! Why handshakes fail, by blame.

use rustls::Error;

/// Why a handshake failed. An alert for the peer is among the bytes to send, where one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeError {
    /// The peer speaks no TLS, or breaks its grammar.
    Malformed,
    /// The peer sent more bytes than the bound before its handshake was done.
    TooLong,
    /// No version, suite, group or protocol suits both sides.
    Incompatible,
    /// No application protocol suits both sides (ALPN).
    NoProtocol,
    /// The peer breaks the protocol's rules.
    Misbehaved,
    /// The peer's certificate is missing or not acceptable.
    Certificate,
    /// The peer ended the handshake by an alert.
    PeerAlert,
    /// No block was free for what the peer is to be sent.
    Overload,
    /// A failure that has nothing to do with the peer.
    Internal,
}

impl HandshakeError {
    /// All reasons, for metrics.
    pub const ALL: [HandshakeError; 9] = [
        HandshakeError::Malformed,
        HandshakeError::TooLong,
        HandshakeError::Incompatible,
        HandshakeError::NoProtocol,
        HandshakeError::Misbehaved,
        HandshakeError::Certificate,
        HandshakeError::PeerAlert,
        HandshakeError::Overload,
        HandshakeError::Internal,
    ];

    /// The reason's name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            HandshakeError::Malformed => "malformed",
            HandshakeError::TooLong => "too_long",
            HandshakeError::Incompatible => "incompatible",
            HandshakeError::NoProtocol => "no_protocol",
            HandshakeError::Misbehaved => "misbehaved",
            HandshakeError::Certificate => "certificate",
            HandshakeError::PeerAlert => "peer_alert",
            HandshakeError::Overload => "overload",
            HandshakeError::Internal => "internal",
        }
    }

    pub(super) fn of(error: &Error) -> HandshakeError {
        match error {
            Error::InvalidMessage(_) => HandshakeError::Malformed,
            Error::PeerSentOversizedRecord => HandshakeError::TooLong,
            Error::PeerIncompatible(_) => HandshakeError::Incompatible,
            Error::NoApplicationProtocol => HandshakeError::NoProtocol,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError => HandshakeError::Misbehaved,
            Error::NoCertificatesPresented
            | Error::UnsupportedNameType
            | Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_) => HandshakeError::Certificate,
            Error::AlertReceived(_) => HandshakeError::PeerAlert,
            _ => HandshakeError::Internal,
        }
    }
}
