//! The figures that a server in poll mode publishes about itself.
//!
//! ```text
//!   worker ── publish, every turn ──► TallyServer (four numbers) ◄── a thread ◄── a line on stdin
//!                                                                   └──► stdout: busy nanoseconds,
//!                                                frames, retransmissions, probes (of a TCP)
//! ```
//!
//! A poll loop uses its processor whether or not there is something to do, so the scheduler's count
//! says nothing about a message; the loop's own count of the time in which it had something to do
//! does. Publishing costs the loop four stores a turn.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

/// Counts since the server's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How long there was something to do, by the clock.
    pub busy: Duration,
    /// Frames taken from the port and passed to it.
    pub frames: u64,
    /// What its TCP sent again.
    pub resent: Option<Resent>,
}

/// What a TCP sent more than once, or to find out whether something was lost. On a link that loses
/// nothing both are waste.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resent {
    /// Segments.
    pub segments: u64,
    /// Tail-loss probes.
    pub probes: u64,
}

impl Resent {
    /// The difference between two counts.
    pub fn since(self, before: Resent) -> Resent {
        Resent { segments: self.segments - before.segments, probes: self.probes - before.probes }
    }

    /// The sum of both ends.
    pub fn and(self, other: Resent) -> Resent {
        Resent { segments: self.segments + other.segments, probes: self.probes + other.probes }
    }
}

impl Tally {
    fn parse(line: &str) -> Option<Tally> {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let (busy, frames) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let mut count = || numbers.next().and_then(Result::ok);
        let resent = count().zip(count()).map(|(segments, probes)| Resent { segments, probes });
        Some(Tally { busy: Duration::from_nanos(busy), frames, resent })
    }
}

/// The generator's end.
#[derive(Debug)]
pub struct TallyClient {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl TallyClient {
    /// Over a server's standard input and output.
    pub fn over(questions: ChildStdin, answers: BufReader<ChildStdout>) -> TallyClient {
        TallyClient { questions, answers }
    }

    /// The server's counts so far.
    ///
    /// # Errors
    /// `InvalidData` for an invalid answer; the system's error when the server is gone.
    pub fn ask(&mut self) -> io::Result<Tally> {
        self.questions.write_all(b"?\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Tally::parse(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line))
    }
}

/// The server's end.
#[cfg(feature = "dpdk")]
pub(crate) mod tally_server {
    use super::Tally;
    use std::io::{self, BufRead, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The published figures; written by one thread.
    #[derive(Debug, Default)]
    pub(crate) struct TallyServer {
        busy_nanos: AtomicU64,
        frames: AtomicU64,
        resent: AtomicU64,
        probes: AtomicU64,
    }

    impl TallyServer {
        /// Answers questions on standard input from now on, on a thread of its own.
        ///
        /// # Errors
        /// The system's error when a thread cannot be started.
        pub(crate) fn start() -> io::Result<Arc<TallyServer>> {
            let tally_server = Arc::new(TallyServer::default());
            let shared = tally_server.clone();
            let answer = move || {
                for _ in io::stdin().lock().lines().map_while(Result::ok) {
                    let [busy, frames, resent, probes] =
                        [&shared.busy_nanos, &shared.frames, &shared.resent, &shared.probes]
                            .map(|one| one.load(Ordering::Relaxed));
                    if writeln!(io::stdout(), "{busy} {frames} {resent} {probes}").is_err() {
                        return; // no reader is left
                    }
                }
            };
            std::thread::Builder::new().name("tally_server".into()).spawn(answer)?;
            Ok(tally_server)
        }

        /// Publishes the figures, after each turn.
        pub(crate) fn publish(&self, tally: Tally) {
            self.busy_nanos.store(tally.busy.as_nanos() as u64, Ordering::Relaxed);
            self.frames.store(tally.frames, Ordering::Relaxed);
            let resent = tally.resent.unwrap_or_default();
            self.resent.store(resent.segments, Ordering::Relaxed);
            self.probes.store(resent.probes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_two_numbers_and_two_of_a_tcp() {
        let tally = Tally { busy: Duration::from_nanos(1500), frames: 7, resent: None };
        assert_eq!(Tally::parse("1500 7\n"), Some(tally));
        let resent = Some(Resent { segments: 3, probes: 4 });
        assert_eq!(Tally::parse("1500 7 3 4\n"), Some(Tally { resent, ..tally }));
        assert_eq!(Tally::parse("1500\n"), None);
        assert_eq!(Tally::parse(""), None);
    }
}
