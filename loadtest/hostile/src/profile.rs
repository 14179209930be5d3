//! The two configurations that abuses run against, and the values that both sides must know.

use crate::error::RunError;
use crate::tokens::{AUDIENCE, ISSUER, Signer};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The gateway that an abuse needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As `configs/gateway.edge-io_uring.toml`: tokens, keys on the control port, a journal.
    Production,
    /// As `configs/gateway.dev.toml`: no tokens, no keys, an echo listener, a demo page.
    Development,
}

impl Profile {
    pub(crate) const ALL: [Profile; 2] = [Profile::Production, Profile::Development];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Production => "production",
            Profile::Development => "development",
        }
    }

    pub(crate) fn is_production(self) -> bool {
        self == Profile::Production
    }
}

/// The key of the control port in the production profile.
pub(crate) const API_KEY: &str = "hostile-suite-api-key-0123456789abcdef";
pub(crate) const GOIM_API_KEY: &str = "hostile-suite-goim-key-0123456789abcdef";
/// The only origin whose pages may connect in the production profile.
pub(crate) const ORIGIN: &str = "https://chat.example.org";

/// Settings that production adds: keys that an older gateway may lack, so that the suite can be run
/// on it for comparison.
const HARDENING: &[(&str, &str)] = &[
    ("application.room_access", "* = claim"),
    ("application.client_push_operations", "1000"),
    ("limits.connections_per_address_max", "500"),
];

/// The keys of [`HARDENING`] that this gateway has, as `section.key=value`; missing ones are
/// printed.
///
/// # Errors
/// The program does not run.
pub(crate) fn hardening(program: &Path) -> Result<Vec<String>, RunError> {
    let schema = Command::new(program).arg("schema").output().map_err(|error| {
        RunError::new(
            format!("cannot start {}: {error}", program.display()),
            "build it: cargo build --release -p gateway, and name it with --gateway",
        )
    })?;
    let schema = String::from_utf8_lossy(&schema.stdout).into_owned();
    let (known, unknown): (Vec<_>, Vec<_>) = HARDENING.iter().partition(|(key, _)| has_key(&schema, key));
    unknown.iter().for_each(|(key, _)| println!("this gateway has no {key}"));
    Ok(known.iter().map(|(key, value)| format!("{key}={value}")).collect())
}

/// Whether the output of `gateway schema` describes a key.
fn has_key(schema: &str, key: &str) -> bool {
    let Some((section, name)) = key.split_once('.') else { return false };
    let mut lines = schema.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| line.split(' ').next() == Some(name))
}

/// The listeners of both profiles.
const LISTENERS: &str = include_str!("../../loopback.toml");

/// The configuration that a gateway is started with.
pub(crate) struct Setup<'a> {
    pub(crate) profile: Profile,
    pub(crate) backend: &'a str,
    pub(crate) connections_max: u32,
    /// Keys as `section.key=value`, which come after the file.
    pub(crate) sets: Vec<String>,
}

impl Setup<'_> {
    /// Writes the configuration and the files that it names into `folder`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, folder: &Path, signer: &Signer) -> Result<(), RunError> {
        let put = |name: &str, text: &str| {
            fs::write(folder.join(name), text).map_err(|error| {
                RunError::new(
                    format!("{} cannot be written: {error}", folder.display()),
                    "make room there, or set TMPDIR",
                )
            })
        };
        put("jwks.json", &signer.jwks()?)?;
        put("api_key", API_KEY)?;
        put("gateway.toml", &self.text(folder))
    }

    fn text(&self, folder: &Path) -> String {
        let common = format!(
            "[io]\nbackend = \"{}\"\nworkers = 2\n\n[limits]\nconnections_max = {}\n\n[drain]\ndrain_ms = 1000\n\n\
             [log]\nformat = \"json\"\n\n",
            self.backend, self.connections_max
        );
        match self.profile {
            // What follows a listener's table is that listener's.
            Profile::Production => {
                format!("{common}{LISTENERS}origins = [\"{ORIGIN}\"]\n{}", production(folder))
            }
            Profile::Development => format!("{common}{LISTENERS}demo_page = true\n{DEVELOPMENT}"),
        }
    }
}

fn production(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
[auth]
mode = "jwt"
jwks_file = "{folder}/jwks.json"
audience = ["{AUDIENCE}"]
issuer = "{ISSUER}"
service_scope = "gateway:send"

[application]
room_send = "members"

[control]
address = "127.0.0.1:0"
api_key_file = "{folder}/api_key"

[journal]
enabled = true
directory = "{folder}/journal"
size_max_bytes = 16777216
files_max = 4
"#
    )
}

const DEVELOPMENT: &str = r#"
[[listener]]
name = "echo"
kind = "websocket-echo"
address = "127.0.0.1:0"
path = "/"
message_size_max = 67108864
fragments_max = 1048576

[application]
bus = "echo"

[control]
address = "127.0.0.1:0"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_as_whole_words() {
        let schema = "[io]\nworkers = 0\n[application]\n# room_access of all.\nroom_access = [\"* = open\"]\n[limits]\nx = 1\n";
        assert!(has_key(schema, "application.room_access"));
        for other in ["application.room", "application.x", "io.room_access", "x"] {
            assert!(!has_key(schema, other), "{other}");
        }
    }
}
