//! One gateway at a time has a journal's folder.
//!
//! ```text
//!   audit.lock             locked (flock(2)) from the start to the drain; names its process, and the bytes on disk
//!   audit-00000001.jsonl   locked by its writer for as long as it is open
//! ```
//!
//! The kernel releases locks when a process ends, however it ends. A drain releases the folder to a
//! successor and goes on in its own file: the successor finds that locked, and begins the next
//! number.
//!
//! The start compares the folder with what `audit.lock` says of it: missing files, files that are
//! shorter than they were on disk, and lines that are no records are logged, counted and left as
//! they are; the journal goes on in a new file.

use super::files::{self, Held};
use crate::ports::Patience;
use gateway_config::JournalConfig;
use serde_json::{Value, json};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The file that names the gateway that writes the folder.
const LOCK: &str = "audit.lock";
/// Size of its content, in bytes; constant, so that one write replaces all of the last.
const STATE_SIZE: usize = 96;
/// How often a held lock is tried again, and how often the wait is reported.
const TRY_INTERVAL: Duration = Duration::from_millis(25);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A living owner is believed after this long: a process that was just killed looks alive for some
/// milliseconds.
const OWNER_GRACE: Duration = Duration::from_millis(500);

/// Why a journal can't be had.
#[derive(Debug)]
pub enum ClaimError {
    /// Another gateway writes the folder.
    Held {
        /// The folder.
        directory: PathBuf,
        /// The process and its name, if it is alive and seen from here.
        owner: Option<(u32, String)>,
        /// Time for which the start waited.
        waited: Duration,
    },
    /// A file of it can't be used.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::Held { directory, owner: Some((pid, name)), .. } => write!(
                f,
                "journal.directory = \"{}\" is written by process {pid} ({name}): each gateway needs a folder of its own; \
                 stop that one, or write another folder",
                directory.display()
            ),
            ClaimError::Held { directory, owner: None, waited } => write!(
                f,
                "journal.directory = \"{}\" is written by a gateway that is not seen from here, in another container or on \
                 another machine (waited for {} s): each gateway needs a folder of its own; write another folder, or stop \
                 that one (`fuser {}` there names it)",
                directory.display(),
                waited.as_secs(),
                directory.join(LOCK).display()
            ),
            ClaimError::File { path, error } if error.kind() == io::ErrorKind::InvalidInput => {
                write!(f, "journal.directory: {} can't be written, for {error}: move it away", path.display())
            }
            ClaimError::File { path, error } => write!(
                f,
                "journal.directory: {} can't be written by this user: {error}; give it to the gateway's user by `chown`, or \
                 move it away",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ClaimError {}

/// Damage to a file of the journal that no gateway caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) file: String,
    pub(super) what: &'static str,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Damage {
    pub(super) fn new(number: u64, what: &'static str, lines: u64, bytes: u64) -> Damage {
        Damage { file: files::name(number), what, lines, bytes }
    }

    /// Writes it to the log.
    pub(super) fn report(&self, directory: &Path) {
        let Damage { file, what, lines, bytes } = self;
        tracing::error!(directory = %directory.display(), file, lines, bytes,
            "the audit journal is damaged, and not by this gateway: {what}; what is left stays as it is, and the journal goes on in a new file");
    }

    /// As a record.
    pub(super) fn fields(&self) -> Value {
        json!({ "file": self.file, "what": self.what, "lines": self.lines, "bytes": self.bytes })
    }
}

/// The right to write a folder.
#[derive(Debug)]
pub struct Claim {
    pub(super) config: JournalConfig,
    pub(super) lock: Lock,
    /// Number of the file to begin with.
    pub(super) number: u64,
    pub(super) damages: Vec<Damage>,
}

impl Claim {
    /// Takes the folder of a journal. Waits as long as `patience` says for a gateway that is no
    /// longer alive to leave it.
    ///
    /// # Errors
    /// The gateway that has the folder, or the file that can't be used.
    pub fn take(config: &JournalConfig, patience: &Patience<'_>) -> Result<Claim, ClaimError> {
        let directory = &config.directory;
        fs::create_dir_all(directory).map_err(|error| ClaimError::File { path: directory.clone(), error })?;
        let held = wait_for(directory, patience)?;
        let last = State::read(held.file());
        let mut claim = Claim { config: config.clone(), lock: Lock::new(held), number: 1, damages: vec![] };
        claim.look(last).map_err(|(path, error)| ClaimError::File { path, error })?;
        Ok(claim)
    }

    /// Whether the folder could be taken now; changes nothing.
    ///
    /// # Errors
    /// As [`Claim::take`].
    pub fn check(config: &JournalConfig) -> Result<(), ClaimError> {
        let path = config.directory.join(LOCK);
        if !path.exists() {
            return Ok(());
        }
        let file =
            files::open(&path, false).map_err(|error| ClaimError::File { path: path.clone(), error })?;
        let state = State::read(&file);
        match Held::lock(file) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let owner = state.and_then(|state| living(state.pid));
                Err(ClaimError::Held { directory: config.directory.clone(), owner, waited: Duration::ZERO })
            }
            Err(error) => Err(ClaimError::File { path, error }),
        }
    }

    /// Finds the file to go on with, and damage to those that are there.
    fn look(&mut self, last: Option<State>) -> Result<(), (PathBuf, io::Error)> {
        let directory = &self.config.directory;
        let numbers = files::numbers(directory).map_err(|error| (directory.clone(), error))?;
        let newest = numbers.last().copied();
        self.number = newest.unwrap_or(1);
        if let Some(last) = last.filter(|last| last.file > 0 && !numbers.contains(&last.file)) {
            self.damages.push(Damage::new(last.file, "the file written last is gone", 0, last.bytes));
            self.number = self.number.max(last.file + 1);
        }
        let Some(newest) = newest else { return Ok(()) };
        let path = files::path(directory, newest);
        let at = |error| (path.clone(), error);
        let file = files::open(&path, true).map_err(at)?;
        // Its writer drains.
        let Some(held) = Held::lock(file).map_err(at)? else {
            self.number = self.number.max(newest + 1);
            return Ok(());
        };
        let content = files::content(held.file()).map_err(at)?;
        let before = self.damages.len();
        let size = content.whole + content.torn;
        if let Some(lost) =
            last.filter(|last| last.file == newest).and_then(|last| last.bytes.checked_sub(size))
            && lost > 0
        {
            self.damages.push(Damage::new(newest, "it was cut short", 0, lost));
        }
        if content.bad_lines > 0 {
            let (lines, bytes) = (content.bad_lines, content.bad_bytes);
            self.damages.push(Damage::new(newest, "lines that are no records, or a hole", lines, bytes));
        }
        if self.damages.len() > before {
            self.number = self.number.max(newest + 1);
        }
        Ok(())
    }
}

/// The lock of the folder, as long as this gateway has it.
#[derive(Debug)]
pub(super) struct Lock(Mutex<Option<Held>>);

impl Lock {
    fn new(held: Held) -> Lock {
        Lock(Mutex::new(Some(held)))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Option<Held>) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Releases the folder to a successor.
    pub(super) fn release(&self) {
        self.with(|held| drop(held.take()));
    }

    /// What finds the file again, while the folder is this gateway's.
    pub(super) fn inode(&self) -> Option<u64> {
        self.with(|held| held.as_ref().map(|held| held.inode))
    }

    /// Writes down how much of which file is on disk. Nothing is lost when it can't be: the next
    /// start knows less.
    pub(super) fn note(&self, file: u64, bytes: u64) {
        self.with(|held| {
            if let Some(held) = held {
                let state = State { pid: std::process::id(), file, bytes };
                let _ = held.file().write_all_at(&state.text(), 0);
            }
        });
    }

    /// Takes the folder again after its lock was removed. False: another gateway has it.
    pub(super) fn renew(&self, directory: &Path) -> io::Result<bool> {
        fs::create_dir_all(directory)?;
        let held = try_lock(directory)?;
        let renewed = held.is_some();
        self.with(|old| *old = held);
        Ok(renewed)
    }
}

pub(super) fn lock_path(directory: &Path) -> PathBuf {
    directory.join(LOCK)
}

/// Content of `audit.lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// The process that has, or had, the folder.
    pid: u32,
    /// The file that was written last; 0: none yet.
    file: u64,
    /// How much of it is on disk at least.
    bytes: u64,
}

impl State {
    fn read(file: &File) -> Option<State> {
        let mut text = [0; STATE_SIZE];
        let size = file.read_at(&mut text, 0).ok()?;
        let value: Value = serde_json::from_slice(text[..size].trim_ascii()).ok()?;
        let pid = u32::try_from(value["pid"].as_u64()?).ok()?;
        let file = value["file"].as_u64().filter(|file| *file < files::NUMBER_MAX)?;
        Some(State { pid, file, bytes: value["bytes"].as_u64()? })
    }

    fn text(&self) -> Vec<u8> {
        let mut text =
            json!({ "pid": self.pid, "file": self.file, "bytes": self.bytes }).to_string().into_bytes();
        text.resize(STATE_SIZE - 1, b' ');
        text.push(b'\n');
        text
    }
}

/// Locks the folder; `None`: another has it. The file may be removed and made anew between its
/// opening and its locking.
fn try_lock(directory: &Path) -> io::Result<Option<Held>> {
    let path = lock_path(directory);
    loop {
        let Some(held) = Held::lock(files::open(&path, false)?)? else { return Ok(None) };
        if fs::metadata(&path).is_ok_and(|now| now.ino() == held.inode) {
            return Ok(Some(held));
        }
    }
}

fn wait_for(directory: &Path, patience: &Patience<'_>) -> Result<Held, ClaimError> {
    let mut report_due = Instant::now() + OWNER_GRACE;
    loop {
        let path = lock_path(directory);
        match try_lock(directory) {
            Ok(Some(held)) => {
                let last = State::read(held.file()).unwrap_or(State { pid: 0, file: 0, bytes: 0 });
                let own = State { pid: std::process::id(), ..last };
                held.file().write_all_at(&own.text(), 0).map_err(|error| ClaimError::File { path, error })?;
                return Ok(held);
            }
            Ok(None) => {}
            Err(error) => return Err(ClaimError::File { path, error }),
        }
        if Instant::now() >= report_due {
            let owner = File::open(&path).ok().and_then(|file| living(State::read(&file)?.pid));
            if owner.is_some() || patience.is_over() {
                let waited = patience.waited();
                return Err(ClaimError::Held { directory: directory.into(), owner, waited });
            }
            patience.report(&format!(
                "journal.directory = \"{}\" is taken, but no living process is seen to write there: a gateway that was \
                 killed is still taken apart by the kernel, or one in another container writes there",
                directory.display()
            ));
            report_due = Instant::now() + REPORT_INTERVAL;
        }
        std::thread::sleep(TRY_INTERVAL);
    }
}

/// The name of a process that is alive. Our own number is another container's process.
fn living(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let is_dead = rest.starts_with(['Z', 'X']);
    (!is_dead && pid != std::process::id()).then(|| (pid, name.to_owned()))
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
