//! Live progress: a bar with an ETA on a terminal, plain lines elsewhere. On standard error, so
//! that reports can be piped.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// See the module's text.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    phase: String,
    total: u64,
    began: Instant,
    last: Instant,
}

impl Progress {
    /// Prints nothing when `quiet`.
    pub(crate) fn new(quiet: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = (!quiet && terminal).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{prefix:>12.cyan} {bar:32} {percent:>3}% · {msg} · {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress {
            bar,
            lines: !quiet && !terminal,
            phase: String::new(),
            total: 0,
            began: Instant::now(),
            last: Instant::now(),
        }
    }

    /// Begins a phase of `total` steps.
    pub(crate) fn phase(&mut self, phase: &str, total: u64) {
        (self.phase, self.total, self.began) = (phase.to_owned(), total, Instant::now());
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(total);
            bar.set_prefix(phase.to_owned());
            bar.set_message("");
        }
        if self.lines {
            note!("{phase} …");
            self.last = Instant::now();
        }
    }

    /// Shows progress within the phase.
    pub(crate) fn at(&mut self, step: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(step.min(self.total));
            bar.set_message(message.to_owned());
        }
        if self.lines && self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let percent = (step * 100).checked_div(self.total).unwrap_or(100).min(100);
            let left = self.began.elapsed().as_secs_f64() * self.total.saturating_sub(step) as f64
                / step.max(1) as f64;
            note!("{} {percent}% · {message} · {left:.0} s left", self.phase);
        }
    }

    /// Ends the display.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
