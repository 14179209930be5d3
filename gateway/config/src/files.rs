//! Reading the files that an operator names.
//!
//! They are small, and the name may lead to something that never ends: `/dev/zero`, a FIFO without
//! a writer, a log. So a read has bounds of size and time, and one while the gateway runs takes
//! regular files only.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a file at most: far more than a configuration, a key set or a token has.
pub const FILE_SIZE_MAX: u64 = 4 << 20;

/// How long a pipe's writer may take.
const PIPE_MAX: Duration = Duration::from_secs(30);

/// Reads a file of any kind. A pipe, such as that of `--config <(command)`, may take 30 s to end.
///
/// # Errors
/// Those of open(2) and read(2), [`io::ErrorKind::FileTooLarge`] beyond [`FILE_SIZE_MAX`], and
/// [`io::ErrorKind::TimedOut`].
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_within(path, PIPE_MAX)
}

fn read_within(path: impl AsRef<Path>, time: Duration) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    read_bounded(Patient { file, until: Instant::now() + time })
}

/// A file with the time until which its next bytes, or its end, are waited for.
struct Patient {
    file: File,
    until: Instant,
}

impl Read for Patient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    let why = "it is a pipe, and nothing more came through it in time: is there a process that writes to it?";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
                _ => {}
            }
            match self.file.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// As [`read`], of text.
///
/// # Errors
/// As [`read`], and [`io::ErrorKind::InvalidData`] for what is no UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Reads a regular file; the open does not wait for a FIFO's writer (open(2), `O_NONBLOCK`).
///
/// # Errors
/// As [`read`], and [`io::ErrorKind::InvalidInput`] for anything but a regular file.
pub fn read_regular(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let kind = file.metadata()?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    read_bounded(file)
}

fn read_bounded(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        let why = format!("it is larger than {} MiB", FILE_SIZE_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_waited_for_but_not_for_ever() {
        let fifo = std::env::temp_dir().join(format!("gateway-files-pipe-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let alone = read_within(&fifo, Duration::from_millis(20)).unwrap_err().kind();
        let to = fifo.clone();
        let writer = std::thread::spawn(move || std::fs::write(to, "late").unwrap());
        let written = read(&fifo).unwrap();
        writer.join().unwrap();
        let to = fifo.clone();
        let held =
            std::thread::spawn(move || OpenOptions::new().read(true).write(true).open(to).unwrap()).join();
        let silent = read_within(&fifo, Duration::from_millis(20)).unwrap_err().kind();
        std::fs::remove_file(&fifo).unwrap();
        assert_eq!((alone, silent), (io::ErrorKind::TimedOut, io::ErrorKind::TimedOut));
        assert_eq!(written, b"late");
        drop(held);
    }

    #[test]
    fn what_never_ends_is_refused() {
        for read in [|name: &str| read(name), |name: &str| read_regular(name)] {
            assert!(read("/dev/zero").is_err());
            assert_eq!(read("/proc/self/comm").unwrap().last(), Some(&b'\n'));
            assert!(read("/").is_err());
            assert_eq!(read("/nowhere").unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        assert_eq!(read("/dev/zero").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_regular("/dev/null").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read("/dev/null").unwrap(), b"");
        let fifo = std::env::temp_dir().join(format!("gateway-files-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let refused = read_regular(&fifo).unwrap_err().kind();
        std::fs::remove_file(&fifo).unwrap();
        assert_eq!(refused, io::ErrorKind::InvalidInput, "and at once, without its writer");
    }
}
