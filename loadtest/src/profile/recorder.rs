//! Records the stacks of a process with `perf record`, until it is finished.

use super::Folded;
use crate::error::RunError;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Samples a second: a prime, so that it is in step with nothing.
const FREQUENCY: &str = "199";

/// A recording that is under way.
#[derive(Debug)]
pub(crate) struct Profiler {
    perf: Child,
    data: PathBuf,
}

fn unusable(what: String) -> RunError {
    RunError::new(
        what,
        "--profile needs perf (package linux-perf, or linux-tools for this kernel) and the right to use it: \
         root, CAP_PERFMON, or kernel.perf_event_paranoid at most 1 for a process of yours",
    )
}

impl Profiler {
    /// Checks that perf is there.
    ///
    /// # Errors
    /// It is missing.
    pub(crate) fn check() -> Result<(), RunError> {
        let version =
            Command::new("perf").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        match version {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(unusable(format!("`perf --version` failed: {status}"))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unusable("perf is not here".to_owned())),
            Err(error) => Err(unusable(format!("cannot run perf: {error}"))),
        }
    }

    /// Starts to record these processes.
    ///
    /// # Errors
    /// No process to record, or no perf.
    pub(crate) fn start(pids: &[i32]) -> Result<Profiler, RunError> {
        if pids.is_empty() {
            return Err(RunError::new(
                "--profile: the server's process is not known",
                "give --server-pid; only a process of this machine can be profiled",
            ));
        }
        let name = format!("loadtest-perf-{}-{}.data", std::process::id(), pids[0]);
        let data = std::env::temp_dir().join(name);
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        let perf = Command::new("perf")
            .args(["record", "-q", "-F", FREQUENCY, "-g", "-p", &pids.join(","), "-o"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| unusable(format!("cannot run perf: {error}")))?;
        Ok(Profiler { perf, data })
    }

    /// Ends the recording and folds its stacks.
    ///
    /// # Errors
    /// What perf says went wrong, or nothing recorded.
    pub(crate) fn finish(mut self) -> Result<Folded, RunError> {
        // perf record ends in order when it is interrupted.
        let _ = kill_process(Pid::from_child(&self.perf), Signal::INT);
        let mut complaint = String::new();
        if let Some(stderr) = &mut self.perf.stderr {
            let _ = stderr.take(16 << 10).read_to_string(&mut complaint);
        }
        let status = self.perf.wait();
        let script = Command::new("perf")
            .args(["script", "-F", "comm,ip,sym", "-i"])
            .arg(&self.data)
            .stderr(Stdio::null())
            .output();
        let script = script.map_err(|error| unusable(format!("cannot run perf: {error}")))?;
        let folded = Folded::of_perf_script(&String::from_utf8_lossy(&script.stdout));
        if folded.samples() > 0 {
            return Ok(folded);
        }
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let complaint = complaint.trim();
        Err(unusable(format!("perf recorded nothing ({status}): {complaint}")))
    }
}

impl Drop for Profiler {
    /// No recording outlives its run.
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
        let _ = std::fs::remove_file(&self.data);
    }
}
