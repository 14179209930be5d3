use super::*;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway_core::address::{Address, WorkerId};
use gateway_core::message::{
    AuthError, Message, PendingLogins, Verdict, VerifyNumber, VerifyRequest, VerifySender, verify_queue,
};
use gateway_core::sources::Sources;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use netpoll::{BufferPools, Mailbox, PoolSize, PoolsConfig, Waker, mailbox};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A key pair: how to sign, the public half in PEM, and as a JWK.
pub(super) struct Pair {
    pub(super) algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    public_pem: String,
    private_pem: String,
    pub(super) jwk: Value,
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn public_pem<T: AsDer<PublicKeyX509Der<'static>>>(key: &T) -> String {
    pem("PUBLIC KEY", key.as_der().unwrap().as_ref())
}

pub(super) static RSA: LazyLock<Pair> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private_pem = pem("PRIVATE KEY", AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref());
    let public = pair.public_key();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "rsa",
        "n": number(public.modulus().big_endian_without_leading_zero()),
        "e": number(public.exponent().big_endian_without_leading_zero()),
    });
    let signing = EncodingKey::from_rsa_pem(private_pem.as_bytes()).unwrap();
    Pair { algorithm: Algorithm::RS256, signing, public_pem: public_pem(public), private_pem, jwk }
});

pub(super) static EC: LazyLock<Pair> = LazyLock::new(|| new_ec("ec"));

/// A new pair on P-256; its JWK has this id.
pub(super) fn new_ec(kid: &str) -> Pair {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y });
    Pair {
        algorithm: Algorithm::ES256,
        signing: EncodingKey::from_ec_der(der.as_ref()),
        public_pem: public_pem(pair.public_key()),
        private_pem: pem("PRIVATE KEY", der.as_ref()),
        jwk,
    }
}

pub(super) static ED: LazyLock<Pair> = LazyLock::new(|| {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()) });
    Pair {
        algorithm: Algorithm::EdDSA,
        signing: EncodingKey::from_ed_der(der.as_ref()),
        public_pem: public_pem(pair.public_key()),
        private_pem: pem("PRIVATE KEY", der.as_ref()),
        jwk,
    }
});

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn now_ms() -> u64 {
    policy::unix_now_ms()
}

pub(super) fn policy(keys: Result<KeySet, String>) -> TokenPolicy {
    TokenPolicy {
        keys: keys.unwrap(),
        audience: vec![],
        issuer: None,
        leeway_s: 30,
        user_claim: "sub".into(),
        user_kind: UserKind::Auto,
        service_scope: None,
        key_claim: None,
        rooms_claim: "rooms".into(),
        threads: 1,
        queue_requests_max: 16,
    }
}

pub(super) fn hs_policy() -> TokenPolicy {
    policy(KeySet::from_secret(SECRET))
}

pub(super) fn token(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    encode(&header, claims, key).unwrap()
}

pub(super) fn hs_token(claims: &Value) -> String {
    token(Algorithm::HS256, &EncodingKey::from_secret(SECRET), None, claims)
}

pub(super) fn good_claims() -> Value {
    json!({ "sub": 42, "exp": now() + 60 })
}

#[test]
fn each_algorithm_is_accepted_by_its_key_in_pem_and_in_a_set() {
    let set = json!({ "keys": [RSA.jwk, EC.jwk, ED.jwk] }).to_string();
    let set = policy(KeySet::from_jwks(set.as_bytes()));
    for pair in [&*RSA, &*EC, &*ED] {
        let plain = token(pair.algorithm, &pair.signing, None, &good_claims());
        let single = policy(KeySet::from_pem(pair.public_pem.as_bytes()));
        assert_eq!(single.check(&plain, now_ms()).unwrap().mid, Some(42), "{:?}", pair.algorithm);
        assert_eq!(set.check(&plain, now_ms()).unwrap().mid, Some(42));
        let named = token(pair.algorithm, &pair.signing, pair.jwk["kid"].as_str(), &good_claims());
        assert_eq!(set.check(&named, now_ms()).unwrap().mid, Some(42));
        assert_eq!(
            single.check(&named, now_ms()).unwrap().mid,
            Some(42),
            "a single key has no kid to compare with"
        );
        let stranger = token(pair.algorithm, &pair.signing, Some("nobody"), &good_claims());
        assert_eq!(set.check(&stranger, now_ms()), Err(AuthError::UnknownKey));
    }
    assert_eq!(hs_policy().check(&hs_token(&good_claims()), now_ms()).unwrap().mid, Some(42));
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    // The classic confusion: an HS256 token signed with the public key's text as the secret.
    for secret in [RSA.public_pem.as_bytes(), RSA.public_pem.trim().as_bytes()] {
        let forged = token(Algorithm::HS256, &EncodingKey::from_secret(secret), None, &good_claims());
        let found = policy(KeySet::from_pem(RSA.public_pem.as_bytes())).check(&forged, now_ms());
        assert_eq!(found, Err(AuthError::Algorithm));
        let named = token(Algorithm::HS256, &EncodingKey::from_secret(secret), Some("rsa"), &good_claims());
        let set = policy(KeySet::from_jwks(json!({ "keys": [RSA.jwk] }).to_string().as_bytes()));
        assert_eq!(set.check(&named, now_ms()), Err(AuthError::Algorithm));
    }
    let other_family = token(Algorithm::ES256, &EC.signing, Some("rsa"), &good_claims());
    let set = policy(KeySet::from_jwks(json!({ "keys": [RSA.jwk, EC.jwk] }).to_string().as_bytes()));
    assert_eq!(set.check(&other_family, now_ms()), Err(AuthError::Algorithm));
    let other_hash = token(Algorithm::RS512, &RSA.signing, None, &good_claims());
    assert_eq!(set.check(&other_hash, now_ms()), Err(AuthError::Algorithm));
}

#[test]
fn unsigned_and_unknown_algorithms_are_refused() {
    let claims = URL_SAFE_NO_PAD.encode(good_claims().to_string());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":""}"#,
        "{}",
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
    ] {
        for signature in ["", "AAAA"] {
            let forged = format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(header));
            assert!(hs_policy().check(&forged, now_ms()).is_err(), "{header}");
        }
    }
}

#[test]
fn times_audience_and_issuer_are_checked() {
    let mut strict = hs_policy();
    strict.audience = vec!["chat".into()];
    strict.issuer = Some("login".into());
    let check = |change: Value| {
        let mut claims = json!({ "sub": "u", "exp": now() + 60, "aud": "chat", "iss": "login" });
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        strict.check(&hs_token(&claims), now_ms()).map(|bearer| bearer.uid.unwrap())
    };
    assert_eq!(check(json!({})), Ok("u".into()));
    assert_eq!(check(json!({ "aud": ["other", "chat"] })), Ok("u".into()));
    assert_eq!(check(json!({ "exp": now() - 10 })), Ok("u".into()), "within the leeway");
    assert_eq!(check(json!({ "exp": now() - 120 })), Err(AuthError::Expired));
    assert_eq!(check(json!({ "exp": null })), Err(AuthError::TokenInvalid));
    assert_eq!(check(json!({ "exp": "soon" })), Err(AuthError::TokenInvalid));
    assert_eq!(check(json!({ "nbf": now() + 120 })), Err(AuthError::NotYetValid));
    assert_eq!(check(json!({ "nbf": now() + 10 })), Ok("u".into()));
    assert_eq!(check(json!({ "aud": "other" })), Err(AuthError::Audience));
    assert_eq!(check(json!({ "aud": null })), Err(AuthError::Audience));
    assert_eq!(check(json!({ "iss": "other" })), Err(AuthError::Issuer));
    assert_eq!(check(json!({ "iss": null })), Err(AuthError::Issuer));
}

#[test]
fn the_user_is_a_number_or_a_text_as_configured() {
    let check = |kind, sub: Value| {
        let mut policy = hs_policy();
        policy.user_kind = kind;
        policy
            .check(&hs_token(&json!({ "sub": sub, "exp": now() + 60 })), now_ms())
            .map(|found| (found.mid, found.uid))
    };
    use UserKind::{Auto, Mid, Uid};
    assert_eq!(check(Auto, json!(7)), Ok((Some(7), None)));
    assert_eq!(check(Auto, json!("7")), Ok((None, Some("7".into()))));
    assert_eq!(check(Mid, json!("7")), Ok((Some(7), None)));
    assert_eq!(check(Mid, json!("-9223372036854775808")), Ok((Some(i64::MIN), None)));
    assert_eq!(check(Uid, json!(7)), Ok((None, Some("7".into()))));
    for (kind, sub) in [
        (Auto, json!(0)),
        (Auto, json!("")),
        (Auto, json!(1.5)),
        (Auto, json!(u64::MAX)),
        (Auto, json!(null)),
        (Auto, json!("a".repeat(129))),
        (Auto, json!("a\u{0}")),
        (Mid, json!("seven")),
        // Another subject than "7", and so not its user.
        (Mid, json!("007")),
    ] {
        assert_eq!(check(kind, sub.clone()), Err(AuthError::User), "{kind:?} {sub}");
    }
    assert_eq!(hs_policy().check(&hs_token(&json!({ "exp": now() + 60 })), now_ms()), Err(AuthError::User));
}

#[test]
fn a_service_is_known_by_a_word_of_its_scope() {
    let check = |wanted: Option<&str>, scope: Value| {
        let mut policy = hs_policy();
        policy.service_scope = wanted.map(str::to_owned);
        let claims = json!({ "sub": 7, "exp": now() + 60, "scope": scope });
        policy.check(&hs_token(&claims), now_ms()).unwrap().service
    };
    let wanted = Some("gateway:send");
    for scope in [json!("gateway:send"), json!("read gateway:send write"), json!(["read", "gateway:send"])] {
        assert!(check(wanted, scope.clone()), "{scope}");
        assert!(!check(None, scope.clone()), "no token is, unless it is configured: {scope}");
    }
    for scope in [json!("gateway:send:all"), json!("gateway"), json!(""), json!(null), json!(1), json!({})] {
        assert!(!check(wanted, scope.clone()), "{scope}");
    }
}

#[test]
fn damage_is_refused_wherever_it_is() {
    let good = hs_token(&good_claims());
    let policy = hs_policy();
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(bytes).unwrap();
        // The last character of a signature has bits that mean nothing.
        assert!(at + 1 == good.len() || policy.check(&damaged, now_ms()).is_err(), "byte {at}");
        assert!(policy.check(&good[..at], now_ms()).is_err());
    }
    for garbage in ["", ".", "..", "...", "a.b.c", "\u{e9}.\u{e9}.\u{e9}", "e30.e30.e30"] {
        assert!(policy.check(garbage, now_ms()).is_err(), "{garbage}");
    }
    let other = token(Algorithm::HS256, &EncodingKey::from_secret(&[b'x'; 32]), None, &good_claims());
    assert_eq!(policy.check(&other, now_ms()), Err(AuthError::Signature));
}

#[test]
fn large_tokens_are_checked_and_larger_ones_are_not() {
    let with = |size: usize| hs_token(&json!({ "sub": 1, "exp": now() + 60, "x": "x".repeat(size) }));
    assert!(with(5900).len() > 7900 && with(5900).len() <= 8192);
    assert_eq!(hs_policy().check(&with(5900), now_ms()).unwrap().mid, Some(1));
    assert_eq!(hs_policy().check(&with(7000), now_ms()), Err(AuthError::TokenInvalid));
    let nested = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":1,"exp":{},"x":{nested}}}"#, now() + 60));
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    assert!(hs_policy().check(&format!("{header}.{claims}.AAAA"), now_ms()).is_err());
}

#[test]
fn keys_that_can_not_be_meant_are_refused_with_advice() {
    let refused = |found: Result<KeySet, String>, part: &str| {
        let advice = found.unwrap_err();
        assert!(advice.contains(part), "{advice}");
    };
    refused(KeySet::from_secret(b"short"), "at least 32");
    for pair in [&*RSA, &*EC, &*ED] {
        refused(KeySet::from_pem(pair.private_pem.as_bytes()), "private key");
    }
    refused(KeySet::from_pem(b"no pem"), "BEGIN PUBLIC KEY");
    refused(KeySet::from_jwks(b"{}"), "RFC 7517");
    refused(KeySet::from_jwks(br#"{"keys":[]}"#), "no key for RS256");
    let symmetric = json!({ "keys": [{ "kty": "oct", "k": "AAAA", "kid": "s" }] }).to_string();
    refused(KeySet::from_jwks(symmetric.as_bytes()), "key s is a shared secret");
    let mut encryption = RSA.jwk.clone();
    encryption["use"] = json!("enc");
    refused(KeySet::from_jwks(json!({ "keys": [encryption] }).to_string().as_bytes()), "no key for RS256");
    refused(
        KeySet::from_pem(EC.public_pem.as_bytes()).unwrap().restricted(&[TokenAlgorithm::Rs256]),
        "auth.algorithms",
    );
}

/// A verifier of one thread, and the mailbox of a worker.
struct Bench {
    sender: VerifySender,
    verifier: Verifier,
    worker: Mailbox<Message>,
    pools: BufferPools,
    sources: Arc<Sources>,
    pending: Arc<PendingLogins>,
}

/// Where all tokens come from.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn bench(policy: TokenPolicy, mailbox_capacity: usize) -> Bench {
    let (sender, queue) = verify_queue(policy.threads, policy.queue_requests_max).unwrap();
    let (workers, worker) = mailbox(mailbox_capacity, Waker::event_fd().unwrap());
    let verifier = Verifier::start(queue, Arc::new(policy), &[workers], 0).unwrap();
    let size = PoolSize { size: 4096, count: 256 };
    let config =
        PoolsConfig { receive: PoolSize { size: 64, count: 1 }, blocks: vec![size], huge_pages: false };
    let sources = Arc::new(Sources::new(64));
    let pending = PendingLogins::new(Arc::clone(&sources));
    Bench { sender, verifier, worker, pools: BufferPools::new(&config).unwrap(), sources, pending }
}

impl Bench {
    fn ask(&mut self, index: u32, body: &str) -> Result<VerifyNumber, VerifyRequest> {
        let address = Address::new(WorkerId(0), netpoll::ConnectionId::new(index, 3));
        let body = self.pools.copy(body.as_bytes()).unwrap();
        let pending = self.pending.begin(self.sources.source(CLIENT));
        self.sender.send(VerifyRequest { address, pending, sequence: 9, body })
    }

    fn verdict(&self) -> Verdict {
        let start = Instant::now();
        loop {
            match self.worker.pop() {
                Some(Message::Verified(verdict)) => return verdict,
                Some(other) => panic!("{other:?}"),
                None => assert!(start.elapsed() < Duration::from_secs(60), "no verdict"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_verdict_brings_the_body_back_and_says_who_it_is() {
    let mut bench = bench(hs_policy(), 64);
    let token = hs_token(&json!({ "sub": "user-é", "exp": now() + 60 }));
    let body = json!({ "token": token, "room_id": "live://1", "uid": "user-é" }).to_string();
    bench.ask(5, &body).unwrap();
    let verdict = bench.verdict();
    assert_eq!((verdict.connection.index(), verdict.connection.generation(), verdict.sequence), (5, 3, 9));
    assert_eq!(verdict.body.as_slice(), body.as_bytes());
    let claims = verdict.result.unwrap();
    assert_eq!((claims.mid, claims.uid()), (0, Some("user-é")));
    for (body, error) in [
        (json!({ "token": token, "uid": "other" }), AuthError::Mismatch),
        (json!({ "token": token, "mid": 7 }), AuthError::Mismatch),
        (json!({ "mid": 7 }), AuthError::TokenMissing),
        (json!({ "token": 7 }), AuthError::Malformed),
        (json!([]), AuthError::Malformed),
    ] {
        bench.ask(5, &body.to_string()).unwrap();
        assert_eq!(bench.verdict().result.unwrap_err(), error, "{body}");
    }
    let metrics = &bench.verifier.metrics()[0];
    assert_eq!((metrics.accepted.get(), metrics.refused[AuthError::Mismatch as usize].get()), (1, 2));
}

#[test]
fn new_keys_hold_from_the_next_request_on() {
    let mut bench = bench(hs_policy(), 64);
    let body = json!({ "token": hs_token(&good_claims()) }).to_string();
    bench.ask(1, &body).unwrap();
    assert!(bench.verdict().result.is_ok());
    bench.verifier.set_policy(Arc::new(policy(KeySet::from_secret(&[b'n'; 32]))));
    bench.ask(1, &body).unwrap();
    assert_eq!(bench.verdict().result.unwrap_err(), AuthError::Signature);
}

#[test]
fn a_full_queue_hands_the_request_back_and_no_verdict_is_lost() {
    let mut policy = hs_policy();
    (policy.threads, policy.queue_requests_max) = (2, 16);
    let mut bench = bench(policy, 1);
    let body = json!({ "token": hs_token(&good_claims()) }).to_string();
    let mut taken = 0;
    while bench.ask(taken, &body).is_ok() {
        taken += 1;
        assert!(taken < 100, "the worker's mailbox is full, so the lanes must fill up");
    }
    // Each thread may hold one more, and the mailbox one.
    assert!((16..=19).contains(&taken), "{taken}");
    assert_eq!(
        (bench.pending.due(), bench.sources.of(bench.sources.source(CLIENT))),
        (taken as usize, taken)
    );
    for left in (0..taken).rev() {
        assert!(bench.verdict().result.is_ok());
        assert_eq!((bench.pending.due(), bench.sources.is_empty()), (left as usize, left == 0));
    }
    assert!(bench.sender.is_empty());
    drop(bench.verifier);
    assert!(bench.pools.is_full(), "every body came back");
}

/// Public keys made by openssl for this test.
const P384: &str = "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAESK+O8NFX8EVs/5BUFpTmF2Tw170Hxmst\nH7VShzU9wxfWrM05U1yzYhOWNZQmuUUEVTT27cLd6jXWtPNEU6QH4Tz+SLxLVE1L\npi8lbJWwzib+6LqchiU8HRFtammYnZAW\n-----END PUBLIC KEY-----";
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC6NRBoZTca+cRyOFx4DvLY79U/\nHferzzBUdXBQJF5d1+8KaFxjFxRmONV6GJLR3rAsrxCsTO3lGbjxBuvjWaBrNco0\n9FY2dQHTc9lGVdLrI2NTU56gLLACGTdF4sJGO8F2Gh1GXrCQV7AfchPUDWQBUg+8\nD1XnoIP3l6fh66sw3QIDAQAB\n-----END PUBLIC KEY-----";

/// A value in DER.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let size = content.len() as u16;
    let [high, low] = size.to_be_bytes();
    let head = if size < 128 { vec![tag, low] } else { vec![tag, 0x82, high, low] };
    [head, content].concat()
}

/// An X.509 certificate around a public key; its signature is not checked.
fn certificate(public_pem: &str) -> String {
    let body: String = public_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = STANDARD.decode(body).unwrap();
    // sha256WithRSAEncryption, CN=x, two years.
    let algorithm = der(0x30, &[&[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b], &[5, 0]]);
    let common_name = der(0x30, &[&[6, 3, 0x55, 4, 3], &der(0x0c, &[b"x"])]);
    let (name, time) = (der(0x30, &[&der(0x31, &[&common_name])]), |text: &[u8]| der(0x17, &[text]));
    let validity = der(0x30, &[&time(b"260101000000Z"), &time(b"280101000000Z")]);
    let signed = der(0x30, &[&[2, 1, 1], &algorithm, &name, &validity, &name, &key]);
    pem("CERTIFICATE", &der(0x30, &[&signed, &algorithm, &der(0x03, &[&[0; 65]])]))
}

#[test]
fn keys_come_in_certificates_and_as_pkcs1_too() {
    for pair in [&*RSA, &*EC, &*ED] {
        let found = policy(KeySet::from_pem(certificate(&pair.public_pem).as_bytes()));
        let plain = token(pair.algorithm, &pair.signing, None, &good_claims());
        assert_eq!(found.check(&plain, now_ms()).unwrap().mid, Some(42), "{:?}", pair.algorithm);
    }
    let number = |name: &str| {
        let mut digits = URL_SAFE_NO_PAD.decode(RSA.jwk[name].as_str().unwrap()).unwrap();
        if digits[0] >= 0x80 {
            digits.insert(0, 0); // or it would be negative
        }
        der(0x02, &[&digits])
    };
    let pkcs1 = pem("RSA PUBLIC KEY", &der(0x30, &[&number("n"), &number("e")]));
    let plain = token(RSA.algorithm, &RSA.signing, None, &good_claims());
    assert_eq!(policy(KeySet::from_pem(pkcs1.as_bytes())).check(&plain, now_ms()).unwrap().mid, Some(42));
}

#[test]
fn what_is_no_pem_is_told_how_to_become_one() {
    let advice = |file: &[u8]| KeySet::from_pem(file).unwrap_err();
    for (file, command) in [
        (
            &b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"[..],
            "openssl x509 -in FILE -pubkey",
        ),
        (
            b"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n",
            "openssl rsa -RSAPublicKey_in",
        ),
        (b"ssh-rsa AAAAB3NzaC1yc2E= someone@somewhere", "ssh-keygen -e -m PKCS8"),
        (b"\x30\x82\x01\x22\x30\x0d", "-inform DER"),
        (br#"{"keys":[]}"#, "auth.jwks_file"),
        (b"", "openssl pkey -in private.pem -pubout"),
    ] {
        assert!(advice(file).contains(command), "{}", advice(file));
    }
}

#[test]
fn keys_with_which_every_token_would_fail_are_refused() {
    let refused = |pem: &str| KeySet::from_pem(pem.as_bytes()).unwrap_err();
    assert!(refused(P384).contains("P-256"), "{}", refused(P384));
    assert!(refused(RSA_1024).contains("2048"), "{}", refused(RSA_1024));
    assert!(refused(&format!("{P384}\n{RSA_1024}")).contains("holds 2 keys"));
}
