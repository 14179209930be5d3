//! Alerts, and the faults of records that they answer (RFC 8446, 6; RFC 5246, 7.2).

/// Descriptions of alerts that this crate sends or tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The sender's direction has ended.
    CloseNotify = 0,
    /// A message that has no place here.
    UnexpectedMessage = 10,
    /// A record that does not open.
    BadRecordMac = 20,
    /// A record that is too long.
    RecordOverflow = 22,
    /// No set of parameters suits both sides.
    HandshakeFailure = 40,
    /// A value out of its range.
    IllegalParameter = 47,
    /// A message with a wrong length.
    DecodeError = 50,
    /// A failure that has nothing to do with the peer.
    InternalError = 80,
    /// The peer's user ends the handshake; `close_notify` follows.
    UserCanceled = 90,
    /// TLS 1.2: a warning that the handshake is not repeated.
    NoRenegotiation = 100,
}

impl Alert {
    /// Levels of an alert on the wire. TLS 1.3 ignores them on receiving (RFC 8446, 6).
    pub(crate) const WARNING: u8 = 1;
    pub(crate) const FATAL: u8 = 2;

    /// The two bytes of the alert: `close_notify`, `user_canceled` and `no_renegotiation` are
    /// warnings, all others end the connection.
    pub const fn to_bytes(self) -> [u8; 2] {
        let level = match self {
            Alert::CloseNotify | Alert::UserCanceled | Alert::NoRenegotiation => Alert::WARNING,
            _ => Alert::FATAL,
        };
        [level, self as u8]
    }
}

/// Why a record of the peer ends the connection. After one of these the owner sends
/// [`RecordError::alert`] and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordError {
    /// The record is not of the type that protected records have: an alert in clear text, a
    /// ChangeCipherSpec or a handshake message after Finished.
    Unprotected,
    /// The record, or its plaintext, is longer than RFC 8446, 5.1 and 5.2 allow.
    TooLong,
    /// The authentication tag does not fit, or there is none.
    BadTag,
    /// The plaintext is padding alone.
    NoContent,
    /// A content type or a handshake message that has no place after the handshake.
    Unexpected,
    /// Another record stands within a handshake message (RFC 8446, 5.1).
    Interleaved,
    /// A message's length is wrong.
    Malformed,
    /// A KeyUpdate asks for something that is neither 0 nor 1 (RFC 8446, 4.6.3).
    BadKeyUpdate,
    /// A KeyUpdate is not the end of its record (RFC 8446, 5.1).
    KeyUpdateNotLast,
    /// KeyUpdates come faster than the bound.
    TooManyKeyUpdates,
    /// Too many records in a row brought nothing.
    TooManyEmpty,
    /// TLS 1.2: the peer asks for another handshake after it was refused once.
    Renegotiation,
}

impl RecordError {
    /// All faults, for metrics.
    pub const ALL: [RecordError; 12] = [
        RecordError::Unprotected,
        RecordError::TooLong,
        RecordError::BadTag,
        RecordError::NoContent,
        RecordError::Unexpected,
        RecordError::Interleaved,
        RecordError::Malformed,
        RecordError::BadKeyUpdate,
        RecordError::KeyUpdateNotLast,
        RecordError::TooManyKeyUpdates,
        RecordError::TooManyEmpty,
        RecordError::Renegotiation,
    ];

    /// The alert that answers the fault.
    pub const fn alert(self) -> Alert {
        match self {
            RecordError::TooLong => Alert::RecordOverflow,
            RecordError::BadTag => Alert::BadRecordMac,
            RecordError::Malformed => Alert::DecodeError,
            RecordError::BadKeyUpdate => Alert::IllegalParameter,
            RecordError::Unprotected
            | RecordError::NoContent
            | RecordError::Unexpected
            | RecordError::Interleaved
            | RecordError::KeyUpdateNotLast
            | RecordError::TooManyKeyUpdates
            | RecordError::TooManyEmpty
            | RecordError::Renegotiation => Alert::UnexpectedMessage,
        }
    }

    /// The fault's name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            RecordError::Unprotected => "unprotected",
            RecordError::TooLong => "too_long",
            RecordError::BadTag => "bad_tag",
            RecordError::NoContent => "no_content",
            RecordError::Unexpected => "unexpected",
            RecordError::Interleaved => "interleaved",
            RecordError::Malformed => "malformed",
            RecordError::BadKeyUpdate => "bad_key_update",
            RecordError::KeyUpdateNotLast => "key_update_not_last",
            RecordError::TooManyKeyUpdates => "too_many_key_updates",
            RecordError::TooManyEmpty => "too_many_empty",
            RecordError::Renegotiation => "renegotiation",
        }
    }
}
