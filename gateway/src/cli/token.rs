//! `gateway token`: signs a token as a login service would, to try the gateway with.

use super::outcome::{with_config, wrong};
use super::settings::{Settings, mid};
use clap::Args;
use gateway_config::Config;
use gateway_control::output::complain;
use gateway_control::output::say;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The private key of `gateway init`, beside the public one.
pub(super) const PRIVATE_KEY: &str = "private.pem";

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct User {
    /// The user's number.
    #[arg(long, allow_negative_numbers = true, value_parser = mid)]
    mid: Option<i64>,
    /// The user's name.
    #[arg(long)]
    uid: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Token {
    #[command(flatten)]
    user: User,
    /// How long it is valid: seconds, or with a unit, such as 15m, 12h, 7d.
    #[arg(long, default_value = "1h", value_parser = duration)]
    expires: Duration,
    /// Words of its scope claim, such as the one that auth.service_scope names. May be repeated.
    #[arg(long, value_name = "WORD")]
    scope: Vec<String>,
    /// Rooms, or prefixes with * behind them, as a list in the claim that auth.rooms_claim names:
    /// the user may enter them where application.room_access says "claim". May be repeated.
    #[arg(long)]
    room: Vec<String>,
    /// Another claim, its value as JSON or else as text: --claim level=3. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// Private key in PEM (PKCS#8); without it, private.pem beside the configuration's
    /// auth.key_file, or auth.secret.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Identifier of the key, in the header, where the gateway knows several.
    #[arg(long)]
    kid: Option<String>,
}

/// What a token is signed with.
pub(super) struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Signer {
    /// A key in PEM: on P-256, of Ed25519, or of RSA.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Signer, String> {
        let made = [
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
        ];
        let found = made.into_iter().find_map(|(algorithm, key)| Some(Signer { key: key.ok()?, algorithm }));
        found.ok_or_else(|| {
            "is no private key in PKCS#8 that tokens are signed with (P-256, Ed25519, RSA); `openssl pkcs8 -topk8 -nocrypt -in FILE \
             -out private.pem` makes one of an older form"
                .to_owned()
        })
    }

    pub(super) fn sign(&self, kid: Option<String>, claims: &Map<String, Value>) -> Result<String, String> {
        let header = Header { kid, ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).map_err(|error| format!("the token can't be signed: {error}"))
    }
}

/// Seconds, or a number with s, m, h or d behind it.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let fits = seconds.filter(|seconds| (1..=100 * 365 * 86_400).contains(seconds));
    fits.map(Duration::from_secs).ok_or_else(|| "expected a time such as 900, 15m, 12h or 7d".to_owned())
}

/// `gateway token`: prints it, and nothing else, on the standard output.
pub(super) fn token(settings: &Settings, order: &Token) -> ExitCode {
    with_config(settings, |config| {
        let signed = signer(&config, order).and_then(|signer| {
            let claims = claims(&config, order, SystemTime::now())?;
            signer.sign(order.kid.clone(), &claims)
        });
        let token = match signed {
            Ok(token) => token,
            Err(why) => return wrong(why),
        };
        let refused =
            config.auth.as_ref().and_then(|policy| policy.check(&token, gateway_auth::unix_now_ms()).err());
        if let Some(error) = refused {
            complain(format_args!(
                "a gateway with this configuration would refuse it ({}); sign with the key that auth.key_file or auth.jwks_file \
                 has the public part of",
                error.label()
            ));
            return ExitCode::FAILURE;
        }
        if config.auth.is_none() {
            complain(format_args!(
                "a gateway with this configuration does not look at tokens (auth.mode = \"none\"); --config names another"
            ));
        }
        say(&format!("{token}\n"))
    })
}

fn signer(config: &Config, order: &Token) -> Result<Signer, String> {
    let values = &config.source.values;
    let secret = values.text("auth.secret");
    let beside = || {
        let public = values.text("auth.key_file");
        Some(Path::new(&public).parent().filter(|_| !public.is_empty())?.join(PRIVATE_KEY))
    };
    let file = match &order.key {
        Some(file) => file.clone(),
        None if !secret.is_empty() => {
            return Ok(Signer { key: EncodingKey::from_secret(secret.as_bytes()), algorithm: Algorithm::HS256 });
        }
        None => beside().filter(|file| file.exists()).ok_or(
            "which key signs it? Name one with --key, or a configuration with one beside its auth.key_file with --config; \
             `gateway init` makes both",
        )?,
    };
    let shown = file.display();
    let pem =
        gateway_config::files::read(&file).map_err(|error| format!("{shown}: can't be read: {error}"))?;
    Signer::from_pem(&pem).map_err(|why| format!("{shown}: {why}"))
}

fn claims(config: &Config, order: &Token, now: SystemTime) -> Result<Map<String, Value>, String> {
    let values = &config.source.values;
    let user = match (&order.user.mid, &order.user.uid) {
        (Some(mid), _) if values.text("auth.user_kind") == "uid" => Value::from(mid.to_string()),
        (Some(mid), _) => Value::from(*mid),
        (None, uid) => Value::from(uid.clone().unwrap_or_default()),
    };
    let mut claims = Map::new();
    claims.insert(values.text("auth.user_claim"), user);
    if let Some(audience) = values.texts("auth.audience").first() {
        claims.insert("aud".into(), audience.as_str().into());
    }
    let issuer = values.text("auth.issuer");
    if !issuer.is_empty() {
        claims.insert("iss".into(), issuer.into());
    }
    let seconds = now.duration_since(UNIX_EPOCH).map_err(|_| "the clock is before 1970")?.as_secs();
    claims.insert("iat".into(), seconds.into());
    claims.insert("exp".into(), (seconds + order.expires.as_secs()).into());
    if !order.scope.is_empty() {
        claims.insert("scope".into(), order.scope.join(" ").into());
    }
    if !order.room.is_empty() {
        claims.insert(values.text("auth.rooms_claim"), order.room.clone().into());
    }
    for claim in &order.claim {
        let (name, value) = claim
            .split_once('=')
            .ok_or_else(|| format!("--claim {claim}: expected NAME=VALUE, such as level=3"))?;
        claims.insert(name.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "0", "h", "-1h", "1y", "99999999999999999999", "1 h", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
