//! The audit journal: one JSON object a line, in files of bounded size and number.
//!
//! ```text
//!   workers ── ControlMessage::Audit ──┐
//!                                      ├─► Journal::record ── bounded channel ──► one task ── io_uring or a plain file
//!   HTTP handlers (kicks, pushes) ─────┘      full: dropped and counted
//! ```
//!
//! Files are `audit-00000001.jsonl` and on. Lines are written in batches as they come. `fdatasync` runs when a file is
//! full, at the end, and otherwise once a second while there is something new: a power cut loses the last second, a
//! crash of the process nothing that was written. When the disk is full or broken, lines are dropped and counted, the
//! gateway serves on, and the file is tried again after a second from the end of its last whole batch.

use super::clock::rfc3339;
use crate::config::JournalConfig;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// Bytes that may wait to be written; most lines have some 200.
const WAITING_MAX: usize = 4 << 20;
/// What a journal takes at most, in bytes.
pub(crate) const RESERVED: usize = WAITING_MAX + LINES_MAX * std::mem::size_of::<Order>() + BATCH_SIZE;
/// Bytes written at a time at most, one line more or less.
const BATCH_SIZE: usize = 64 << 10;
/// A broken disk is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// Unsynced lines are as old as this at most.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

enum Order {
    Line(String),
    Finish(oneshot::Sender<()>),
}

/// What the journal counts.
#[derive(Debug, Default)]
pub struct JournalMetrics {
    /// Lines written.
    pub written: AtomicU64,
    /// Lines lost: the channel was full, or the disk was.
    pub dropped: AtomicU64,
    /// Times that opening, writing or syncing failed.
    pub errors: AtomicU64,
    /// Bytes that wait to be written.
    waiting: AtomicUsize,
}

/// The writing end. Cheap to clone; does nothing when the journal is off.
#[derive(Clone)]
pub struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    /// What it counts.
    pub metrics: Arc<JournalMetrics>,
}

impl Journal {
    /// A journal that writes nothing.
    pub fn off() -> Journal {
        Journal { orders: None, metrics: Arc::default() }
    }

    /// Starts the task that writes. Call it on the control thread's runtime, within its local set.
    pub fn start(config: JournalConfig, io_uring: bool) -> Journal {
        let (orders, inbox) = mpsc::channel(LINES_MAX);
        let metrics = Arc::<JournalMetrics>::default();
        let writer = Writer { config, io_uring, file: None, number: 0, synced: Instant::now(), dirty: false };
        tokio::task::spawn_local(write(writer, inbox, Arc::clone(&metrics)));
        Journal { orders: Some(orders), metrics }
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.orders.is_some()
    }

    /// Records an event with further fields. Never waits: what finds no room is dropped and counted.
    pub fn record(&self, event: &str, mut fields: Value) {
        let Some(orders) = &self.orders else { return };
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("time".into(), json!(rfc3339(SystemTime::now())));
            fields.insert("event".into(), json!(event));
        }
        let line = fields.to_string();
        let size = line.len();
        let fits = self.metrics.waiting.fetch_add(size, Ordering::Relaxed) + size <= WAITING_MAX;
        if !fits || orders.try_send(Order::Line(line)).is_err() {
            self.metrics.waiting.fetch_sub(size, Ordering::Relaxed);
            self.metrics.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything recorded so far is on the disk, or is lost.
    pub async fn finish(&self) {
        let Some(orders) = &self.orders else { return };
        let (done, finished) = oneshot::channel();
        if orders.send(Order::Finish(done)).await.is_ok() {
            let _ = finished.await;
        }
    }
}

async fn write(mut writer: Writer, mut inbox: mpsc::Receiver<Order>, metrics: Arc<JournalMetrics>) {
    let mut retry_at = Instant::now();
    let batch_size = BATCH_SIZE.min(writer.config.size_max as usize / 2);
    loop {
        let order = match tokio::time::timeout(SYNC_INTERVAL, inbox.recv()).await {
            Ok(Some(order)) => Some(order),
            Ok(None) => return,
            Err(_) => None,
        };
        let (batch, lines, finished) = gather(order, &mut inbox, batch_size);
        // Each line has an end of its own in the batch.
        metrics.waiting.fetch_sub(batch.len() - lines as usize, Ordering::Relaxed);
        if lines > 0 && Instant::now() < retry_at && finished.is_none() {
            metrics.dropped.fetch_add(lines, Ordering::Relaxed);
        } else if let Err(error) = writer.append(batch, finished.is_some()).await {
            if writer.file.take().is_some() || metrics.errors.load(Ordering::Relaxed) == 0 {
                tracing::error!(directory = %writer.config.directory.display(), %error, "the audit journal can't be written; lines are dropped until it can");
            }
            metrics.errors.fetch_add(1, Ordering::Relaxed);
            metrics.dropped.fetch_add(lines, Ordering::Relaxed);
            retry_at = Instant::now() + RETRY;
        } else {
            metrics.written.fetch_add(lines, Ordering::Relaxed);
        }
        if let Some(finished) = finished {
            let _ = finished.send(());
        }
    }
}

/// As many waiting lines as make a batch.
fn gather(
    first: Option<Order>,
    inbox: &mut mpsc::Receiver<Order>,
    batch_size: usize,
) -> (Vec<u8>, u64, Option<oneshot::Sender<()>>) {
    let (mut batch, mut lines) = (Vec::new(), 0);
    let mut next = first;
    while let Some(order) = next {
        match order {
            Order::Line(line) => {
                batch.extend_from_slice(line.as_bytes());
                batch.push(b'\n');
                lines += 1;
            }
            Order::Finish(done) => return (batch, lines, Some(done)),
        }
        next = if batch.len() < batch_size { inbox.try_recv().ok() } else { None };
    }
    (batch, lines, None)
}

struct Writer {
    config: JournalConfig,
    io_uring: bool,
    file: Option<JournalFile>,
    /// Number of the newest file.
    number: u64,
    synced: Instant,
    dirty: bool,
}

struct JournalFile {
    handle: Handle,
    /// Bytes of whole batches in it: where the next one goes.
    size: u64,
}

enum Handle {
    Uring(tokio_uring::fs::File),
    Plain(Arc<fs::File>),
}

impl Writer {
    async fn append(&mut self, batch: Vec<u8>, sync: bool) -> io::Result<()> {
        let added = batch.len() as u64;
        if added > 0 {
            let full = self
                .file
                .as_ref()
                .is_some_and(|file| file.size > 0 && file.size + added > self.config.size_max);
            if full {
                self.close().await?;
                self.number += 1;
            }
            let file = match self.file.take() {
                Some(file) => file,
                None => self.open(added)?,
            };
            let file = self.file.insert(file);
            file.handle.write_all_at(batch, file.size).await?;
            file.size += added;
            self.dirty = true;
        }
        if self.dirty && (sync || self.synced.elapsed() >= SYNC_INTERVAL) {
            self.sync().await?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.synced = Instant::now();
        if let Some(file) = &self.file {
            file.handle.sync_data().await?;
        }
        self.dirty = false;
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.sync().await?;
        if let Some(JournalFile { handle: Handle::Uring(file), .. }) = self.file.take() {
            file.close().await?;
        }
        Ok(())
    }

    /// Opens the newest file, or the next one where `added` bytes no longer fit, and removes the oldest ones.
    fn open(&mut self, added: u64) -> io::Result<JournalFile> {
        let directory = &self.config.directory;
        fs::create_dir_all(directory)?;
        let mut numbers = numbers(directory)?;
        self.number = self.number.max(numbers.last().copied().unwrap_or(1));
        let mut path = file_path(directory, self.number);
        let mut size = whole_lines(&path)?;
        if size > 0 && size + added > self.config.size_max {
            self.number += 1;
            path = file_path(directory, self.number);
            size = whole_lines(&path)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        // What is behind the last whole line was torn by a full disk or a crash.
        let torn = file.metadata()?.len().saturating_sub(size);
        if torn > 0 {
            tracing::warn!(
                file = %path.display(),
                bytes = torn,
                "the audit journal ends in a half-written line, as a crash or a full disk leaves it; it is cut off"
            );
            file.set_len(size)?;
        }
        numbers.retain(|number| *number != self.number);
        let surplus = (numbers.len() + 1).saturating_sub(self.config.files_max);
        for number in numbers.into_iter().take(surplus) {
            fs::remove_file(file_path(directory, number))?;
        }
        let handle = if self.io_uring {
            Handle::Uring(tokio_uring::fs::File::from_std(file))
        } else {
            Handle::Plain(Arc::new(file))
        };
        Ok(JournalFile { handle, size })
    }
}

impl Handle {
    async fn write_all_at(&self, batch: Vec<u8>, position: u64) -> io::Result<()> {
        match self {
            Handle::Uring(file) => file.write_all_at(batch, position).await.0,
            Handle::Plain(file) => {
                let file = Arc::clone(file);
                blocking(move || file.write_all_at(&batch, position)).await
            }
        }
    }

    async fn sync_data(&self) -> io::Result<()> {
        match self {
            Handle::Uring(file) => file.sync_data().await,
            Handle::Plain(file) => {
                let file = Arc::clone(file);
                blocking(move || file.sync_data()).await
            }
        }
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn file_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("audit-{number:08}.jsonl"))
}

/// Numbers of the files that are there, rising.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Size of a file up to its last line's end; 0 when there is none. Looks at the last 64 KiB only: no line is longer.
fn whole_lines(path: &Path) -> io::Result<u64> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    let start = size.saturating_sub(BATCH_SIZE as u64);
    let mut tail = vec![0; (size - start) as usize];
    file.read_exact_at(&mut tail, start)?;
    Ok(tail.iter().rposition(|byte| *byte == b'\n').map_or(start, |at| start + at as u64 + 1))
}
