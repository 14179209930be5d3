//! Commands that ask a running gateway's control port: `gateway push` and `gateway health`.

use super::outcome::with_config;
use super::settings::{Settings, mid};
use crate::ask::{Question, ask};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use gateway_config::Secret;
use gateway_control::output::complain;
use gateway_control::output::say;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long one of several addresses of a name is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A message's payload is at most this large, in bytes: what the largest frame holds.
const PAYLOAD_SIZE_MAX: u64 = 16 << 20;

/// Which control port.
#[derive(Args, Clone, Debug)]
pub(super) struct Port {
    /// Address of the control port; without it, control.address of the configuration.
    #[arg(long, value_name = "ADDRESS", value_parser = destination)]
    to: Option<SocketAddr>,
    /// File with the API key; without it, the configuration's key.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

/// An address, or a name and a port. Of several addresses the first that takes a connection:
/// `localhost` is often ::1 first.
fn destination(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; write HOST:PORT"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    let answers = |address: &SocketAddr| TcpStream::connect_timeout(address, CONNECT_TIMEOUT).is_ok();
    let first = addresses.first().copied().ok_or_else(|| format!("{text} has no address"))?;
    let several = addresses.len() > 1;
    Ok(if several { addresses.into_iter().find(answers).unwrap_or(first) } else { first })
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Target {
    /// To a user by number.
    #[arg(long, allow_negative_numbers = true, value_parser = mid)]
    mid: Option<i64>,
    /// To a user by name.
    #[arg(long)]
    uid: Option<String>,
    /// To the connection with this key.
    #[arg(long)]
    key: Option<String>,
    /// To all members of a room, such as live://1.
    #[arg(long)]
    room: Option<String>,
    /// To every connection that accepts the operation.
    #[arg(long)]
    all: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Push {
    #[command(flatten)]
    target: Target,
    /// Operation that receivers see.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1000..))]
    operation: i32,
    #[command(flatten)]
    port: Port,
    /// The message; "-": what comes from the standard input.
    #[arg(value_name = "MESSAGE")]
    message: String,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Health {
    /// Ask whether new clients may be sent there (/readyz), not only whether it is alive
    /// (/healthz).
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    port: Port,
}

/// `gateway push`.
pub(super) fn push(settings: &Settings, push: &Push) -> ExitCode {
    let payload = match payload(&push.message) {
        Ok(payload) => payload,
        Err(why) => return super::wrong(why),
    };
    let (path, body) = request(push, &payload);
    at(settings, &push.port, true, |address, key| {
        let mut answer = Vec::new();
        if let Err(error) = ask(address, Question::post(path, &body, key), &mut answer) {
            return not_answered(address, &error);
        }
        let receivers =
            serde_json::from_slice::<Value>(&answer).ok().and_then(|answer| answer["receivers"].as_u64());
        match receivers {
            Some(0) => complain(format_args!("no connection took it: {}", no_receiver(push))),
            Some(_) => {}
            None => {
                complain(format_args!(
                    "an answer that this version does not know: {}",
                    String::from_utf8_lossy(&answer)
                ));
                return ExitCode::FAILURE;
            }
        }
        say(&format!("receivers {}\n", receivers.unwrap_or_default()))
    })
}

/// Why a push may have reached no connection.
fn no_receiver(push: &Push) -> String {
    let operation = push.operation;
    match &push.target {
        Target { room: Some(room), .. } => format!("{room} has no members on this gateway"),
        Target { all: true, .. } => format!("none of this gateway accepts operation {operation}"),
        Target { mid: Some(mid), .. } => {
            format!("user {mid} has none on this gateway, or none that accepts operation {operation}")
        }
        Target { uid: Some(uid), .. } => {
            format!("user {uid:?} has none on this gateway, or none that accepts operation {operation}")
        }
        Target { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            format!("none on this gateway has the key {key:?}, or it does not accept operation {operation}")
        }
    }
}

/// `gateway health`.
pub(super) fn health(settings: &Settings, health: &Health) -> ExitCode {
    let path = if health.ready { "/readyz" } else { "/healthz" };
    at(settings, &health.port, false, |address, _| {
        let mut answer = Vec::new();
        match ask(address, Question::get(path, None), &mut answer) {
            Ok(_) => say(&format!("{}\n", String::from_utf8_lossy(&answer).trim())),
            Err(error) => not_answered(address, &error),
        }
    })
}

fn not_answered(address: SocketAddr, error: &std::io::Error) -> ExitCode {
    complain(format_args!("the control port at {address}: {error}{}", advice(error)));
    ExitCode::FAILURE
}

fn advice(error: &std::io::Error) -> &'static str {
    let said = error.to_string();
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        "; nothing listens there: start it, or name its configuration (--config) or its address (--to)"
    } else if said.contains("answers 401") || said.contains("answers 403") {
        "; name the file with its API key (--api-key-file), or its configuration (--config)"
    } else if error.kind() == std::io::ErrorKind::InvalidData
        || ["answers 405", "answers 426"].iter().any(|one| said.contains(one))
    {
        "; that is no control port, but one of clients, say: --to takes what control.address says, 3111 by default"
    } else {
        ""
    }
}

/// With address and key: those that are given, else the configuration's.
fn at(
    settings: &Settings,
    port: &Port,
    needs_key: bool,
    then: impl FnOnce(SocketAddr, Option<&Secret>) -> ExitCode,
) -> ExitCode {
    let file = match &port.api_key_file {
        None => None,
        Some(path) => match gateway_config::files::read_text(path) {
            Ok(text) => Secret::new(text.trim()),
            Err(error) => return super::wrong(format!("--api-key-file {}: {error}", path.display())),
        },
    };
    match port.to {
        Some(address) if file.is_some() || !needs_key || settings.config.is_none() => {
            then(address, file.as_ref())
        }
        _ => with_config(settings, |config| {
            let key = file.as_ref().or(config.control.api_key.as_ref());
            then(port.to.unwrap_or(config.control.address), key)
        }),
    }
}

fn payload(message: &str) -> Result<Vec<u8>, String> {
    if message != "-" {
        return Ok(message.as_bytes().to_vec());
    }
    let mut payload = Vec::new();
    let read = std::io::stdin().take(PAYLOAD_SIZE_MAX + 1).read_to_end(&mut payload);
    match read {
        Ok(size) if size as u64 > PAYLOAD_SIZE_MAX => Err(format!(
            "the standard input has more than the {PAYLOAD_SIZE_MAX} bytes that any frame may hold"
        )),
        Ok(_) => Ok(payload),
        Err(error) => Err(format!("the standard input can't be read: {error}")),
    }
}

/// Route and body.
fn request(push: &Push, payload: &[u8]) -> (&'static str, String) {
    let mut body = Map::new();
    body.insert("operation".into(), push.operation.into());
    match str::from_utf8(payload) {
        Ok(text) => body.insert("payload".into(), text.into()),
        Err(_) => body.insert("payload_base64".into(), STANDARD.encode(payload).into()),
    };
    let target = match &push.target {
        // As text: JSON's numbers end at 2^53 for many.
        Target { mid: Some(mid), .. } => json!({ "mid": mid.to_string() }),
        Target { uid: Some(uid), .. } => json!({ "uid": uid }),
        Target { key: Some(key), .. } => json!({ "key": key }),
        Target { room: Some(room), .. } => json!({ "room": room }),
        _ => return ("/api/v1/broadcast", Value::Object(body).to_string()),
    };
    body.insert("target".into(), target);
    ("/api/v1/publish", Value::Object(body).to_string())
}
