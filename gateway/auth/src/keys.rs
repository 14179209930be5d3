//! Keys that tokens are checked with. Each knows its one algorithm.

use aws_lc_rs::signature;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

/// The shortest shared secret, in bytes: RFC 7518 §3.2, "a key of the same size as the hash output
/// or larger".
pub const SECRET_SIZE_MIN: usize = 32;

/// RFC 7518 §3.3: "A key of size 2048 bits or larger MUST be used".
const RSA_BITS_MIN: usize = 2048;

/// The curve's object identifier in DER: 1.2.840.10045.3.1.7.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// What is before the 32 bytes of an Ed25519 key in DER (RFC 8410 §4).
const ED25519_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The name of EdDSA on that curve (RFC 9864 §2.2).
pub(super) const ED25519: &str = "Ed25519";

/// Bytes of a coordinate of P-256 (RFC 7518 §6.2.1.2), and of a key of Ed25519 (RFC 8032 §5.1.5).
const COORDINATE_SIZE: usize = 32;

/// Most bits of an RSA key's exponent, as in the library that checks the signatures.
const EXPONENT_BITS_MAX: usize = 33;

/// Most keys of a set.
const KEYS_MAX: usize = 64;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with a shared secret.
    Hs256,
    /// RSASSA-PKCS1-v1_5.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl TokenAlgorithm {
    /// All of them.
    pub const ALL: [TokenAlgorithm; 4] =
        [TokenAlgorithm::Hs256, TokenAlgorithm::Rs256, TokenAlgorithm::Es256, TokenAlgorithm::EdDsa];

    /// Its name, as in a token's header.
    pub const fn label(self) -> &'static str {
        match self {
            TokenAlgorithm::Hs256 => "HS256",
            TokenAlgorithm::Rs256 => "RS256",
            TokenAlgorithm::Es256 => "ES256",
            TokenAlgorithm::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn native(self) -> Algorithm {
        match self {
            TokenAlgorithm::Hs256 => Algorithm::HS256,
            TokenAlgorithm::Rs256 => Algorithm::RS256,
            TokenAlgorithm::Es256 => Algorithm::ES256,
            TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A key and the only algorithm that it is used with.
#[derive(Clone, Debug)]
pub(super) struct VerifyKey {
    pub(super) id: Option<String>,
    /// Index of `id` in [`KeySet::names`] plus one; 0: no id, or no number is left for it.
    pub(super) number: u8,
    pub(super) algorithm: TokenAlgorithm,
    pub(super) key: DecodingKey,
}

/// The id of a key that has a number.
#[derive(Clone, Debug)]
struct Name {
    id: String,
    /// Age of the last set that it was in.
    last: u64,
}

/// A set of 1 to 64 keys.
#[derive(Clone, Debug)]
pub struct KeySet {
    pub(super) keys: Vec<VerifyKey>,
    /// The ids of these keys and of those before them, at most 255, by number. A session keeps the
    /// number of its token's key, so that the sessions of a key can be closed after the key was
    /// removed.
    names: Vec<Name>,
    /// Count of sets before this one.
    age: u64,
    /// Keys of a set that are not used, each with the reason.
    left_out: Vec<String>,
}

impl KeySet {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// What to do instead, when it is too short.
    pub fn from_secret(secret: &[u8]) -> Result<KeySet, String> {
        if secret.len() < SECRET_SIZE_MIN {
            let size = secret.len();
            return Err(format!(
                "the secret has {size} bytes; HS256 needs at least {SECRET_SIZE_MIN} random ones"
            ));
        }
        let key = DecodingKey::from_secret(secret);
        Ok(KeySet::of(vec![VerifyKey { id: None, number: 0, algorithm: TokenAlgorithm::Hs256, key }]))
    }

    /// A public key in PEM; its type says the algorithm.
    ///
    /// # Errors
    /// What to do instead.
    pub fn from_pem(pem: &[u8]) -> Result<KeySet, String> {
        if String::from_utf8_lossy(pem).contains("PRIVATE KEY") {
            return Err("holds a private key; the gateway only checks tokens, give it the public key".into());
        }
        let count = String::from_utf8_lossy(pem).matches("-----BEGIN ").count();
        if count > 1 {
            return Err(format!(
                "holds {count} keys or certificates, of which only one could be used; give one, or a JWK set in auth.jwks_file"
            ));
        }
        let rsa = DecodingKey::from_rsa_pem(pem).map(|key| (TokenAlgorithm::Rs256, key));
        let ec = || DecodingKey::from_ec_pem(pem).map(|key| (TokenAlgorithm::Es256, key));
        let ed = || DecodingKey::from_ed_pem(pem).map(|key| (TokenAlgorithm::EdDsa, key));
        match rsa.or_else(|_| ec()).or_else(|_| ed()) {
            Ok((TokenAlgorithm::Es256, _)) if !pem_bytes(pem).windows(P256.len()).any(|part| part == P256) => {
                Err("is a key of another curve than P-256, which alone ES256 is checked with; make one by `openssl ecparam -name prime256v1 -genkey`".into())
            }
            Ok((TokenAlgorithm::Rs256, _)) if modulus_bits(&pem_bytes(pem)).is_some_and(|bits| bits < RSA_BITS_MIN) => {
                Err(too_short())
            }
            // In a certificate that an Ed25519 key has signed, the signature's type is found before
            // the key's.
            Ok((TokenAlgorithm::EdDsa, _)) if !pem_bytes(pem).windows(ED25519_KEY.len()).any(|part| part == ED25519_KEY) => {
                Err(unreadable(pem).into())
            }
            Ok((algorithm, key)) => Ok(KeySet::of(vec![VerifyKey { id: None, number: 0, algorithm, key }])),
            Err(_) => Err(unreadable(pem).into()),
        }
    }

    fn of(keys: Vec<VerifyKey>) -> KeySet {
        KeySet { keys, names: Vec::new(), age: 0, left_out: Vec::new() }
    }

    /// Reads a JWK set. Keys that are not understood are left out; the rest is used:
    /// "Implementations SHOULD ignore JWKs within a JWK Set that use "kty" (key type) values that
    /// are not understood by the implementations, that are missing required members, or for which
    /// values are out of the supported ranges" (RFC 7517 §5).
    ///
    /// # Errors
    /// What to do instead, when the text is no set or no key is left.
    pub fn from_jwks(json: &[u8]) -> Result<KeySet, String> {
        let no_set = |why: &dyn std::fmt::Display| format!("is no JWK set (RFC 7517 §5): {why}");
        let set: Value = serde_json::from_slice(json).map_err(|error| no_set(&error))?;
        let list = set.get("keys").and_then(Value::as_array);
        let list = list.ok_or_else(|| no_set(&"it has no list named \"keys\""))?;
        let mut set = KeySet::of(Vec::new());
        for (index, jwk) in list.iter().enumerate() {
            match verify_key(jwk) {
                Ok(key) => set.keys.push(key),
                Err(why) => {
                    let id = jwk.get("kid").and_then(Value::as_str);
                    let name = id.map_or_else(|| format!("number {}", index + 1), str::to_owned);
                    set.left_out.push(format!("key {name} {why}"));
                }
            }
        }
        if set.keys.len() > KEYS_MAX {
            return Err(format!("holds {} keys; at most {KEYS_MAX} are used", set.keys.len()));
        }
        if set.keys.is_empty() {
            let why = if set.left_out.is_empty() {
                String::new()
            } else {
                format!(": {}", set.left_out.join("; "))
            };
            return Err(format!("holds no key for RS256, ES256 or EdDSA{why}"));
        }
        set.number(|_| false);
        Ok(set)
    }

    /// Keys of the set that are not used, each with the reason.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Replaces `before` by these keys; ids keep their numbers. When there are no more numbers, a
    /// new id gets the number of an earlier id that no session has `in_use`. Ids of the set just
    /// before keep theirs: its tokens may still be on their way to a session.
    pub fn in_place_of(mut self, before: &KeySet, in_use: impl Fn(u8) -> bool) -> KeySet {
        self.names = before.names.clone();
        self.age = before.age + 1;
        self.number(in_use);
        self
    }

    fn number(&mut self, in_use: impl Fn(u8) -> bool) {
        let (names, age) = (&mut self.names, self.age);
        // Ids that have numbers first: theirs are not free.
        for name in names.iter_mut() {
            if self.keys.iter().any(|key| key.id.as_ref() == Some(&name.id)) {
                name.last = age;
            }
        }
        for key in &mut self.keys {
            let Some(id) = &key.id else { continue };
            let index = names.iter().position(|name| name.id == *id).or_else(|| {
                let name = Name { id: id.clone(), last: age };
                if names.len() < usize::from(u8::MAX) {
                    names.push(name);
                    return Some(names.len() - 1);
                }
                let free = |index: &usize| names[*index].last + 1 < age && !in_use(*index as u8 + 1);
                let oldest = (0..names.len()).filter(free).min_by_key(|index| names[*index].last)?;
                names[oldest] = name;
                Some(oldest)
            });
            key.number = index.map_or(0, |index| index as u8 + 1);
        }
    }

    /// Returns the number of the key with this id, of this set or of an earlier one; `None` when
    /// there was none.
    pub fn number_of(&self, id: &str) -> Option<u8> {
        self.names.iter().position(|name| name.id == id).map(|index| index as u8 + 1)
    }

    /// Ids of keys without a number, because none was left: their sessions can't be found by id.
    pub fn unnumbered(&self) -> impl Iterator<Item = &str> {
        let without = self.keys.iter().filter(|key| key.number == 0);
        without.filter_map(|key| key.id.as_deref())
    }

    /// Keeps only the keys for `algorithms`; an empty list keeps all.
    ///
    /// # Errors
    /// When no key is left.
    pub fn restricted(mut self, algorithms: &[TokenAlgorithm]) -> Result<KeySet, String> {
        let found = self.algorithms().join(", ");
        self.keys.retain(|key| algorithms.is_empty() || algorithms.contains(&key.algorithm));
        if self.keys.is_empty() {
            return Err(format!(
                "is for {found}, which auth.algorithms does not list; add it there or give another key"
            ));
        }
        Ok(self)
    }

    /// Names of the algorithms of its keys.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.keys.iter().map(|key| key.algorithm.label()).collect();
        names.dedup();
        names
    }
}

fn too_short() -> String {
    format!(
        "is an RSA key of less than {RSA_BITS_MIN} bits, with which no token is accepted (RFC 7518 §3.3); make a larger one \
         by `openssl genrsa -out private.pem 3072`"
    )
}

/// Says what a file without a PEM key holds, and how to convert it.
fn unreadable(file: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(file);
    if text.contains("-----BEGIN CERTIFICATE") {
        return "holds a certificate that can't be read; write its public key by `openssl x509 -in FILE -pubkey -noout -out public.pem`";
    }
    if text.contains("-----BEGIN RSA PUBLIC KEY") {
        return "holds a PKCS#1 key that can't be read; convert it by `openssl rsa -RSAPublicKey_in -in FILE -pubout -out public.pem`";
    }
    if ["ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-"].iter().any(|kind| text.starts_with(kind)) {
        return "is a key of SSH; convert it by `ssh-keygen -e -m PKCS8 -f FILE > public.pem`";
    }
    if text.trim_start().starts_with('{') {
        return "is JSON; a JWK set goes into auth.jwks_file";
    }
    // DER begins with a SEQUENCE of a length in two bytes, or in one.
    if file.starts_with(&[0x30, 0x82]) || file.starts_with(&[0x30, 0x81]) || file.starts_with(&[0x30, 0x59]) {
        return "is DER; convert it by `openssl pkey -pubin -inform DER -in FILE -out public.pem`, or a certificate by `openssl \
                x509 -inform DER -in FILE -pubkey -noout -out public.pem`";
    }
    "holds no public key of RSA, P-256 or Ed25519 in PEM (-----BEGIN PUBLIC KEY-----); `openssl pkey -in private.pem -pubout \
     -out public.pem` makes one of a private key"
}

/// Normalizes the numbers of a key for the library: a publisher may add leading zeros, or leave out
/// those that belong there. A key that can't verify anything is refused here: otherwise all its
/// tokens would be refused, with a code that says "do not reconnect".
fn repair(jwk: &mut Jwk) -> Result<(), String> {
    match &mut jwk.algorithm {
        AlgorithmParameters::RSA(key) => repair_rsa(&mut key.n, &mut key.e),
        AlgorithmParameters::EllipticCurve(key) => {
            let (x, y) = (coordinate(&key.x)?, coordinate(&key.y)?);
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            signature::ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .map_err(|_| "is no point of the curve P-256 (x, y)")?;
            (key.x, key.y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            Ok(())
        }
        AlgorithmParameters::OctetKeyPair(key) => {
            let bytes = number(&key.x)?;
            let is_key = bytes.len() == COORDINATE_SIZE
                && signature::ParsedPublicKey::new(&signature::ED25519, &bytes).is_ok();
            if is_key { Ok(()) } else { Err("is no key of Ed25519: x has 32 bytes (RFC 8037 §2)".into()) }
        }
        _ => Ok(()),
    }
}

fn repair_rsa(n: &mut String, e: &mut String) -> Result<(), String> {
    let strip =
        |text: &str| number(text).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect());
    let (modulus, exponent): (Vec<u8>, Vec<u8>) = (strip(n)?, strip(e)?);
    if significant_bits(&modulus) < RSA_BITS_MIN {
        return Err(too_short());
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    // RFC 8017 §3.1: n is a product of odd primes, e is odd and at least 3.
    let bits = significant_bits(&exponent);
    if !is_odd(&modulus) || !is_odd(&exponent) || !(2..=EXPONENT_BITS_MAX).contains(&bits) {
        return Err("is no key of RSA: n and e are odd, e is at least 3 (RFC 8017 §3.1)".into());
    }
    (*n, *e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(exponent));
    Ok(())
}

fn number(text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "has a member that is not base64url without padding (RFC 7515 §2)".into())
}

/// A coordinate in its full size.
fn coordinate(text: &str) -> Result<[u8; COORDINATE_SIZE], String> {
    let digits: Vec<u8> = number(text)?.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut full = [0; COORDINATE_SIZE];
    let before =
        COORDINATE_SIZE.checked_sub(digits.len()).ok_or("has a coordinate of more than 32 bytes (x, y)")?;
    full[before..].copy_from_slice(&digits);
    Ok(full)
}

/// Bits of a big-endian number without its leading zeros.
fn significant_bits(number: &[u8]) -> usize {
    let digits = number.iter().skip_while(|byte| **byte == 0);
    digits.clone().next().map_or(0, |first| digits.count() * 8 - first.leading_zeros() as usize)
}

/// What is between the lines of a PEM file, decoded; empty when that fails.
fn pem_bytes(pem: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    let lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN ")).skip(1);
    let body: String = lines.take_while(|line| !line.starts_with("-----END ")).map(str::trim).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default()
}

/// Bits of the modulus in the DER of an RSA key or certificate: the first large INTEGER with
/// another INTEGER behind it.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    (0..der.len()).filter(|at| der[*at] == 0x02).find_map(|at| {
        let (head, size) = match *der.get(at + 1)? {
            0x81 => (3, usize::from(*der.get(at + 2)?)),
            0x82 => (4, usize::from(*der.get(at + 2)?) << 8 | usize::from(*der.get(at + 3)?)),
            size @ 0..=0x7f => (2, usize::from(size)),
            _ => return None,
        };
        let value = der.get(at + head..at + head + size).filter(|_| (33..2048).contains(&size))?;
        (der.get(at + head + size) == Some(&0x02)).then(|| significant_bits(value))
    })
}

/// Members of a JWK that say what the key is. Others, such as certificates, are ignored: they do
/// not change the key.
const JWK_MEMBERS: [&str; 6] = ["kty", "crv", "n", "e", "x", "y"];

/// The key in an element of a set, or why it is not used: a clause that follows its name.
fn verify_key(jwk: &Value) -> Result<VerifyKey, String> {
    let members = jwk.as_object().ok_or("is no object")?;
    let kind = members.get("kty").and_then(Value::as_str).ok_or("has no kty")?;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if members.contains_key("use") && text("use") != Some("sig") {
        return Err("is not for signatures (use)".into());
    }
    // RFC 7517 §4.3: a list of what the key may be used for.
    let verifies = |operations: &Value| {
        operations.as_array().is_some_and(|list| list.iter().any(|one| one.as_str() == Some("verify")))
    };
    if members.get("key_ops").is_some_and(|operations| !verifies(operations)) {
        return Err("is not for checking signatures (key_ops)".into());
    }
    if kind == "oct" {
        return Err(
            "is a shared secret, which does not belong into a JWK set; give it as GATEWAY_AUTH__SECRET"
                .into(),
        );
    }
    let known = JWK_MEMBERS.iter().filter_map(|name| Some(((*name).to_owned(), members.get(*name)?.clone())));
    let mut jwk: Jwk = serde_json::from_value(Value::Object(known.collect::<Map<_, _>>()))
        .map_err(|error| format!("is of a type that is not used here, or incomplete: {error}"))?;
    let algorithm = algorithm_of(&jwk).ok_or("is of a type or curve that is not used here")?;
    let is_own_name =
        |name: &str| name == algorithm.label() || algorithm == TokenAlgorithm::EdDsa && name == ED25519;
    if members.contains_key("alg") && !text("alg").is_some_and(is_own_name) {
        return Err(format!("is for another algorithm than {} (alg)", algorithm.label()));
    }
    repair(&mut jwk)?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| format!("can't be read: {error}"))?;
    Ok(VerifyKey { id: text("kid").map(str::to_owned), number: 0, algorithm, key })
}

/// The one algorithm that a public key is good for.
fn algorithm_of(jwk: &Jwk) -> Option<TokenAlgorithm> {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(TokenAlgorithm::Rs256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Some(TokenAlgorithm::Es256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(TokenAlgorithm::EdDsa)
        }
        _ => None,
    }
}
