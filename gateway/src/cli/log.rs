//! Where log lines go: stderr, as text or JSON, from a level on that a reload changes.
//!
//! Where stderr is the journal's (sd-daemon(3)), each line begins with its priority, `<4>` for a
//! warning, so that `journalctl -p warning` and alerts by priority see what they should.

use super::outcome::colors_wanted;
use gateway_config::Config;
use gateway_control::LogHandle;
use gateway_control::output::LogQueue;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

/// What is said of a panic may take this long to be written.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

/// Starts logging to stderr. Logging never waits for the reader of stderr. The handle changes the
/// level later.
///
/// # Errors
/// When the thread that writes can't be had.
pub(super) fn start_log(config: &Config) -> io::Result<(LogHandle, LogQueue)> {
    let queue = LogQueue::start(io::stderr())?;
    queue.become_log();
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(config.log.level));
    let registry = registry().with(filter);
    let to = queue.clone();
    let writer = Prioritized { to: move || to.clone(), on: is_journal() };
    let started = if config.log.json {
        registry.with(fmt::layer().json().with_writer(writer).log_internal_errors(false)).try_init()
    } else {
        let layer = fmt::layer().with_ansi(colors_wanted()).with_target(false).with_writer(writer);
        registry.with(layer.log_internal_errors(false)).try_init()
    };
    if let Err(error) = started {
        queue.push(format!("logging was started before: {error}\n").as_bytes());
    }
    say_panics_through(&queue);
    let handle = LogHandle::new(move |level| {
        if let Err(error) = handle.modify(|filter| *filter = LevelFilter::from_level(level)) {
            tracing::error!(%error, "the log level can't be changed");
        }
    });
    Ok((handle, queue))
}

/// Reports panics through the log too: the standard hook would wait forever for a pipe that is not
/// read, and the process would neither serve nor end.
fn say_panics_through(queue: &LogQueue) {
    let queue = queue.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        let mut text = format!("thread '{name}' {panic}\n");
        if backtrace.status() == BacktraceStatus::Captured {
            text += &format!("{backtrace}\n");
        }
        queue.push(text.as_bytes());
        queue.flush(LAST_WORDS_MAX);
    }));
}

/// Whether stderr is the stream that the journal reads: its device and inode are those of
/// `JOURNAL_STREAM` (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// Puts the priority of sd-daemon(3) before each line.
#[derive(Clone, Debug)]
struct Prioritized<M> {
    to: M,
    on: bool,
}

/// Of one record: its priority, and where it goes.
struct Line<W> {
    priority: Option<u8>,
    to: W,
}

/// syslog's priorities (syslog(3)): LOG_ERR to LOG_DEBUG.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Prioritized<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { priority: None, to: self.to.make_writer() }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let priority = self.on.then(|| priority(metadata.level()));
        Line { priority, to: self.to.make_writer_for(metadata) }
    }
}

impl<W: Write> Write for Line<W> {
    /// A record comes in one piece; it may have several lines, which the journal takes apart.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(priority) = self.priority else { return self.to.write(bytes) };
        let mut marked = Vec::with_capacity(bytes.len() + 8);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            write!(marked, "<{priority}>")?;
            marked.extend_from_slice(line);
        }
        self.to.write_all(&marked)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_record_has_its_priority() {
        let mut written = Vec::new();
        let mut line = Line { priority: Some(priority(&Level::WARN)), to: &mut written };
        line.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(written, b"<4>one\n<4>two\n");
        let mut plain = Vec::new();
        Line { priority: None, to: &mut plain }.write_all(b"one\n").unwrap();
        assert_eq!(plain, b"one\n");
    }
}
