//! Tokens of clients, good and bad.
//!
//! A token's times are checked by the verifier at the login, with the wall clock that the
//! simulation shows it; what is left of the token's time then runs on the worker's own clock.

use crate::world::UNIX_START_MS;
use gateway_auth::{KeySet, TokenPolicy, UserKind};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// When a token ends that is to outlast the run, in seconds since 1970.
const FAR: u64 = UNIX_START_MS / 1000 + 100_000_000;
/// How far clocks may differ, in seconds: a session outlasts its token by that.
const LEEWAY_S: u64 = 30;

/// What a client shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Token {
    /// Nobody asks for one.
    NotNeeded,
    /// A good one.
    Good,
    /// A good one whose session ends at this time, in seconds since 1970.
    Ending(u64),
    /// Signed with another key.
    Forged,
    /// None.
    Missing,
    /// A good one of somebody else.
    Other,
    /// No token at all.
    Garbage,
}

impl Token {
    /// Whether it lets its bearer in.
    pub fn is_valid(self) -> bool {
        matches!(self, Token::NotNeeded | Token::Good | Token::Ending(_))
    }

    /// When its session ends, in milliseconds since 1970.
    pub fn end_ms(self) -> Option<u64> {
        match self {
            Token::Ending(end) => Some(end * 1000),
            _ => None,
        }
    }

    /// Its text for `user`. Signing takes long, and thousands of runs need the same ones.
    pub fn text(self, user: i64) -> String {
        static SIGNED: LazyLock<Mutex<BTreeMap<(Token, i64), String>>> = LazyLock::new(Mutex::default);
        let mut signed = SIGNED.lock().expect("nobody panics here");
        signed.entry((self, user)).or_insert_with(|| self.sign(user)).clone()
    }

    fn sign(self, user: i64) -> String {
        let (user, secret, end) = match self {
            Token::NotNeeded | Token::Missing => return String::new(),
            Token::Garbage => return "a.b.c".into(),
            Token::Good => (user, SECRET, FAR),
            Token::Ending(end) => (user, SECRET, end - LEEWAY_S),
            Token::Forged => (user, &[b'f'; 32][..], FAR),
            Token::Other => (user + 1_000_000, SECRET, FAR),
        };
        let name = if user < 0 { uid(user).into() } else { user.into() };
        let claims = Map::from_iter([("sub".to_owned(), name), ("exp".to_owned(), Value::from(end))]);
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).expect("claims are JSON")
    }
}

/// The text that a user with a negative number is known by.
pub fn uid(user: i64) -> String {
    format!("u{}", -user)
}

/// How the verifier checks.
pub fn policy(queue_requests_max: usize) -> Arc<TokenPolicy> {
    Arc::new(TokenPolicy {
        keys: KeySet::from_secret(SECRET).expect("32 bytes"),
        audience: vec![],
        issuer: None,
        leeway_s: LEEWAY_S,
        user_claim: "sub".into(),
        user_kind: UserKind::Auto,
        service_scope: None,
        key_claim: None,
        rooms_claim: "rooms".into(),
        threads: 1,
        queue_requests_max,
    })
}
