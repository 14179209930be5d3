//! Output of the program. A reader that has gone, a full disk or a pipe that is never read neither
//! ends nor blocks the program.
//!
//! ```text
//!   log lines, start screen ─► at most WAITING_MAX bytes ─► thread `log` ─► stderr
//!                                 └─ full: dropped and counted; reported once there is room
//! ```
//!
//! Commands that do not serve write themselves: [`say`] to stdout, [`complain`] to stderr.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of log lines that wait to be written at most.
const WAITING_MAX: usize = 256 << 10;
/// Bytes that the log takes: those that wait, and those that are being written.
pub(crate) const RESERVED: usize = 2 * WAITING_MAX;
/// A descriptor that takes nothing now is tried again after this long.
const RETRY: Duration = Duration::from_millis(20);

/// Log lines that were dropped since the start: too many waited, or stderr could not be written.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The log of the process, once it is started.
static LOG: OnceLock<LogQueue> = OnceLock::new();

/// Waits at most `time` until the log of the process is written: for callers that end the process
/// at once.
pub(crate) fn flush_log(time: Duration) {
    if let Some(log) = LOG.get() {
        log.flush(time);
    }
}

/// Log lines dropped since the start.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Writes to stdout. Ends quietly where the reader has gone; says what is wrong otherwise.
pub fn say(text: &str) -> ExitCode {
    let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("the output can't be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to stderr, if that takes it.
pub fn complain(what: impl fmt::Display) {
    show(format_args!("{what}\n"));
}

/// Writes text to stderr, if that takes it.
pub fn show(text: impl fmt::Display) {
    // A failure can't be reported anywhere.
    let _ = write!(io::stderr(), "{text}");
}

/// Lines on their way to stderr. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Lines wait.
    ready: Condvar,
    /// None waits, and none is being written.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// At most [`WAITING_MAX`] bytes.
    waiting: Vec<u8>,
    is_writing: bool,
    /// Dropped lines that were not reported yet.
    unsaid: u64,
}

impl LogQueue {
    /// Starts the thread that writes to `to`.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(to: impl AsFd + Send + 'static) -> io::Result<LogQueue> {
        let queue = LogQueue(Arc::default());
        queue.lock().waiting.reserve_exact(WAITING_MAX);
        let writer = queue.clone();
        netpoll::spawn_thread("log".into(), move || writer.write_for_ever(&to))?;
        Ok(queue)
    }

    /// Makes it the log of the process, unless there is one.
    pub fn become_log(&self) {
        let _ = LOG.set(self.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves whole lines to be written. Never waits: what finds no room is dropped and counted.
    pub fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + lines.len() > WAITING_MAX {
            let count = count_lines(lines);
            state.unsaid += count;
            DROPPED.fetch_add(count, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(lines);
        self.0.ready.notify_one();
    }

    /// Waits until everything is written, at most for `time`.
    pub fn flush(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !state.waiting.is_empty() || state.is_writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_for_ever(&self, to: &impl AsFd) {
        let mut batch = Vec::with_capacity(WAITING_MAX);
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            while state.waiting.is_empty() {
                self.0.idle.notify_all();
                state = self.0.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.waiting, &mut batch);
            state.is_writing = true;
            drop(state);
            let lost = write_all(to, &batch);
            let unsaid = {
                let mut state = self.lock();
                state.unsaid += lost;
                DROPPED.fetch_add(lost, Ordering::Relaxed);
                if lost == 0 { std::mem::take(&mut state.unsaid) } else { 0 }
            };
            batch.clear();
            if unsaid > 0 {
                tracing::warn!(
                    "{unsaid} log lines before this one were dropped: stderr was not read, or could not be written"
                );
            }
        }
    }
}

/// Writes a batch, however long that takes; returns how many lines were lost. Not through
/// [`io::stderr`]: a panic would wait for its lock.
fn write_all(to: &impl AsFd, mut batch: &[u8]) -> u64 {
    while !batch.is_empty() {
        match rustix::io::write(to, batch) {
            Ok(0) => return count_lines(batch),
            Ok(written) => batch = &batch[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(RETRY),
            Err(_) => return count_lines(batch),
        }
    }
    0
}

fn count_lines(lines: &[u8]) -> u64 {
    (lines.iter().filter(|&&byte| byte == b'\n').count() as u64).max(1)
}

impl Write for LogQueue {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn lines_arrive_in_their_order() {
        let (to, mut from) = UnixStream::pair().unwrap();
        let queue = LogQueue::start(to).unwrap();
        (0..1000).for_each(|index| queue.push(format!("{index}\n").as_bytes()));
        queue.flush(Duration::from_secs(60));
        let expected: String = (0..1000).map(|index| format!("{index}\n")).collect();
        let mut read = vec![0; expected.len()];
        from.read_exact(&mut read).unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), expected);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (to, _from) = UnixStream::pair().unwrap();
        let queue = LogQueue::start(to).unwrap();
        let line = [&[b'x'; 99][..], b"\n"].concat();
        let before = dropped_lines();
        // More than the socket and the queue hold; each push returns.
        (0..100_000).for_each(|_| queue.push(&line));
        assert!(queue.lock().waiting.len() <= WAITING_MAX && queue.lock().waiting.capacity() <= WAITING_MAX);
        assert!(dropped_lines() - before > 50_000 && queue.lock().unsaid > 50_000);
        queue.flush(Duration::from_millis(10));
    }

    #[test]
    fn a_reader_that_has_gone_costs_lines_alone() {
        let (to, from) = UnixStream::pair().unwrap();
        let queue = LogQueue::start(to).unwrap();
        drop(from);
        let before = dropped_lines();
        queue.push(b"one\ntwo\n");
        queue.flush(Duration::from_secs(60));
        assert!(dropped_lines() >= before + 2);
    }
}
