//! The audit journal: one JSON object a line, in files of bounded size and number.
//!
//! ```text
//!   workers ── ControlMessage::Audit ──┐
//!                                      ├─► Journal::record ── bounded channel ──► one task ── file
//!   HTTP handlers (kicks, pushes) ─────┘      full: dropped and counted
//! ```
//!
//! Files are `audit-00000001.jsonl` and on. Lines are written in batches as they come. `fdatasync`
//! runs when a file is full, at the end, and otherwise once a second while there is something new:
//! a power cut loses the last second, a crash of the process nothing that was written. When the
//! disk is full or broken, lines are dropped and counted, the gateway serves on, and the file is
//! tried again after a second from the end of its last whole batch.
//!
//! One gateway has the folder, and each file has one writer (`claim`, `files`). Once a second the
//! journal checks that the file is still in its place, and has the size that was written. A file
//! that was removed, cut or written by another process is left as it is.

mod claim;
mod files;

pub use claim::{Claim, ClaimError};

use super::clock::rfc3339;
use claim::{Damage, Lock};
use files::{BATCH_SIZE, Held};
use gateway_config::JournalConfig;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// Bytes that may wait to be written; most lines have some 200.
const WAITING_MAX: usize = 4 << 20;
/// Most memory of a journal, in bytes.
pub(crate) const RESERVED: usize = WAITING_MAX + LINES_MAX * std::mem::size_of::<Order>() + BATCH_SIZE;
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
    /// Times that a file was found removed, cut or written by another process.
    pub damages: AtomicU64,
    /// Bytes that wait to be written.
    waiting: AtomicUsize,
}

/// The writing end. Cheap to clone; does nothing when the journal is off.
#[derive(Clone)]
pub struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    lock: Option<Arc<Lock>>,
    /// What it counts.
    pub metrics: Arc<JournalMetrics>,
}

impl Journal {
    /// A journal that writes nothing.
    pub fn off() -> Journal {
        Journal { orders: None, lock: None, metrics: Arc::default() }
    }

    /// Starts the task that writes. Call it on the control thread's runtime, within its local set.
    pub fn start(claim: Claim, io_uring: bool) -> Journal {
        let Claim { config, lock, number, damages } = claim;
        let (orders, inbox) = mpsc::channel(LINES_MAX);
        let metrics = Arc::<JournalMetrics>::default();
        let lock = Arc::new(lock);
        let now = Instant::now();
        let writer = Writer {
            config,
            lock: Arc::clone(&lock),
            io_uring,
            file: None,
            number,
            synced: now,
            checked: now,
            dirty: false,
            damages,
        };
        tokio::task::spawn_local(write(writer, inbox, Arc::clone(&metrics)));
        Journal { orders: Some(orders), lock: Some(lock), metrics }
    }

    /// Releases the folder to a successor. Later records go into this gateway's own file.
    pub fn hand_over(&self) {
        if let Some(lock) = &self.lock {
            lock.release();
        }
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.orders.is_some()
    }

    /// Records an event with further fields. Never waits: an event that does not fit is dropped and
    /// counted.
    pub fn record(&self, event: &str, fields: Value) {
        let Some(orders) = &self.orders else { return };
        let line = line(event, fields);
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

/// One record.
fn line(event: &str, mut fields: Value) -> String {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("time".into(), json!(rfc3339(SystemTime::now())));
        fields.insert("event".into(), json!(event));
    }
    fields.to_string()
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
        let (mut batch, mut lines, finished) = gather(order, &mut inbox, batch_size);
        // Each line has an end of its own in the batch.
        metrics.waiting.fetch_sub(batch.len() - lines as usize, Ordering::Relaxed);
        writer.check().await;
        lines += writer.confess(&mut batch, &metrics);
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
    lock: Arc<Lock>,
    io_uring: bool,
    file: Option<JournalFile>,
    /// Number of the newest file.
    number: u64,
    synced: Instant,
    checked: Instant,
    dirty: bool,
    /// Damage to log, count and record.
    damages: Vec<Damage>,
}

struct JournalFile {
    handle: Handle,
    held: Held,
    /// Bytes of whole batches in it.
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
            self.lock.note(self.number, file.size);
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

    /// Opens the newest file, or the first after it that has room for `added` bytes, no other
    /// writer and nothing in it that is no record, and removes the oldest ones.
    fn open(&mut self, added: u64) -> io::Result<JournalFile> {
        let directory = &self.config.directory;
        fs::create_dir_all(directory)?;
        self.number = self.number.max(files::numbers(directory)?.last().copied().unwrap_or(1));
        let (file, held, size) = loop {
            match self.try_open(added)? {
                Some(opened) => break opened,
                None => self.number += 1,
            }
        };
        files::remove_oldest(&self.config.directory, self.number, self.config.files_max)?;
        let handle = if self.io_uring {
            Handle::Uring(tokio_uring::fs::File::from_std(file))
        } else {
            Handle::Plain(Arc::new(file))
        };
        Ok(JournalFile { handle, held, size })
    }

    /// The file of the present number, its lock, and how much is in it; `None`: the next one has to
    /// do.
    fn try_open(&mut self, added: u64) -> io::Result<Option<(fs::File, Held, u64)>> {
        let path = files::path(&self.config.directory, self.number);
        let file = files::open(&path, true)?;
        let Some(held) = Held::lock(file.try_clone()?)? else { return Ok(None) };
        let content = files::end(&file)?;
        let size = content.whole;
        if content.bad_lines > 0 || (size > 0 && size + added > self.config.size_max) {
            return Ok(None);
        }
        // What is behind the last whole line was torn by a full disk or a crash.
        if content.torn > 0 {
            tracing::warn!(
                file = %path.display(),
                bytes = content.torn,
                "the audit journal ends in a half-written line, as a crash or a full disk leaves it; it is cut off"
            );
            file.set_len(size)?;
        }
        Ok(Some((file, held, size)))
    }

    /// Once a second, and behind what was written meanwhile: are the file and the lock still what
    /// they were?
    async fn check(&mut self) {
        if self.checked.elapsed() < SYNC_INTERVAL {
            return;
        }
        self.checked = Instant::now();
        self.check_lock().await;
        let Some(file) = &self.file else { return };
        let path = files::path(&self.config.directory, self.number);
        let (what, bytes) = match look_up(&path, self.io_uring).await {
            Ok((inode, size)) if inode == file.held.inode && size == file.size => return,
            Ok((inode, size)) if inode == file.held.inode && size < file.size => {
                ("it was cut short", file.size - size)
            }
            Ok((inode, size)) if inode == file.held.inode => {
                ("something else writes to it", size - file.size)
            }
            Ok(_) => ("the file was replaced", file.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                ("the file was removed or renamed", file.size)
            }
            Err(_) => return, // a broken disk is noticed when it is written to
        };
        self.damages.push(Damage::new(self.number, what, 0, bytes));
        let _ = self.close().await;
        self.file = None;
        self.number += 1;
    }

    async fn check_lock(&mut self) {
        let Some(inode) = self.lock.inode() else { return };
        let directory = &self.config.directory;
        match look_up(&claim::lock_path(directory), self.io_uring).await {
            Ok((now, _)) if now == inode => return,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            _ => {}
        }
        let directory = directory.display();
        match self.lock.renew(&self.config.directory) {
            Ok(true) => {
                tracing::warn!(%directory, "the audit journal's audit.lock was removed; it is made again")
            }
            Ok(false) => {
                tracing::error!(%directory, "the audit journal's audit.lock was removed, and another gateway writes this folder now; this one goes on in files of its own: give each gateway a folder of its own and restart it")
            }
            Err(error) => {
                tracing::error!(%directory, %error, "the audit journal's audit.lock was removed and can't be made again; a second gateway in this folder would not be refused")
            }
        }
    }

    /// Logs and counts the damage that was found, and puts its records before the other lines.
    /// Returns the count of those records.
    fn confess(&mut self, batch: &mut Vec<u8>, metrics: &JournalMetrics) -> u64 {
        let lines = self.damages.len() as u64;
        let mut first = Vec::new();
        for damage in self.damages.drain(..) {
            damage.report(&self.config.directory);
            metrics.damages.fetch_add(1, Ordering::Relaxed);
            first.extend_from_slice(line("journal_damaged", damage.fields()).as_bytes());
            first.push(b'\n');
        }
        batch.splice(0..0, first);
        lines
    }
}

/// What a name leads to: the file's inode and size.
async fn look_up(path: &Path, io_uring: bool) -> io::Result<(u64, u64)> {
    if io_uring {
        let found = tokio_uring::fs::statx(path).await?;
        return Ok((found.stx_ino, found.stx_size));
    }
    let path = path.to_owned();
    blocking(move || fs::metadata(path).map(|found| (found.ino(), found.len()))).await
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
