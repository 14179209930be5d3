//! The gateway under test: its start, its addresses, its log, its end.

use crate::error::RunError;
use crate::profile::{GOIM_API_KEY, Setup};
use crate::tokens::Signer;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to become ready, and to end.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A script that waits for a line. When its input ends without one, this program was killed: then
/// it ends the gateway.
const KEEPER: &str = "trap '' INT TERM HUP; read -r word; [ \"$word\" = ended ] || kill -TERM \"$1\"";

/// A running gateway. It is killed when dropped, unless it was stopped.
pub(crate) struct Gateway {
    child: Child,
    keeper: Option<Child>,
    folder: PathBuf,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Gateway {
    /// Starts `program`; returns when it serves.
    ///
    /// # Errors
    /// The end of its log, when it does not.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        setup: &Setup<'_>,
        signer: &Signer,
    ) -> Result<Gateway, RunError> {
        let failed = |error: std::io::Error| {
            RunError::new(
                format!("cannot start {}: {error}", program.display()),
                "build it: cargo build --release -p gateway, and name it with --gateway",
            )
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        setup.write(folder, signer)?;
        let log = File::create(folder.join("gateway.log")).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(folder.join("gateway.toml"));
        setup.sets.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        if setup.profile.is_production() {
            command.env("GATEWAY_CONTROL__GOIM_API_KEY", GOIM_API_KEY);
        }
        // A terminal's Ctrl-C goes to the suite, which then ends the gateway.
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
        let child = child.map_err(failed)?;
        let keeper = keeper(child.id());
        let mut gateway = Gateway { child, keeper, folder: folder.to_owned(), addresses: BTreeMap::new() };
        let since = Instant::now();
        while since.elapsed() < START_PATIENCE {
            if let Ok(Some(status)) = gateway.child.try_wait() {
                return Err(gateway.complain(&format!("the gateway ended at its start: {status}")));
            }
            if let Some(line) = gateway.log().lines().find(|line| line.contains("serving ")) {
                gateway.addresses = addresses(line);
                return Ok(gateway);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(gateway.complain("the gateway did not become ready within a minute"))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The address of a listener, or of `control`; `None` where this profile has none of that name.
    pub(crate) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    /// Bytes of its log so far.
    pub(crate) fn log_size(&self) -> u64 {
        fs::metadata(self.folder.join("gateway.log")).map_or(0, |log| log.len())
    }

    fn log(&self) -> String {
        fs::read(self.folder.join("gateway.log"))
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// How it ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the gateway ended: {status}\n  {}", self.last_lines())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends SIGTERM; the gateway must end by itself, with exit code 0 and without a panic in its
    /// log.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = Pid::from_raw(self.pid()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let since = Instant::now();
        while since.elapsed() < START_PATIENCE {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() && !self.log().contains("panicked") => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!("the gateway ended badly: {status}\n  {}", self.last_lines()));
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        Err("the gateway did not end within a minute of SIGTERM".into())
    }

    fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n  ")
    }

    fn complain(&self, what: &str) -> RunError {
        RunError::new(format!("{what}; its log ends:\n  {}", self.last_lines()), "see above")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.stdin.take().map(|mut stdin| stdin.write_all(b"ended\n"));
            let _ = keeper.wait();
        }
    }
}

/// Starts the process that ends the gateway when this program is killed; `None` without a shell.
fn keeper(gateway: u32) -> Option<Child> {
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "sh", &gateway.to_string()]);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().ok()
}

/// Addresses in the line that says what is served: `serving tcp on A, websocket on B control=C`.
fn addresses(line: &str) -> BTreeMap<String, SocketAddr> {
    let words: Vec<&str> = line
        .split(|one: char| !(one.is_ascii_alphanumeric() || matches!(one, '.' | ':' | '_' | '-' | '[' | ']')))
        .filter(|word| word.contains(|one: char| one.is_ascii_alphanumeric()))
        .collect();
    let named = words
        .windows(3)
        .filter(|three| three[1] == "on")
        .filter_map(|three| Some((three[0].to_owned(), three[2].parse().ok()?)));
    let control = words.windows(2).filter_map(|two| {
        let value = two[1].trim_start_matches(':');
        (two[0].trim_end_matches(':') == "control")
            .then(|| value.parse().ok())?
            .map(|at| ("control".into(), at))
    });
    named.chain(control).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_text_and_from_json() {
        for line in [
            "INFO serving tcp on 127.0.0.1:1, websocket on 127.0.0.1:2 control=127.0.0.1:3",
            r#"{"fields":{"message":"serving tcp on 127.0.0.1:1, websocket on 127.0.0.1:2","control":"127.0.0.1:3"}}"#,
        ] {
            let found = addresses(line);
            let port = |name: &str| found.get(name).map(|at: &SocketAddr| at.port());
            assert_eq!(
                (port("tcp"), port("websocket"), port("control")),
                (Some(1), Some(2), Some(3)),
                "{line}"
            );
        }
    }
}
