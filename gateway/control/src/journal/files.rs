//! The files of a journal: their names, which of their lines are records, and one writer for each.
//!
//! A file is locked by its writer (flock(2)) for as long as it is open, and written by appending.
//! So no byte is overwritten, whatever other process writes the file; a second writer takes the
//! next number.

use rustix::fs::{FlockOperation, OFlags, fcntl_setfl, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes per write, one line more or less.
pub(super) const BATCH_SIZE: usize = 64 << 10;

/// Most bytes at a file's end that a start reads.
const SCAN_MAX: u64 = 256 << 20;
/// Largest file number that a gateway makes.
pub(super) const NUMBER_MAX: u64 = 1 << 40;

/// A lock on an open file, or none where the file system knows none; released at the end, wherever
/// else the file is still open (a thread may have a table of descriptors of its own).
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    pub(super) inode: u64,
}

impl Held {
    /// Locks `file`; `None`: another process, or another opening of it, has the lock.
    pub(super) fn lock(file: File) -> io::Result<Option<Held>> {
        let inode = file.metadata()?.ino();
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(Held { file, inode })),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Opens a regular file to write, or makes it. Waits for nothing, as the open of a FIFO without a
/// reader would.
///
/// # Errors
/// Those of open(2), and [`io::ErrorKind::InvalidInput`] for anything but a regular file.
pub(super) fn open(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).create(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = match append {
        true => options.append(true),
        false => options.write(true).truncate(false),
    }
    .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    // On some file systems io_uring would answer EAGAIN to writes that have to wait.
    fcntl_setfl(&file, if append { OFlags::APPEND } else { OFlags::empty() })?;
    Ok(file)
}

pub(super) fn name(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(name(number))
}

/// Numbers of the files that are there, rising.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        let number: Option<u64> =
            file.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok());
        // `audit-7.jsonl` is no file of the journal: a number has at least eight digits.
        numbers.extend(number.filter(|number| *number < NUMBER_MAX && file.to_str() == Some(&name(*number))));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes the oldest files, so that `files_max` are left with number `current`; those that another
/// gateway still writes stay.
pub(super) fn remove_oldest(directory: &Path, current: u64, files_max: usize) -> io::Result<()> {
    let mut numbers = numbers(directory)?;
    numbers.retain(|number| *number < current);
    let surplus = (numbers.len() + 1).saturating_sub(files_max);
    for number in numbers.into_iter().take(surplus) {
        let path = path(directory, number);
        let free = match open(&path, true) {
            Ok(file) => Held::lock(file)?.is_some(),
            Err(_) => true,
        };
        match if free { fs::remove_file(path) } else { Ok(()) } {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Its bytes up to the end of the last line.
    pub(super) whole: u64,
    /// Bytes behind that: what a crash or a full disk leaves of a line.
    pub(super) torn: u64,
    /// Lines that are no records, and their bytes: holes, and what was written by something else.
    pub(super) bad_lines: u64,
    pub(super) bad_bytes: u64,
}

/// Looks at the last line only: where a file ends that this process wrote before.
pub(super) fn end(file: &File) -> io::Result<Content> {
    content_from(file, BATCH_SIZE as u64)
}

/// Looks at all lines, of a larger file at those of its last 256 MiB.
pub(super) fn content(file: &File) -> io::Result<Content> {
    content_from(file, SCAN_MAX)
}

fn content_from(file: &File, most: u64) -> io::Result<Content> {
    let size = file.metadata()?.len();
    let start = size.saturating_sub(most);
    let mut lines = Lines { content: Content { whole: start, ..Content::default() }, ..Lines::default() };
    lines.skips = start > 0;
    let (mut chunk, mut at) = (vec![0; BATCH_SIZE], start);
    while at < size {
        let wanted = chunk.len().min((size - at) as usize);
        let read = file.read_at(&mut chunk[..wanted], at)?;
        if read == 0 {
            break; // cut meanwhile
        }
        at += read as u64;
        lines.take(&chunk[..read]);
    }
    Ok(lines.end())
}

/// A record is one line with an object; JSON has no control characters (RFC 8259 §7), so a hole is
/// none.
#[derive(Default)]
struct Lines {
    content: Content,
    /// Bytes of the line so far, its last one, and whether it may still be a record.
    size: u64,
    last: u8,
    is_bad: bool,
    /// The first line began before what is looked at.
    skips: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            self.is_bad |= self.size == 0 && text.first().is_some_and(|first| *first != b'{');
            self.is_bad |= text.iter().any(|byte| *byte < b' ');
            self.last = text.last().copied().unwrap_or(self.last);
            self.size += part.len() as u64;
            if is_whole {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        self.content.whole += self.size;
        if (self.is_bad || self.last != b'}') && !self.skips {
            self.content.bad_lines += 1;
            self.content.bad_bytes += self.size;
        }
        (self.size, self.last, self.is_bad, self.skips) = (0, 0, false, false);
    }

    fn end(mut self) -> Content {
        self.content.torn = self.size;
        // What a crash leaves of a line is its beginning; all else was not left by one.
        if self.size > 0 && (self.is_bad || self.skips || self.size > BATCH_SIZE as u64) {
            self.content.bad_lines += 1;
            self.content.bad_bytes += self.size;
        }
        self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Content {
        let mut lines = Lines::default();
        // In pieces, as chunks cut them.
        bytes.chunks(3).for_each(|part| lines.take(part));
        lines.end()
    }

    #[test]
    fn records_are_told_from_what_is_none() {
        let content = |whole, torn, bad_lines, bad_bytes| Content { whole, torn, bad_lines, bad_bytes };
        assert_eq!(of(b""), content(0, 0, 0, 0));
        assert_eq!(of(b"{\"a\":1}\n{\"b\":2}\n"), content(16, 0, 0, 0));
        assert_eq!(of(b"{\"a\":1}\n{\"to"), content(8, 4, 0, 0), "a crash leaves the beginning of a line");
        assert_eq!(of(b"{\"a\":1}\n\0\0\0{\"b\":2}\n"), content(19, 0, 1, 11), "a hole");
        assert_eq!(of(b"{\"a\":1}\n\0\0\0"), content(8, 3, 1, 3), "a hole at the end");
        assert_eq!(of(b"{\"a\":1}\nnote\n\n{\"a\n"), content(18, 0, 3, 10), "others' lines");
    }

    #[test]
    fn only_names_that_a_gateway_gives_are_its_files() {
        let folder = std::env::temp_dir().join(format!("gateway-journal-names-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in [
            "audit-00000003.jsonl",
            "audit-7.jsonl",
            "audit-18446744073709551615.jsonl",
            "audit-x.jsonl",
            "audit.lock",
        ] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = numbers(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [3]);
    }
}
