//! Who a client is: what the verifier of tokens tells a worker.
//!
//! ```text
//!   worker ── VerifyRequest (bounded queue) ──► verifier threads ── Message::Verified(Verdict) ──► worker
//! ```
//!
//! A verdict is plain and carries handles only: the body of the Auth frame goes there and back as the buffer that it was
//! received in, a user id as text comes in a block of the verifier's own pool. The worker allocates and frees nothing.

use netpoll::{Buffer, ConnectionId, SharedBuffer};

/// What a token says about its bearer, after its signature and its times were checked.
#[derive(Debug, Clone)]
pub struct Claims {
    /// goim's integer user id, if the token names the user by one.
    pub mid: Option<i64>,
    /// User id as text (UTF-8, 1 to 128 bytes, no control characters), if the token names the user by one.
    pub uid: Option<SharedBuffer>,
    /// When the token ends, in seconds since 1970.
    pub expires_at: i64,
}

impl Claims {
    /// The user id as text.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_ref().and_then(|uid| std::str::from_utf8(uid).ok())
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
    /// It is meant for somebody else.
    Audience,
    /// It was made by somebody else.
    Issuer,
    /// The request names another user than the token.
    Mismatch,
    /// The verifier has no room for more.
    Overload,
}

/// The answer to a `VerifyRequest`.
#[derive(Debug)]
pub struct Verdict {
    /// Who asked.
    pub connection: ConnectionId,
    /// Sequence of its Auth frame.
    pub sequence: i32,
    /// The whole body of the Auth frame, as it came.
    pub body: Buffer,
    /// Who it is.
    pub result: Result<Claims, AuthError>,
}
