//! `gateway init`: a folder with all that a first gateway needs. It asks nothing and overwrites
//! nothing.
//!
//! | file | is |
//! | --- | --- |
//! | `gateway.toml` | the configuration, from a profile |
//! | `private.pem`, `public.pem` | a key pair on P-256: what a login service signs with, and what the gateway checks with |
//! | `api_key` | the key for `/api/v1` |
//! | `token` | a token of user 7 for a day |

use super::outcome::wrong;
use super::token::{PRIVATE_KEY, Signer};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use gateway_control::output::say;
use serde_json::{Map, Value, json};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

const CONFIG: &str = "gateway.toml";
const PUBLIC_KEY: &str = "public.pem";
const API_KEY: &str = "api_key";
const TOKEN: &str = "token";
/// How long the sample token is valid, in seconds.
const TOKEN_LIFETIME_S: u64 = 86_400;
/// Random bytes of the API key.
const API_KEY_SIZE: usize = 32;

#[derive(Args, Clone, Debug)]
pub(super) struct Init {
    /// Where to; made if it is missing.
    #[arg(value_name = "FOLDER", default_value = "gateway")]
    folder: PathBuf,
    /// What the gateway is for.
    #[arg(long, value_enum, default_value_t = Profile::Local)]
    profile: Profile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// This machine alone, with the demo page.
    Local,
    /// A container with a seccomp profile that forbids io_uring; serves all interfaces.
    Epoll,
    /// A machine of its own, up to a million connections, with a journal; serves all interfaces.
    #[value(name = "edge-io_uring")]
    EdgeIoUring,
}

impl Profile {
    const fn text(self) -> &'static str {
        match self {
            Profile::Local => include_str!("../../assets/init.local.toml"),
            Profile::Epoll => include_str!("../../../configs/gateway.epoll.toml"),
            Profile::EdgeIoUring => include_str!("../../../configs/gateway.edge-io_uring.toml"),
        }
    }

    /// What the profiles say, and the file or folder that it becomes.
    const fn replaced(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Profile::Local => &[("\"public.pem\"", "", PUBLIC_KEY), ("\"api_key\"", "", API_KEY)],
            Profile::Epoll => &[
                ("\"/run/secrets/gateway_jwt_key.pem\"", "", PUBLIC_KEY),
                ("\"/run/secrets/gateway_api_key\"", "", API_KEY),
            ],
            Profile::EdgeIoUring => &[
                ("jwks_file = \"/etc/gateway/jwks.json\"", "key_file = ", PUBLIC_KEY),
                ("\"/etc/gateway/api_key\"", "", API_KEY),
                ("\"/var/log/gateway/journal\"", "", "journal"),
            ],
        }
    }
}

/// `gateway init`.
pub(super) fn init(order: &Init) -> ExitCode {
    match write_all(order) {
        Ok(folder) => say(&next_steps(&folder, order.profile)),
        Err(why) => wrong(why),
    }
}

fn write_all(order: &Init) -> Result<PathBuf, String> {
    let shown = order.folder.display();
    let cant = |error: std::io::Error| format!("{shown}: {error}");
    DirBuilder::new().recursive(true).mode(0o700).create(&order.folder).map_err(cant)?;
    let folder = order.folder.canonicalize().map_err(cant)?;
    let contents = contents(&folder, order.profile)?;
    if let Some((name, _)) = contents.iter().find(|(name, _)| folder.join(name).symlink_metadata().is_ok()) {
        return Err(format!(
            "{shown}/{name} is there already, and nothing is overwritten: name another folder"
        ));
    }
    for (index, (name, content)) in contents.iter().enumerate() {
        if let Err(error) = write_new(&folder.join(name), content) {
            // All or nothing, so that a second try finds no half of a set.
            contents[..index].iter().for_each(|(made, _)| drop(fs::remove_file(folder.join(made))));
            return Err(format!("{shown}/{name}: {error}"));
        }
    }
    Ok(folder)
}

fn write_new(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes()).inspect_err(|_| drop(fs::remove_file(path)))
}

fn contents(folder: &Path, profile: Profile) -> Result<[(&'static str, String); 5], String> {
    let unspecified = |_| "no random numbers are to be had".to_owned();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let pkcs8 = pkcs8.map_err(unspecified)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref());
    let pair = pair.map_err(|error| format!("a key of its own is refused: {error}"))?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(unspecified)?;
    let private = pem("PRIVATE KEY", pkcs8.as_ref());
    let mut random = [0; API_KEY_SIZE];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| format!("no random numbers: {error}"))?;
    let config = config(folder, profile)?;
    let token = sample_token(private.as_bytes(), &config)?;
    Ok([
        (CONFIG, config),
        (PRIVATE_KEY, private),
        (PUBLIC_KEY, pem("PUBLIC KEY", public.as_ref())),
        (API_KEY, format!("{}\n", URL_SAFE_NO_PAD.encode(random))),
        (TOKEN, format!("{token}\n")),
    ])
}

/// RFC 7468: Base64 in lines of 64.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

fn config(folder: &Path, profile: Profile) -> Result<String, String> {
    let mut text = profile.text().to_owned();
    for (from, before, name) in profile.replaced() {
        let path = folder.join(name);
        let path = path.to_str().ok_or_else(|| format!("{}: the path is not UTF-8", path.display()))?;
        // A JSON string is a TOML string, too.
        text = text.replace(from, &format!("{before}{}", Value::from(path)));
    }
    Ok(text)
}

/// Of user 7, for the audience and the issuer that the profile names.
fn sample_token(private: &[u8], config: &str) -> Result<String, String> {
    let written = |key: &str| {
        let line = config.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split('"').nth(1).unwrap_or_default().to_owned()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is before 1970")?.as_secs();
    let claims: Map<String, Value> = Map::from_iter([
        ("sub".to_owned(), json!(7)),
        ("aud".to_owned(), json!(written("audience"))),
        ("iss".to_owned(), json!(written("issuer"))),
        ("iat".to_owned(), json!(now)),
        ("exp".to_owned(), json!(now + TOKEN_LIFETIME_S)),
    ]);
    Signer::from_pem(private)?.sign(None, &claims)
}

fn next_steps(folder: &Path, profile: Profile) -> String {
    let folder = folder.display();
    let config = format!("--config {folder}/{CONFIG}");
    let page = match profile {
        Profile::Local => format!(
            "Then, with a browser:  http://127.0.0.1:3102/  (I am: 7; More: paste the token, `cat {folder}/{TOKEN}`)\n"
        ),
        Profile::Epoll | Profile::EdgeIoUring => {
            "Before others use it: set origins, audience and issuer; docs/operations.md has a checklist.\n"
                .into()
        }
    };
    format!(
        "{folder}: {CONFIG}, {PRIVATE_KEY}, {PUBLIC_KEY}, {API_KEY}, {TOKEN} (user 7, one day); only you may read them\n\n\
         Next:\n  \
         gateway check {config}\n  \
         gateway run {config}\n\
         In other terminals:\n  \
         gateway tail {config} --token-file {folder}/{TOKEN}\n  \
         gateway push {config} --mid 7 hello\n  \
         gateway token {config} --uid alice --expires 12h\n{page}"
    )
}
