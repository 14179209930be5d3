//! The process that runs abuses: this program again, at the lowest priority where latencies are
//! compared, so that its own work does not count as the gateway's.
//!
//! It gets an [`Order`] as a line of JSON on its standard input, writes the results as JSON to its
//! standard output, and ends when the input ends: all its connections end with this program,
//! whatever happens to it.

use crate::abuse::{self, Abuse};
use crate::error::RunError;
use crate::outcome::Outcome;
use crate::target::{Order, Target};
use crate::tokens::Signer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long after its budget an abuse may take to end.
const GRACE: Duration = Duration::from_secs(25);

/// The results of one abuse.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) outcome: Outcome,
    /// Why it ended early, if it did: often because of what the gateway did.
    pub(crate) error: Option<String>,
}

pub(crate) type Attempts = BTreeMap<String, Attempt>;

/// A running attacker; ended when dropped.
pub(crate) struct Attacker {
    child: Child,
    answer: mpsc::Receiver<String>,
    until: Instant,
}

impl Attacker {
    /// Starts this program once more with an order.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(order: &Order) -> Result<Attacker, RunError> {
        let failed =
            |error: io::Error| RunError::new(format!("no process for abuses: {error}"), "see `ulimit -u`");
        // The program that runs, also where another build has taken its place since.
        let mut child = Command::new("/proc/self/exe")
            .arg("attack")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let line = serde_json::to_string(order).unwrap_or_default() + "\n";
        child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes())).map_err(failed)?;
        let (sender, answer) = mpsc::channel();
        if let Some(mut stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = stdout.read_to_string(&mut text);
                let _ = sender.send(text);
            });
        }
        let until = Instant::now() + Duration::from_millis(order.budget_ms) + GRACE;
        Ok(Attacker { child, answer, until })
    }

    /// The results, once the abuse is over; `None` before.
    ///
    /// # Errors
    /// It did not end in time.
    pub(crate) fn poll(&mut self, wait: Duration) -> Option<Result<Attempts, String>> {
        match self.answer.recv_timeout(wait) {
            Ok(text) => {
                Some(serde_json::from_str(&text).map_err(|error| format!("the attacker's answer: {error}")))
            }
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < self.until => None,
            Err(_) => Some(Err("the abuse did not end in time".into())),
        }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The attacker's process.
pub(crate) fn main() -> ExitCode {
    let mut line = String::new();
    let order = match io::stdin().lock().read_line(&mut line).map(|_| serde_json::from_str::<Order>(&line)) {
        Ok(Ok(order)) => order,
        _ => return ExitCode::from(2),
    };
    let _ = rustix::process::nice(order.nice);
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut vec![]);
        std::process::exit(3);
    });
    let attempts = run(&order);
    let text = serde_json::to_string(&attempts).unwrap_or_default();
    ExitCode::from(u8::from(io::stdout().write_all(text.as_bytes()).is_err()))
}

/// Runs all abuses of the order at once, a thread each.
fn run(order: &Order) -> Attempts {
    let chosen =
        abuse::ALL.iter().zip(0_u32..).filter(|(abuse, _)| order.names.iter().any(|name| name == abuse.name));
    let threads: Vec<_> = chosen
        .map(|(abuse, number)| {
            let order = order.clone();
            (abuse.name, std::thread::spawn(move || attempt(&order, abuse, number)))
        })
        .collect();
    let joined = threads.into_iter().map(|(name, thread)| {
        let panicked = || Attempt { error: Some("the abuse itself panicked".into()), ..Attempt::default() };
        (name.to_owned(), thread.join().unwrap_or_else(|_| panicked()))
    });
    joined.collect()
}

fn attempt(order: &Order, abuse: &Abuse, number: u32) -> Attempt {
    let failed = |error: String| Attempt { error: Some(error), ..Attempt::default() };
    let target = |number| Ok(Target::new(order, number, abuse, Signer::import(&order.key)?));
    let (own, neighbor) = match (target(number), target(NEIGHBOUR + number)) {
        (Ok(own), Ok(neighbor)) => (own, neighbor),
        (Err(error), _) | (_, Err(error)) => return failed(RunError::to_string(&error)),
    };
    let over = AtomicBool::new(false);
    let (tried, seen) = std::thread::scope(|scope| {
        // Among a hundred other abuses a login may be refused for any shortage.
        let watches = abuse.behind_nat && !order.crowded;
        let seen = watches.then(|| scope.spawn(|| watch(neighbor, &over)));
        let tried = (abuse.run)(&own);
        over.store(true, Ordering::Relaxed);
        (tried, seen.map(|seen| seen.join().unwrap_or_default()))
    });
    let mut attempt = match tried {
        Ok(outcome) => Attempt { outcome, error: None },
        Err(error) => failed(error.to_string()),
    };
    own.take_refusals().into_iter().for_each(|(how, count)| attempt.outcome.answered(how, count));
    seen.into_iter().for_each(|neighbors| attempt.outcome.neighbors(neighbors));
    attempt
}

/// Users of neighbors are numbered behind those of abuses.
const NEIGHBOUR: u32 = 500;
/// The note that is wrong whatever came before.
pub(crate) const NEVER_TAKEN: &str = "login is not taken when the abuse is over";
/// How long a neighbor may have to wait for a login when the abuse is over.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(20);

/// Logs in from an address that an abuse comes from, again and again until it is over and a login
/// has been accepted then; returns the results.
fn watch(target: Target, over: &AtomicBool) -> BTreeMap<String, u64> {
    let (mut seen, mut over_since) = (BTreeMap::new(), None);
    loop {
        if over.load(Ordering::Relaxed) {
            over_since.get_or_insert_with(Instant::now);
        }
        let login = target.user(&serde_json::json!(null));
        let how = login.as_ref().map_or_else(ToString::to_string, |_| "taken".to_owned());
        *seen.entry(how).or_insert(0) += 1;
        let is_late = |since: Instant| since.elapsed() > NEIGHBOUR_PATIENCE;
        if over_since.is_some_and(|since| login.is_ok() || is_late(since)) {
            if login.is_err() {
                seen.insert(NEVER_TAKEN.into(), 1);
            }
            return seen;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
