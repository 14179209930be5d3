//! What users of load tools do with one: rates that change, a search for the highest rate, checks
//! in CI, figures while a run lasts, several processes, profiles. No test judges a time.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

mod agents;
mod capacity;
mod checks;
mod exporter;
#[path = "../peer/mod.rs"]
#[allow(dead_code, reason = "shared with tests that order faults")]
mod peer;
mod profile;
mod rates;

use loadtest::Exit;
use peer::Peer;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A path for a file of this test, which is removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(ending: &str) -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        Scratch(std::env::temp_dir().join(format!("loadtest-users-{process}-{number}.{ending}")))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The words of a line, split at spaces, with the program's name and the peer's addresses.
pub fn words(peer: &Peer, line: &str) -> Vec<OsString> {
    let line = format!("loadtest {line} -q --server {} --http {}", peer.tcp, peer.http);
    line.split(' ').map(OsString::from).collect()
}

/// Runs a line against `peer`; returns the exit and the stored report.
pub fn run(peer: &Peer, line: &str) -> (Exit, serde_json::Value) {
    let report = Scratch::new("json");
    let exit = loadtest::run(words(peer, &format!("{line} --json {}", report.path())));
    let json = if report.text().is_empty() { serde_json::Value::Null } else { report.json() };
    (exit, json)
}

/// Nothing was wrong. Whether the times of so short a run are good depends on the machine.
pub fn is_sound(exit: Exit) -> bool {
    matches!(exit, Exit::Met | Exit::Invalid)
}
