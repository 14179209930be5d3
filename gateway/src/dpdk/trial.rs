//! The trial of `gateway dpdk-check`: a child opens the port, for only DPDK knows what DPDK
//! refuses.
//!
//! A driver that is not installed, an MTU that a device does not take, arguments that the
//! environment layer refuses, memory that is not enough, an interface or a socket that another
//! process has: no file under `/sys` shows them. A child does it because DPDK can be started once
//! per process, and ends the process on some failures.

use super::{Finding, good, missing};
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the line of the child's result begins with; everything else on its output is DPDK's.
pub const TRIED: &str = "port: ";
/// How long a start of DPDK may take: pages of a large machine are zeroed.
const WITHIN: Duration = Duration::from_secs(60);
/// Lines of DPDK's own messages that are shown.
const LINES_SHOWN: usize = 8;

/// Runs this program again with the same arguments, to open the port and close it.
pub fn try_in_child() -> Finding {
    match run() {
        Ok((true, text, _)) => good("port", format!("opened, and closed again: {text}")),
        Ok((false, text, said)) => {
            let mut finding = missing("port", text, &[]);
            let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            let first = lines.len().saturating_sub(LINES_SHOWN);
            for line in &lines[first..] {
                finding.text.push_str("\n                        DPDK: ");
                finding.text.push_str(line.trim());
            }
            finding
        }
        Err(error) => missing("port", format!("could not be tried: {error}"), &[]),
    }
}

/// Whether it could be opened, what the child says, and what DPDK said.
fn run() -> io::Result<(bool, String, String)> {
    let arguments =
        std::env::args_os().skip(1).map(|one| if one == "dpdk-check" { "dpdk-try".into() } else { one });
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Each pipe has its reader, so that the child never waits for one of them.
    let readers = (child.stdout.take().map(reader), child.stderr.take().map(reader));
    let ended = wait(&mut child);
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (said, messages) = (text(readers.0), text(readers.1));
    let result = said.lines().find_map(|line| line.strip_prefix(TRIED)).map(str::to_owned);
    let others: String =
        said.lines().filter(|line| !line.starts_with(TRIED)).map(|line| format!("{line}\n")).collect();
    let is_good = ended? && result.is_some();
    let text = result.unwrap_or_else(|| "DPDK ended the process that opened it".to_owned());
    Ok((is_good, text, others + &messages))
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether the child ended well; one that takes too long is ended.
fn wait(child: &mut Child) -> io::Result<bool> {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("it took longer than {} s", WITHIN.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
