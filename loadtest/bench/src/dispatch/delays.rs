//! Delays by steps of 100 ns: counted by the server's worker, published by a thread beside it.

use super::monotonic_nanos;
use gateway_proto::frame::HEADER_SIZE;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds of a step.
const STEP_NS: u64 = 100;
/// Steps, 10 ms; the last one has what took longer, too.
const STEPS: usize = 100_000;

/// When a frame was sent, by the stamp at the front of its payload; `None` for a frame without one,
/// as an answer to a login.
fn stamp_of(frame: &[u8]) -> Option<u64> {
    let stamp = frame.get(HEADER_SIZE..)?.first_chunk()?;
    Some(u64::from_be_bytes(*stamp))
}

/// How many delays were of each length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delays(Vec<u64>);

impl Delays {
    /// Delays that were counted since `before`.
    pub fn since(&self, before: &Delays) -> Delays {
        Delays(self.0.iter().zip(&before.0).map(|(now, before)| now - before).collect())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The delay, in microseconds, that a share of them does not exceed, rounded up to a step;
    /// `None` without any.
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let step = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some((step as u64 + 1) as f64 * STEP_NS as f64 / 1e3)
    }

    /// As one line of text: the step and the count of each that is not empty.
    fn line(counts: impl Iterator<Item = u64>) -> String {
        let words = counts.enumerate().filter(|(_, count)| *count > 0);
        words.map(|(step, count)| format!("{step}:{count} ")).collect::<String>()
    }

    fn parse(line: &str) -> Option<Delays> {
        let mut counts = vec![0; STEPS];
        for word in line.split_ascii_whitespace() {
            let (step, count) = word.split_once(':')?;
            *counts.get_mut(step.parse::<usize>().ok()?)? = count.parse().ok()?;
        }
        Some(Delays(counts))
    }
}

/// The server's end: counts on the worker's thread, and answers questions on standard input.
#[derive(Debug)]
pub(crate) struct DelayServer(Arc<Vec<AtomicU64>>);

impl DelayServer {
    /// Answers questions from now on, on a thread of its own.
    ///
    /// # Errors
    /// The system's error when a thread cannot be started.
    pub(crate) fn start() -> io::Result<DelayServer> {
        let counts: Arc<Vec<AtomicU64>> = Arc::new((0..STEPS).map(|_| AtomicU64::new(0)).collect());
        let shared = Arc::clone(&counts);
        let answer = move || {
            for _ in io::stdin().lock().lines().map_while(Result::ok) {
                let line = Delays::line(shared.iter().map(|count| count.load(Ordering::Relaxed)));
                if writeln!(io::stdout(), "{line}").is_err() {
                    return; // no reader is left
                }
            }
        };
        std::thread::Builder::new().name("delays".into()).spawn(answer)?;
        Ok(DelayServer(counts))
    }

    /// Counts the delay of an answer, from the stamp that it carries until now. One thread counts.
    #[inline]
    pub(crate) fn record(&self, frame: &[u8]) {
        let Some(sent_at) = stamp_of(frame) else { return };
        let step = monotonic_nanos().saturating_sub(sent_at) / STEP_NS;
        let count = &self.0[usize::try_from(step).unwrap_or(STEPS).min(STEPS - 1)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// The generator's end.
#[derive(Debug)]
pub struct DelayClient {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl DelayClient {
    /// Over a server's standard input and output.
    pub fn over(questions: ChildStdin, answers: BufReader<ChildStdout>) -> DelayClient {
        DelayClient { questions, answers }
    }

    /// The delays so far.
    ///
    /// # Errors
    /// `InvalidData` for an invalid answer; the system's error when the server is gone.
    pub fn ask(&mut self) -> io::Result<Delays> {
        self.questions.write_all(b"?\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Delays::parse(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::frame::{Header, Operation};

    fn delays(steps: &[(usize, u64)]) -> Delays {
        let mut counts = vec![0; STEPS];
        steps.iter().for_each(|(step, count)| counts[*step] = *count);
        Delays(counts)
    }

    #[test]
    fn quantiles_are_upper_ends_of_steps() {
        let delays = delays(&[(0, 500), (49, 490), (200, 9), (STEPS - 1, 1)]);
        assert_eq!(delays.quantile_us(0.5), Some(0.1));
        assert_eq!(delays.quantile_us(0.99), Some(5.0));
        assert_eq!(delays.quantile_us(0.999), Some(20.1));
        assert_eq!(delays.quantile_us(1.0), Some(10_000.0));
        assert_eq!(self::delays(&[]).quantile_us(0.5), None, "no samples is no verdict");
    }

    #[test]
    fn a_line_carries_them_and_a_window_is_a_difference() {
        let (before, now) = (delays(&[(3, 1)]), delays(&[(3, 5), (7, 2)]));
        assert_eq!(Delays::parse(&Delays::line(now.0.iter().copied())), Some(now.clone()));
        assert_eq!(now.since(&before), delays(&[(3, 4), (7, 2)]));
        assert_eq!(Delays::parse("3:x"), None);
        assert_eq!(Delays::parse("100000:1"), None);
    }

    #[test]
    fn a_stamp_is_at_the_front_of_the_payload() {
        let frame = [&Header::new(Operation(200), 1, 8).to_bytes()[..], &77_u64.to_be_bytes()].concat();
        assert_eq!(stamp_of(&frame), Some(77));
        assert_eq!(stamp_of(&frame[..HEADER_SIZE]), None);
    }
}
