//! A login on its way through the verifier of tokens: the question, the verdict, and what a good
//! token says.

use super::PendingLogin;
use crate::address::Address;
use gateway_proto::codes::CloseCode;
use netpoll::{Buffer, ConnectionId, SharedBuffer};

/// A question to the verifier of tokens.
#[derive(Debug)]
pub struct VerifyRequest {
    /// The connection that logs in.
    pub address: Address,
    /// Counts it; comes back in the verdict.
    pub pending: PendingLogin,
    /// Sequence of its Auth frame.
    pub sequence: i32,
    /// The whole body of the Auth frame (JSON); comes back in the verdict.
    pub body: Buffer,
}

/// Bytes of a token's room claim at most, its separators included: each session keeps it.
pub const ROOMS_SIZE_MAX: usize = 2048;

/// What a token says about its bearer, after its signature and its times were checked.
#[derive(Debug, Clone)]
pub struct Claims {
    /// goim's integer user id; 0: the token names the user by a text.
    pub mid: i64,
    /// User id (UTF-8, at most 128 bytes, none if empty) and rooms (at most [`ROOMS_SIZE_MAX`]),
    /// one behind the other.
    pub text: Option<SharedBuffer>,
    /// Bytes of the user id in `text`.
    pub uid_size: u8,
    /// How long the token still held when it was checked, in milliseconds, leeway included. Not a
    /// time of the day: the machine's clock may be put right later.
    pub valid_for_ms: u64,
    /// When it was issued, in seconds since 1970; when it was checked, where it does not say.
    pub issued_at: u32,
    /// The number of its key (`KeySet::number_of`); 0: the key has no id.
    pub key_number: u8,
    /// It is a service, which may send to everyone.
    pub service: bool,
}

impl Claims {
    fn text(&self) -> &str {
        self.text.as_ref().and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// The user id as text.
    pub fn uid(&self) -> Option<&str> {
        self.text().get(..usize::from(self.uid_size)).filter(|uid| !uid.is_empty())
    }

    /// The rooms, and patterns of rooms, that its bearer may enter, with a line feed between them.
    pub fn rooms(&self) -> &str {
        self.text().get(usize::from(self.uid_size)..).unwrap_or_default()
    }
}

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AuthError {
    /// The Auth body is no valid request.
    Malformed,
    /// No token was given.
    TokenMissing,
    /// The token is no JSON Web Token, or lacks a claim that it must have.
    TokenInvalid,
    /// Its algorithm is not allowed, or not the key's.
    Algorithm,
    /// No key with its `kid`.
    UnknownKey,
    /// The signature does not fit.
    Signature,
    /// It has ended.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is meant for another service.
    Audience,
    /// Another issuer made it.
    Issuer,
    /// It does not name a user that could be here.
    User,
    /// The request names another user than the token.
    Mismatch,
    /// The request names another connection key than the token.
    Key,
    /// The token's rooms are no list of texts, or too long together.
    Rooms,
    /// The verifier has no room for more.
    Overload,
}

impl AuthError {
    /// All of them, for metrics.
    pub const ALL: [AuthError; 15] = [
        AuthError::Malformed,
        AuthError::TokenMissing,
        AuthError::TokenInvalid,
        AuthError::Algorithm,
        AuthError::UnknownKey,
        AuthError::Signature,
        AuthError::Expired,
        AuthError::NotYetValid,
        AuthError::Audience,
        AuthError::Issuer,
        AuthError::User,
        AuthError::Mismatch,
        AuthError::Key,
        AuthError::Rooms,
        AuthError::Overload,
    ];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            AuthError::Malformed => "malformed",
            AuthError::TokenMissing => "token_missing",
            AuthError::TokenInvalid => "token_invalid",
            AuthError::Algorithm => "algorithm",
            AuthError::UnknownKey => "unknown_key",
            AuthError::Signature => "signature",
            AuthError::Expired => "expired",
            AuthError::NotYetValid => "not_yet_valid",
            AuthError::Audience => "audience",
            AuthError::Issuer => "issuer",
            AuthError::User => "user",
            AuthError::Mismatch => "mismatch",
            AuthError::Key => "key",
            AuthError::Rooms => "rooms",
            AuthError::Overload => "overload",
        }
    }

    /// The code to close the connection with: a client with a fresh token, or one that waits, may
    /// come back.
    pub const fn close_code(self) -> CloseCode {
        match self {
            AuthError::Expired => CloseCode::TOKEN_EXPIRED,
            AuthError::Overload => CloseCode::OVERLOAD,
            AuthError::Malformed => CloseCode::PROTOCOL_ERROR,
            _ => CloseCode::AUTH_FAILED,
        }
    }
}

/// The answer to a `VerifyRequest`.
#[derive(Debug)]
pub struct Verdict {
    /// The connection that logs in.
    pub connection: ConnectionId,
    /// Counts it for as long as the verdict lives.
    pub pending: PendingLogin,
    /// Sequence of its Auth frame.
    pub sequence: i32,
    /// The whole body of the Auth frame, as it came.
    pub body: Buffer,
    /// What the token says of it, or why it is refused.
    pub result: Result<Claims, AuthError>,
}
