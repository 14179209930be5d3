//! Reading the files that an operator names.
//!
//! They are small, and the name may lead to something that never ends: `/dev/zero`, a FIFO without a writer, a log. So a read has a
//! bound, and one while the gateway runs takes regular files only.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a file at most: far more than a configuration, a key set or a token has.
pub(crate) const FILE_SIZE_MAX: u64 = 4 << 20;

/// Reads a file of any kind, a pipe too, which may have to be waited for.
///
/// # Errors
/// Those of open(2) and read(2), and [`io::ErrorKind::FileTooLarge`] beyond [`FILE_SIZE_MAX`].
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_bounded(File::open(path)?)
}

/// Reads a regular file; the open does not wait for a FIFO's writer (open(2), `O_NONBLOCK`).
///
/// # Errors
/// As [`read`], and [`io::ErrorKind::InvalidInput`] for anything but a regular file.
pub(crate) fn read_regular(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
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

fn read_bounded(file: File) -> io::Result<Vec<u8>> {
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
