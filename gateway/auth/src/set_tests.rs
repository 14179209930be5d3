//! What a JWK set may hold (RFC 7517 §4, §5), and which of its keys a token is checked with (RFC
//! 7515 §4.1.4).

use super::tests::{EC, ED, Pair, RSA, good_claims, hs_policy, hs_token, new_ec, now, policy, token};
use super::{KeySet, TokenPolicy};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::message::{AuthError, ROOMS_SIZE_MAX};
use gateway_proto::auth::{AuthRequest, SCRATCH_SIZE_MAX};
use serde_json::{Value, json};

fn now_ms() -> u64 {
    now() as u64 * 1000
}

fn set(keys: &[Value]) -> Result<KeySet, String> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes())
}

fn accepts(policy: &TokenPolicy, pair: &Pair, kid: Option<&str>) -> Result<Option<i64>, AuthError> {
    let token = token(pair.algorithm, &pair.signing, kid, &good_claims());
    policy.check(&token, now_ms()).map(|bearer| bearer.mid)
}

fn with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut changed = jwk.clone();
    changed[name] = value;
    changed
}

#[test]
fn without_a_kid_every_key_that_fits_is_tried() {
    let (one, two, foreign) = (new_ec("one"), new_ec("two"), new_ec("three"));
    let both = policy(set(&[one.jwk.clone(), RSA.jwk.clone(), two.jwk.clone()]));
    for pair in [&one, &two, &*RSA] {
        assert_eq!(accepts(&both, pair, None), Ok(Some(42)));
    }
    assert_eq!(accepts(&both, &foreign, None), Err(AuthError::Signature));
    let expired = json!({ "sub": 42, "exp": now() - 120 });
    let expired = token(two.algorithm, &two.signing, None, &expired);
    assert_eq!(
        both.check(&expired, now_ms()),
        Err(AuthError::Expired),
        "it was the second key's, and has ended"
    );
}

#[test]
fn a_kid_is_a_hint_and_may_be_that_of_several_keys() {
    let (one, two) = (new_ec("same"), new_ec("same"));
    let same = policy(set(&[one.jwk.clone(), two.jwk.clone()]));
    assert_eq!(accepts(&same, &one, Some("same")), Ok(Some(42)));
    assert_eq!(accepts(&same, &two, Some("same")), Ok(Some(42)));
    assert_eq!(accepts(&same, &two, Some("other")), Err(AuthError::UnknownKey));
    let mut bare = two.jwk.clone();
    bare.as_object_mut().unwrap().remove("kid");
    let mixed = policy(set(&[one.jwk.clone(), bare]));
    assert_eq!(accepts(&mixed, &two, Some("other")), Ok(Some(42)), "a key without an id may be any token's");
    assert_eq!(
        accepts(&mixed, &one, Some("other")),
        Err(AuthError::Signature),
        "the one with another id is not"
    );
    let mixed = policy(set(&[with(&RSA.jwk, "kid", json!("same")), two.jwk.clone()]));
    assert_eq!(accepts(&mixed, &two, Some("same")), Ok(Some(42)), "of two types");
}

#[test]
fn what_is_not_understood_is_left_out_and_never_the_whole_set() {
    let short = "tjUQaGU3GvnEcjhceA7yy4_VP0R3q4c8wVHVwUCReXdfvCmhcYxcUZjjVehiS0d6wLK8QrE5tR5m48Qbr41mgazXKN_RWNXUB03P5RlXS6yNjU1OeoCywAhk3ReLCRjvBdhs";
    let padded = [vec![0; 160], URL_SAFE_NO_PAD.decode(&short[..128]).unwrap()].concat();
    let odd = [
        json!({ "kty": "oct", "kid": "odd", "k": "AAAA" }),
        json!({ "kty": "AKP", "kid": "odd", "alg": "ML-DSA-65", "pub": "AAAA" }),
        json!({ "kty": 7, "kid": "odd" }),
        json!({ "kid": "odd" }),
        json!({ "kty": "EC", "crv": "P-384", "kid": "odd", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "odd", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "odd", "x": "AAAA" }),
        json!({ "kty": "OKP", "crv": "X25519", "kid": "odd", "x": "AAAA" }),
        json!({ "kty": "RSA", "kid": "odd", "n": "!", "e": "AQAB" }),
        json!({ "kty": "RSA", "kid": "odd", "n": short, "e": "AQAB" }),
        json!({ "kty": "RSA", "kid": "odd", "n": URL_SAFE_NO_PAD.encode(padded), "e": "AQAB" }),
        with(&with(&RSA.jwk, "kid", json!("odd")), "use", json!("enc")),
        with(&with(&RSA.jwk, "kid", json!("odd")), "alg", json!("RS512")),
        with(&with(&RSA.jwk, "kid", json!("odd")), "alg", json!("RSA-OAEP")),
        with(&with(&RSA.jwk, "kid", json!("odd")), "alg", json!("none")),
        with(&with(&EC.jwk, "kid", json!("odd")), "key_ops", json!(["encrypt", "wrapKey"])),
        with(&with(&EC.jwk, "kid", json!("odd")), "key_ops", json!([])),
        json!("odd"),
        json!(null),
    ];
    for key in odd {
        let keys =
            set(&[RSA.jwk.clone(), key.clone(), EC.jwk.clone()]).unwrap_or_else(|why| panic!("{key}: {why}"));
        assert_eq!(keys.left_out().len(), 1, "{key}");
        let name = if key.is_object() { "key odd " } else { "key number 2 " };
        assert!(keys.left_out()[0].starts_with(name), "{:?}", keys.left_out());
        let policy = policy(Ok(keys));
        assert_eq!(
            (accepts(&policy, &RSA, None), accepts(&policy, &EC, None)),
            (Ok(Some(42)), Ok(Some(42))),
            "{key}"
        );
        assert!(set(&[key]).is_err_and(|why| why.contains("holds no key for RS256, ES256 or EdDSA: key ")));
    }
}

#[test]
fn members_that_say_nothing_of_the_key_do_no_harm() {
    for (name, value) in [
        ("x5c", json!("not a list")),
        ("x5c", json!(["AAAA"])),
        ("x5t", json!(7)),
        ("x5u", json!("https://keys.example.org/1")),
        ("use", json!("sig")),
        ("key_ops", json!(["sign", "verify"])),
        ("alg", json!("EdDSA")),
        ("ext", json!(true)),
        ("d", json!("a private part that does not belong here")),
    ] {
        let keys = policy(set(&[with(&ED.jwk, name, value.clone())]));
        assert_eq!(accepts(&keys, &ED, Some("ed")), Ok(Some(42)), "{name} = {value}");
    }
    assert!(KeySet::from_jwks(br#"{"keys":{}}"#).unwrap_err().contains("RFC 7517"));
}

#[test]
fn the_number_of_a_key_outlives_the_key() {
    let (one, two) = (new_ec("one"), new_ec("two"));
    let before = set(std::slice::from_ref(&one.jwk)).unwrap();
    let number = |keys: &KeySet, pair: &Pair| {
        let token = token(pair.algorithm, &pair.signing, None, &good_claims());
        policy(Ok(keys.clone())).check(&token, now_ms()).unwrap().key_number
    };
    assert_eq!(before.number_of("one"), Some(number(&before, &one)));
    let after = set(std::slice::from_ref(&two.jwk)).unwrap().in_place_of(&before, |_| false);
    assert_eq!(after.number_of("one"), before.number_of("one"), "its sessions can still be found");
    assert_eq!(after.number_of("two"), Some(number(&after, &two)));
    assert_ne!(after.number_of("one"), after.number_of("two"));
    assert_eq!(after.number_of("three"), None);
    let back = set(std::slice::from_ref(&one.jwk)).unwrap().in_place_of(&after, |_| false);
    assert_eq!(number(&back, &one), number(&before, &one));
}

/// Keys are rolled three hundred times while the sessions of a few old ones stay.
#[test]
fn numbers_of_keys_without_sessions_are_given_to_new_ones() {
    let jwk = |id: &str| with(&EC.jwk, "kid", json!(id));
    let mut keys = set(&[jwk("first"), jwk("second")]).unwrap();
    let kept = [keys.number_of("first").unwrap(), keys.number_of("second").unwrap()];
    for round in 0..300 {
        let id = format!("rolled-{round}");
        let before = keys.clone();
        keys = set(&[jwk(&id)]).unwrap().in_place_of(&before, |number| kept.contains(&number));
        assert!(keys.number_of(&id).is_some_and(|number| !kept.contains(&number)), "{id}");
        if round > 0 {
            let last = format!("rolled-{}", round - 1);
            assert_eq!(keys.number_of(&last), before.number_of(&last), "tokens of {last} are on their way");
        }
        assert_eq!([keys.number_of("first"), keys.number_of("second")], kept.map(Some), "after {id}");
    }
    assert_eq!(keys.unnumbered().count(), 0);
    let full = set(&[jwk("new")]).unwrap().in_place_of(&keys, |_| true);
    assert_eq!((full.number_of("new"), full.unnumbered().collect::<Vec<_>>()), (None, vec!["new"]));
}

#[test]
fn what_is_left_of_a_tokens_time_does_not_depend_on_when_the_clock_is_put_right() {
    let claims = |iat: Option<i64>| json!({ "sub": 1, "iat": iat, "exp": 1_000_000 });
    let left = |iat: Option<i64>, at_s: u64| {
        let mut claims = claims(iat);
        if iat.is_none() {
            claims.as_object_mut().unwrap().remove("iat");
        }
        hs_policy()
            .check(&hs_token(&claims), at_s * 1000)
            .map(|bearer| (bearer.valid_for_ms, bearer.issued_at))
    };
    // Leeway is 30 s.
    assert_eq!(left(None, 999_990), Ok((40_000, 999_990)), "issued, as far as is known, now");
    assert_eq!(left(None, 1_000_030), Ok((0, 1_000_030)));
    assert_eq!(left(None, 1_000_031), Err(AuthError::Expired));
    assert_eq!(left(Some(996_400), 999_990), Ok((40_000, 996_400)));
    // The clock is a day behind: the session lasts as long as the token was meant to, not a day
    // longer.
    assert_eq!(left(Some(996_400), 996_400 - 86_400), Ok((3_630_000, 996_400)));
    assert_eq!(left(Some(2_000_000), 10), Ok((30_000, 2_000_000)), "it ends before it begins");
}

#[test]
fn a_key_may_be_bound_to_a_claim() {
    let mut policy = hs_policy();
    let token = hs_token(&json!({ "sub": 42, "exp": now() + 60, "device": "alice-phone" }));
    let bare = hs_token(&good_claims());
    let check = |policy: &TokenPolicy, token: &str, key: Option<&str>| {
        let body = json!({ "token": token, "key": key }).to_string();
        let mut scratch = [0; SCRATCH_SIZE_MAX];
        let request = AuthRequest::parse(body.as_bytes(), &mut scratch).unwrap();
        policy.check_request(&request, now_ms()).map(|bearer| bearer.mid)
    };
    assert_eq!(check(&policy, &token, Some("bob-phone")), Ok(Some(42)), "unless it is configured");
    policy.key_claim = Some("device".into());
    assert_eq!(check(&policy, &token, Some("alice-phone")), Ok(Some(42)));
    assert_eq!(check(&policy, &token, None), Ok(Some(42)));
    assert_eq!(check(&policy, &token, Some("bob-phone")), Err(AuthError::Key));
    assert_eq!(check(&policy, &bare, Some("alice-phone")), Err(AuthError::Key));
    assert_eq!(check(&policy, &bare, None), Ok(Some(42)));
}

#[test]
fn rooms_are_a_text_or_a_list_of_texts_of_bounded_size() {
    let rooms = |rooms: Value| {
        let token = hs_token(&json!({ "sub": 42, "exp": now() + 60, "rooms": rooms }));
        hs_policy().check(&token, now_ms()).map(|bearer| bearer.rooms)
    };
    assert_eq!(rooms(json!(null)), Ok(String::new()));
    assert_eq!(rooms(json!([])), Ok(String::new()));
    assert_eq!(rooms(json!("live://1")), Ok("live://1".into()));
    assert_eq!(rooms(json!(["live://1", "team://7/*"])), Ok("live://1\nteam://7/*".into()));
    assert!(rooms(json!("r".repeat(ROOMS_SIZE_MAX))).is_ok());
    for odd in
        [json!(7), json!({}), json!([7]), json!([""]), json!(["a\nb"]), json!("r".repeat(ROOMS_SIZE_MAX + 1))]
    {
        assert_eq!(rooms(odd.clone()), Err(AuthError::Rooms), "{odd}");
    }
}

fn digits(jwk: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()
}

fn without_zeros(jwk: &Value, name: &str) -> Value {
    let bytes: Vec<u8> = digits(jwk, name).into_iter().skip_while(|byte| *byte == 0).collect();
    with(jwk, name, json!(URL_SAFE_NO_PAD.encode(bytes)))
}

fn with_zero(jwk: &Value, name: &str) -> Value {
    with(jwk, name, json!(URL_SAFE_NO_PAD.encode([vec![0], digits(jwk, name)].concat())))
}

/// Publishers write numbers in more than one way: a signed big integer has a zero in front, an
/// unsigned one loses those it has.
#[test]
fn zeros_in_front_of_a_number_make_no_other_key() {
    let short = loop {
        let pair = new_ec("short");
        if digits(&pair.jwk, "x")[0] == 0 || digits(&pair.jwk, "y")[0] == 0 {
            break pair;
        }
    };
    let bare = without_zeros(&without_zeros(&short.jwk, "x"), "y");
    for (pair, jwk) in [
        (&*RSA, with_zero(&RSA.jwk, "n")),
        (&*RSA, with_zero(&with_zero(&RSA.jwk, "e"), "n")),
        (&*EC, with_zero(&EC.jwk, "x")),
        (&*EC, with_zero(&EC.jwk, "y")),
        (&short, bare),
    ] {
        assert_eq!(accepts(&policy(set(std::slice::from_ref(&jwk))), pair, None), Ok(Some(42)), "{jwk}");
    }
}

#[test]
fn a_key_that_can_never_verify_is_left_out_with_its_name() {
    let bent = |jwk: &Value, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = digits(jwk, name);
        change(&mut bytes);
        with(jwk, name, json!(URL_SAFE_NO_PAD.encode(bytes)))
    };
    let bad = [
        bent(&EC.jwk, "x", &|x| x[31] ^= 1),
        bent(&EC.jwk, "x", &Vec::clear),
        bent(&EC.jwk, "y", &|y| y.insert(0, 1)),
        bent(&RSA.jwk, "n", &|n| *n.last_mut().unwrap() &= 0xfe),
        bent(&RSA.jwk, "e", &Vec::clear),
        bent(&RSA.jwk, "e", &|e| *e = vec![1]),
        bent(&RSA.jwk, "e", &|e| *e = vec![1, 0]),
        bent(&RSA.jwk, "e", &|e| *e = vec![1; 9]),
        bent(&ED.jwk, "x", &|x| x.truncate(31)),
        bent(&ED.jwk, "x", &|x| x.push(0)),
    ];
    let good = new_ec("good");
    for jwk in bad {
        let keys = set(&[with(&jwk, "kid", json!("bent")), good.jwk.clone()]).unwrap();
        assert!(
            matches!(keys.left_out(), [why] if why.starts_with("key bent ")),
            "{jwk}: {:?}",
            keys.left_out()
        );
        assert_eq!(accepts(&policy(Ok(keys)), &good, Some("good")), Ok(Some(42)));
    }
}

/// RFC 9864 deprecates "EdDSA" for "Ed25519", which signs alike.
#[test]
fn ed25519_is_eddsa_in_keys_and_in_tokens() {
    let keys = policy(set(&[with(&ED.jwk, "alg", json!("Ed25519"))]));
    assert_eq!(accepts(&keys, &ED, Some("ed")), Ok(Some(42)));
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let sign = |algorithm: &str| {
        let signed = format!("{}.{}", part(json!({ "alg": algorithm, "kid": "ed" })), part(good_claims()));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &ED.signing, ED.algorithm).unwrap();
        format!("{signed}.{signature}")
    };
    assert_eq!(keys.check(&sign("Ed25519"), now_ms()).map(|bearer| bearer.mid), Ok(Some(42)));
    for other in ["Ed448", "ed25519", "none", ""] {
        assert!(keys.check(&sign(other), now_ms()).is_err(), "{other}");
    }
    let others = policy(set(&[RSA.jwk.clone(), EC.jwk.clone()]));
    assert!(others.check(&sign("Ed25519"), now_ms()).is_err(), "it is no other key's name");
    assert!(set(&[with(&EC.jwk, "alg", json!("Ed25519"))]).is_err());
}

/// What issuers write, and what RFC 7519 §4.1 says of it.
#[test]
fn registered_claims_are_read_as_their_clauses_say() {
    let mut policy = hs_policy();
    (policy.issuer, policy.audience) = (Some("https://i".into()), vec!["me".into()]);
    let check = |name: &str, value: Value| {
        let mut claims = good_claims();
        (claims["iss"], claims["aud"]) = (json!("https://i"), json!("me"));
        claims[name] = value;
        policy.check(&hs_token(&claims), now_ms()).map(|bearer| bearer.mid)
    };
    for (name, value) in [
        ("nbf", json!(null)),
        ("iat", json!(null)),
        ("exp", json!(18_446_744_073_709_551_615_u64)),
        ("exp", json!(1.7e26)),
        ("aud", json!(["other", "me"])),
    ] {
        assert_eq!(check(name, value.clone()), Ok(Some(42)), "{name} = {value}");
    }
    for (name, value, why) in [
        ("exp", json!(-5), AuthError::Expired),
        ("exp", json!(0), AuthError::Expired),
        ("exp", json!(null), AuthError::TokenInvalid),
        ("exp", json!("tomorrow"), AuthError::TokenInvalid),
        ("iss", json!(["https://evil", "https://i"]), AuthError::Issuer),
        ("iss", json!(null), AuthError::Issuer),
        ("aud", json!([1, "me"]), AuthError::Audience),
        ("aud", json!([]), AuthError::Audience),
        ("aud", json!({ "me": "me" }), AuthError::Audience),
    ] {
        assert_eq!(check(name, value.clone()), Err(why), "{name} = {value}");
    }
}
