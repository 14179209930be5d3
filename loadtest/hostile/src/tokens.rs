//! Tokens as a login service signs them: ES256, with the key set that the gateway is given.

use crate::error::RunError;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const AUDIENCE: &str = "chat";
pub(crate) const ISSUER: &str = "https://login.example.org";
/// The key's name in the set.
const KID: &str = "hostile";
/// Lifetime of a token in seconds.
const LIFETIME_S: i64 = 6 * 3600;

/// A key pair that signs tokens.
pub(crate) struct Signer {
    /// PKCS#8.
    der: Vec<u8>,
    key: EncodingKey,
}

impl Signer {
    /// A new pair.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(crate) fn generate() -> Result<Signer, RunError> {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| RunError::new("no key pair could be made", "look at /dev/urandom"))?;
        Ok(Signer::of(der.as_ref().to_vec()))
    }

    fn of(der: Vec<u8>) -> Signer {
        Signer { key: EncodingKey::from_ec_der(&der), der }
    }

    /// The pair that [`Signer::export`] wrote.
    ///
    /// # Errors
    /// Where the text is no key.
    pub(crate) fn import(text: &str) -> Result<Signer, RunError> {
        let der =
            STANDARD.decode(text).map_err(|_| RunError::new("no key", "this is an internal command"))?;
        Ok(Signer::of(der))
    }

    pub(crate) fn export(&self) -> String {
        STANDARD.encode(&self.der)
    }

    /// The set that the gateway reads.
    pub(crate) fn jwks(&self) -> Result<String, RunError> {
        let bad = |_| RunError::new("the key pair cannot be read", "report this");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.der).map_err(bad)?;
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        let ours =
            json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KID, "x": x, "y": y });
        Ok(json!({ "keys": [ours] }).to_string())
    }

    /// Any claims, signed.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KID.to_owned());
        encode(&header, claims, &self.key).unwrap_or_default()
    }

    /// The token of a user by number, or by name where `user` is text.
    pub(crate) fn user(&self, user: &Value, rooms: &[String]) -> String {
        self.sign(&claims(user, rooms))
    }
}

/// The claims that a login service writes into a user's token.
pub(crate) fn claims(user: &Value, rooms: &[String]) -> Value {
    json!({ "sub": user, "exp": now_s() + LIFETIME_S, "aud": AUDIENCE, "iss": ISSUER, "rooms": rooms })
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_survives_its_text_and_signs_three_parts() {
        let signer = Signer::generate().unwrap();
        let again = Signer::import(&signer.export()).unwrap();
        assert_eq!(again.der, signer.der);
        let token = again.user(&json!(7), &["live://1".into()]);
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let body = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["sub"], &body["rooms"][0]), (&json!(7), &json!("live://1")));
        assert!(signer.jwks().unwrap().contains("P-256"));
    }
}
