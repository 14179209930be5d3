//! What a broadcast's delivery is compared with: the bare send to as many receivers, by a server
//! that does nothing else.
//!
//! Nanoseconds of two days do not compare on a machine of changing speed, and a send to one of a
//! million sockets, none of which is in a cache, costs more than to one of five thousand. So the
//! floor is measured in the same run: by `bench broadcast`, over as many rings, in the same
//! namespace, as soon as the gateway has ended. Without one there is no verdict.

use loadtest::RunError;
use loadtest::Stop;
use loadtest::report::units::number;
use serde::Deserialize;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What the bare floor of the benchmark costs per delivery, and its source.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) nanos: f64,
    pub(crate) source: String,
}

/// What `bench broadcast` prints.
#[derive(Deserialize)]
struct Figures {
    receivers: u32,
    server_ns: Vec<f64>,
}

/// The benchmark's process; it ends when this is dropped, and its server with it.
struct Bench(Child);

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

/// Runs `program`, the benchmark, with so many receivers on so many rings. `None` when the run is
/// to stop.
///
/// # Errors
/// It cannot be started, or it reports an error.
pub(crate) fn measure(
    program: &str,
    connections: u32,
    rings: u32,
    stop: &Stop,
) -> Result<Option<Floor>, RunError> {
    let child = Command::new(program)
        .args(["broadcast", "--connections", &connections.to_string(), "--rings", &rings.to_string()])
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut bench = Bench(child.map_err(|error| absent(program, &error.to_string()))?);
    let failed = |what: String| {
        RunError::new(
            format!("{program} broadcast: {what}"),
            "see what it says above; the run's other figures stand",
        )
    };
    let status = loop {
        if stop.load(Relaxed) {
            return Ok(None);
        }
        match bench.0.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    // One line, which a pipe holds.
    let out = bench.0.stdout.take().map(std::io::read_to_string).transpose().unwrap_or_default();
    match of(&out.unwrap_or_default()) {
        Some(floor) if status.success() => Ok(Some(floor)),
        _ => Err(failed(status.to_string())),
    }
}

/// Refuses a program that does not exist, before anything is measured for it.
///
/// # Errors
/// How to build it.
pub(crate) fn check(program: &str) -> Result<(), RunError> {
    match Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(absent(program, &status.to_string())),
        Err(error) => Err(absent(program, &error.to_string())),
    }
}

fn absent(program: &str, why: &str) -> RunError {
    RunError::new(
        format!("cannot start {program}: {why}"),
        "build it: cargo build --release -p bench, and name it with --floor, or leave that out",
    )
}

/// The median of the rounds.
fn of(figures: &str) -> Option<Floor> {
    let figures: Figures = serde_json::from_str(figures).ok()?;
    Some(Floor {
        nanos: median(figures.server_ns)?,
        source: format!(
            "bare io_uring with {} receivers, right after the gateway",
            number(f64::from(figures.receivers))
        ),
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_median_is_the_floor() {
        let line = "{\"receivers\":1000000,\"rings\":53,\"server_ns\":[9000.5,12000.0,10000.0],\"seconds\":[1,2,3]}\n";
        let floor = of(line).unwrap();
        assert_eq!((floor.nanos, floor.source.contains(" receivers")), (10_000.0, true), "{}", floor.source);
        assert!(of("").is_none() && of("{\"receivers\":1,\"server_ns\":[]}").is_none());
    }

    #[test]
    fn a_benchmark_that_is_missing_or_prints_nothing_is_reported() {
        let stop = Stop::default();
        let error = measure("/nowhere/bench", 10, 1, &stop).unwrap_err().to_string();
        assert!(error.contains("cannot start") && error.contains("--floor"), "{error}");
        assert!(
            check("/nowhere/bench").is_err() && check("/bin/false").is_err() && check("/bin/true").is_ok()
        );
        assert!(measure("/bin/false", 10, 1, &stop).is_err());
        assert!(measure("/bin/true", 10, 1, &stop).is_err());
    }
}
