//! What a token must be like, and what it then says.

use super::AuthError;
use super::keys::{KeySet, VerifyKey};
use gateway_proto::auth::{AuthRequest, TOKEN_SIZE_MAX, UID_SIZE_MAX};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

/// What the user claim holds.
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
    /// With what.
    pub keys: KeySet,
    /// Accepted audiences; empty: not checked.
    pub audience: Vec<String>,
    /// Required issuer; `None`: not checked.
    pub issuer: Option<String>,
    /// How far clocks may differ, in seconds.
    pub leeway_s: u64,
    /// The claim that names the user.
    pub user_claim: String,
    /// What it holds.
    pub user_kind: UserKind,
    /// The word in the scope claim by which a service is known; `None`: nobody is one.
    pub service_scope: Option<String>,
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
    /// When the token ends, in seconds since 1970.
    pub expires_at: i64,
    /// It is a service, which may send to everyone.
    pub service: bool,
}

impl TokenPolicy {
    /// Checks the token of an Auth request, and that the request does not name somebody else.
    ///
    /// # Errors
    /// Why the login is refused.
    pub fn check_request(&self, request: &AuthRequest<'_>) -> Result<Bearer, AuthError> {
        if request.token.is_empty() {
            return Err(AuthError::TokenMissing);
        }
        let bearer = self.check(request.token)?;
        let same_mid = request.mid == 0 || Some(request.mid) == bearer.mid;
        let same_uid = request.uid.is_none_or(|uid| Some(uid.as_str()) == bearer.uid.as_deref());
        if same_mid && same_uid { Ok(bearer) } else { Err(AuthError::Mismatch) }
    }

    /// Checks a token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, token: &str) -> Result<Bearer, AuthError> {
        if token.len() > TOKEN_SIZE_MAX {
            return Err(AuthError::TokenInvalid);
        }
        let header = decode_header(token).map_err(|error| reason(error.kind()))?;
        // RFC 7515 §4.1.11: extensions that are marked critical and not understood make the token invalid.
        if header.crit.is_some() {
            return Err(AuthError::TokenInvalid);
        }
        let key = self.key_for(&header)?;
        let claims = decode::<Map<String, Value>>(token, &key.key, &self.validation(key));
        let claims = claims.map_err(|error| reason(error.kind()))?.claims;
        self.bearer(&claims)
    }

    fn key_for(&self, header: &Header) -> Result<&VerifyKey, AuthError> {
        let keys = &self.keys.keys;
        let of_algorithm = |key: &&VerifyKey| key.algorithm.native() == header.alg;
        let by_id = header.kid.as_ref().and_then(|id| keys.iter().find(|key| key.id.as_ref() == Some(id)));
        match (by_id, &header.kid) {
            (Some(key), _) => Some(key).filter(of_algorithm).ok_or(AuthError::Algorithm),
            // A kid that no key has means another key, unless our only key has no kid to compare with.
            (None, Some(_)) if keys.iter().any(|key| key.id.is_some()) => Err(AuthError::UnknownKey),
            (None, _) => keys.iter().find(of_algorithm).ok_or(AuthError::Algorithm),
        }
    }

    fn validation(&self, key: &VerifyKey) -> Validation {
        let mut validation = Validation::new(key.algorithm.native());
        let mut required = vec!["exp"];
        validation.leeway = self.leeway_s;
        validation.validate_nbf = true;
        validation.validate_aud = !self.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn bearer(&self, claims: &Map<String, Value>) -> Result<Bearer, AuthError> {
        let exp = claims.get("exp").and_then(Value::as_f64).ok_or(AuthError::TokenInvalid)?;
        let user = claims.get(&self.user_claim).ok_or(AuthError::User)?;
        let service = self.service_scope.as_deref().is_some_and(|wanted| has_scope(claims, wanted));
        let mut bearer = Bearer { mid: None, uid: None, expires_at: exp as i64, service };
        match (self.user_kind, user) {
            (UserKind::Auto | UserKind::Mid, Value::Number(number)) => bearer.mid = number.as_i64(),
            (UserKind::Mid, Value::String(text)) => bearer.mid = text.parse().ok(),
            (UserKind::Auto | UserKind::Uid, Value::String(text)) => bearer.uid = Some(text.clone()),
            (UserKind::Uid, Value::Number(number)) => bearer.uid = Some(number.to_string()),
            _ => return Err(AuthError::User),
        }
        let uid_fits =
            |uid: &String| !uid.is_empty() && uid.len() <= UID_SIZE_MAX && !uid.chars().any(char::is_control);
        let valid = match (&bearer.mid, &bearer.uid) {
            // goim takes 0 for "nobody".
            (Some(mid), None) => *mid != 0,
            (None, Some(uid)) => uid_fits(uid),
            _ => false,
        };
        if valid { Ok(bearer) } else { Err(AuthError::User) }
    }
}

/// Whether the scope claim (RFC 8693 §4.2: words with a space between them) has this word; some issuers write a list.
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
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYetValid,
        ErrorKind::InvalidAudience => AuthError::Audience,
        ErrorKind::InvalidIssuer => AuthError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => AuthError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => AuthError::Issuer,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            AuthError::Algorithm
        }
        _ => AuthError::TokenInvalid,
    }
}
