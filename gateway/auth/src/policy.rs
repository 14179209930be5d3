//! The rules that a token must satisfy, and the bearer that it then names.

use super::keys::{ED25519, KeySet, VerifyKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::address::mid_from_text;
use gateway_core::message::{AuthError, ROOMS_SIZE_MAX};
use gateway_proto::auth::{AuthRequest, TOKEN_SIZE_MAX, UID_SIZE_MAX};
use gateway_proto::body::Name;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, crypto, decode_header};
use serde_json::{Map, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// Type of the user claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// A number is a mid, a text is a uid.
    Auto,
    /// goim's integer user id, as a number or as decimal text.
    Mid,
    /// A user id as text.
    Uid,
}

/// How tokens are checked.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// The keys that tokens are checked with.
    pub keys: KeySet,
    /// Accepted audiences; empty: not checked.
    pub audience: Vec<String>,
    /// Required issuer; `None`: not checked.
    pub issuer: Option<String>,
    /// How far clocks may differ, in seconds.
    pub leeway_s: u64,
    /// The claim that names the user.
    pub user_claim: String,
    /// Type of that claim.
    pub user_kind: UserKind,
    /// The word in the scope claim that marks a service; `None`: no token is a service's.
    pub service_scope: Option<String>,
    /// The claim with the only connection key that the bearer may use; `None`: any key that no
    /// other user has.
    pub key_claim: Option<String>,
    /// The claim that lists the rooms, or patterns of rooms, that the bearer may enter.
    pub rooms_claim: String,
    /// Threads that check.
    pub threads: usize,
    /// Requests that may wait.
    pub queue_requests_max: usize,
}

/// The bearer of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// goim's integer user id.
    pub mid: Option<i64>,
    /// User id as text.
    pub uid: Option<String>,
    /// How long the token still holds, in milliseconds, leeway included.
    pub valid_for_ms: u64,
    /// Time of issue, in seconds since 1970; the time of the check where the token has none.
    pub issued_at: u32,
    /// Number of the token's key ([`KeySet::number_of`]); 0: the key has no id.
    pub key_number: u8,
    /// Whether the bearer is a service, which may send to all users and rooms.
    pub service: bool,
    /// The rooms and patterns of rooms of its claim, with a line feed between them; empty: none.
    pub rooms: String,
}

/// The wall clock, in milliseconds since 1970.
pub fn unix_now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

impl TokenPolicy {
    /// Checks the token of an Auth request at `now_ms`, milliseconds since 1970, and that the
    /// request names no other user, and no key that is not the bearer's.
    ///
    /// # Errors
    /// Why the login is refused.
    pub fn check_request(&self, request: &AuthRequest<'_>, now_ms: u64) -> Result<Bearer, AuthError> {
        if request.token.is_empty() {
            return Err(AuthError::TokenMissing);
        }
        let (bearer, key) = self.check_with_key(request.token, now_ms)?;
        let same_mid = request.mid == 0 || Some(request.mid) == bearer.mid;
        let same_uid = request.uid.is_none_or(|uid| Some(uid.as_str()) == bearer.uid.as_deref());
        if !(same_mid && same_uid) {
            return Err(AuthError::Mismatch);
        }
        // Without the claim no key is the bearer's, so the server makes one.
        let own_key = |wanted: Name<'_>| key.as_deref() == Some(wanted.as_str());
        let may_have_key = self.key_claim.is_none() || request.key.is_none_or(own_key);
        if may_have_key { Ok(bearer) } else { Err(AuthError::Key) }
    }

    /// Checks a token at `now_ms`, milliseconds since 1970.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, token: &str, now_ms: u64) -> Result<Bearer, AuthError> {
        self.check_with_key(token, now_ms).map(|(bearer, _)| bearer)
    }

    fn check_with_key(&self, token: &str, now_ms: u64) -> Result<(Bearer, Option<String>), AuthError> {
        if token.len() > TOKEN_SIZE_MAX {
            return Err(AuthError::TokenInvalid);
        }
        let header = header_of(token)?;
        // RFC 7515 §4.1.11: extensions that are marked critical and not understood make the token
        // invalid.
        if header.crit.is_some() {
            return Err(AuthError::TokenInvalid);
        }
        let mut refused = AuthError::Signature;
        for key in self.keys_for(&header)? {
            match signed_claims(token, key) {
                Ok(claims) => return self.bearer(&claims, key, now_ms),
                Err(error) => refused = error,
            }
            // Any other error was found after the signature was verified.
            if refused != AuthError::Signature {
                break;
            }
        }
        Err(refused)
    }

    /// The keys that may have signed the token: those with its `kid`; where there are none, or it
    /// names none, those that an id does not distinguish. "The "kid" (key ID) Header Parameter is a
    /// hint" (RFC 7515 §4.1.4), and optional.
    fn keys_for(&self, header: &Header) -> Result<impl Iterator<Item = &VerifyKey>, AuthError> {
        let keys = || self.keys.keys.iter();
        let id = header.kid.as_ref().filter(|id| keys().any(|key| key.id.as_ref() == Some(id)));
        let fits = move |key: &&VerifyKey| match (&header.kid, id) {
            (_, Some(id)) => key.id.as_ref() == Some(id),
            (Some(_), None) => key.id.is_none(),
            (None, None) => true,
        };
        if !keys().any(|key| fits(&key)) {
            return Err(AuthError::UnknownKey);
        }
        let of_algorithm = |key: &&VerifyKey| key.algorithm.native() == header.alg;
        if !keys().any(|key| fits(&key) && of_algorithm(&key)) {
            return Err(AuthError::Algorithm);
        }
        Ok(keys().filter(move |key| fits(key) && of_algorithm(key)))
    }

    /// Whether the token is from the issuer, and for an audience, that are asked for.
    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let is_wanted =
            |one: &Value| one.as_str().is_some_and(|one| self.audience.iter().any(|own| own == one));
        // RFC 7519 §4.1.3: a text, or a list of texts.
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(is_wanted),
            Some(one) => is_wanted(one),
            None => false,
        };
        if !(self.audience.is_empty() || is_for_us) {
            return Err(AuthError::Audience);
        }
        // RFC 7519 §4.1.1: one text, never a list.
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err(AuthError::Issuer);
        }
        Ok(())
    }

    fn bearer(
        &self,
        claims: &Map<String, Value>,
        key: &VerifyKey,
        now_ms: u64,
    ) -> Result<(Bearer, Option<String>), AuthError> {
        self.check_parties(claims)?;
        let (valid_for_ms, issued_at) = self.times(claims, now_ms)?;
        let user = claims.get(&self.user_claim).ok_or(AuthError::User)?;
        let service = self.service_scope.as_deref().is_some_and(|wanted| has_scope(claims, wanted));
        let rooms = rooms_of(claims.get(&self.rooms_claim))?;
        let key_number = key.number;
        let mut bearer = Bearer { mid: None, uid: None, valid_for_ms, issued_at, key_number, service, rooms };
        match (self.user_kind, user) {
            (UserKind::Auto | UserKind::Mid, Value::Number(number)) => bearer.mid = number.as_i64(),
            (UserKind::Mid, Value::String(text)) => bearer.mid = mid_from_text(text),
            (UserKind::Auto | UserKind::Uid, Value::String(text)) => bearer.uid = Some(text.clone()),
            (UserKind::Uid, Value::Number(number)) => bearer.uid = Some(number.to_string()),
            _ => return Err(AuthError::User),
        }
        let uid_fits =
            |uid: &String| !uid.is_empty() && uid.len() <= UID_SIZE_MAX && !uid.chars().any(char::is_control);
        let valid = match (&bearer.mid, &bearer.uid) {
            // goim takes 0 for "no user".
            (Some(mid), None) => *mid != 0,
            (None, Some(uid)) => uid_fits(uid),
            _ => false,
        };
        let own_key = self.key_claim.as_ref().and_then(|claim| claims.get(claim)).and_then(Value::as_str);
        if valid { Ok((bearer, own_key.map(str::to_owned))) } else { Err(AuthError::User) }
    }

    /// How long the token still holds, in milliseconds, and when it was issued, in seconds since
    /// 1970.
    ///
    /// The first is no longer than the token's whole life from its issue: a clock that is behind
    /// does not lengthen it.
    fn times(&self, claims: &Map<String, Value>, now_ms: u64) -> Result<(u64, u32), AuthError> {
        let time = |name: &str| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_f64().map(|seconds| Some((seconds * 1000.0) as i64)).ok_or(AuthError::TokenInvalid)
            }
        };
        let (now, leeway) = (now_ms as i64, self.leeway_s as i64 * 1000);
        let exp = time("exp")?.ok_or(AuthError::TokenInvalid)?;
        let left = exp.saturating_add(leeway).saturating_sub(now);
        if left < 0 {
            return Err(AuthError::Expired);
        }
        if time("nbf")?.is_some_and(|nbf| nbf > now.saturating_add(leeway)) {
            return Err(AuthError::NotYetValid);
        }
        let issued = time("iat")?;
        let life = issued.map_or(i64::MAX, |issued| exp.saturating_sub(issued).max(0).saturating_add(leeway));
        let issued_at = issued.unwrap_or(now) / 1000;
        Ok((left.min(life) as u64, u32::try_from(issued_at).unwrap_or(u32::MAX)))
    }
}

/// The header of a token (RFC 7515 §4). "Ed25519" is EdDSA on the one curve that is used here (RFC
/// 9864 §2.2), by a name that the library does not know.
fn header_of(token: &str) -> Result<Header, AuthError> {
    let by_new_name = || {
        let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())?;
        let mut members: Map<String, Value> = serde_json::from_slice(&header).ok()?;
        let algorithm = members.get_mut("alg").filter(|name| name.as_str() == Some(ED25519))?;
        *algorithm = "EdDSA".into();
        serde_json::from_value(Value::Object(members)).ok()
    };
    decode_header(token).or_else(|error| by_new_name().ok_or_else(|| reason(error.kind())))
}

/// The claims, when `key` has signed them (RFC 7515 §5.2). The claims are not checked yet.
fn signed_claims(token: &str, key: &VerifyKey) -> Result<Map<String, Value>, AuthError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::TokenInvalid)?;
    match crypto::verify(signature, signed.as_bytes(), &key.key, key.algorithm.native()) {
        Ok(true) => {}
        Ok(false) => return Err(AuthError::Signature),
        Err(error) => return Err(reason(error.kind())),
    }
    let payload = signed.split_once('.').and_then(|(_, payload)| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    claims.ok_or(AuthError::TokenInvalid)
}

/// The rooms of a claim: a text, or a list of texts.
fn rooms_of(claim: Option<&Value>) -> Result<String, AuthError> {
    let list: Vec<&str> = match claim {
        None | Some(Value::Null) => return Ok(String::new()),
        Some(Value::String(room)) => vec![room],
        Some(Value::Array(rooms)) => {
            rooms.iter().map(Value::as_str).collect::<Option<_>>().ok_or(AuthError::Rooms)?
        }
        Some(_) => return Err(AuthError::Rooms),
    };
    let fits = |room: &&str| !room.is_empty() && !room.chars().any(char::is_control);
    let text = list.join("\n");
    if text.len() <= ROOMS_SIZE_MAX && list.iter().all(fits) { Ok(text) } else { Err(AuthError::Rooms) }
}

/// Whether the scope claim (RFC 8693 §4.2: words with a space between them) has this word; some
/// issuers write a list.
fn has_scope(claims: &Map<String, Value>, wanted: &str) -> bool {
    match claims.get("scope") {
        Some(Value::String(words)) => words.split(' ').any(|word| word == wanted),
        Some(Value::Array(words)) => words.iter().any(|word| word.as_str() == Some(wanted)),
        _ => false,
    }
}

fn reason(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::InvalidSignature => AuthError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            AuthError::Algorithm
        }
        _ => AuthError::TokenInvalid,
    }
}
