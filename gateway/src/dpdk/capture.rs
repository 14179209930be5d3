//! `gateway dpdk-capture`: the last frames of a gateway that runs, in a file that tcpdump and
//! Wireshark read.

use crate::ask::{Question, ask};
use gateway_config::Secret;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

/// Where the control port has the file.
const PATH: &str = "/api/v1/capture";

/// Writes the frames that the gateway with its control port at `address` has to `file`; `-`: to the
/// standard output. Returns how many bytes.
///
/// # Errors
/// What the system says, or why the gateway gives none. An earlier file stays as it was then.
pub fn write(address: SocketAddr, key: Option<&Secret>, file: &Path) -> io::Result<u64> {
    if file.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        let size = ask(address, Question::get(PATH, key), &mut out)?;
        return out.flush().map(|()| size);
    }
    // Beside it first, so that a refusal or a broken answer leaves an earlier capture as it was.
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let mut out = File::create(&part).map_err(named(Path::new(&part)))?;
    let written = ask(address, Question::get(PATH, key), &mut out)
        .and_then(|size| std::fs::rename(&part, file).map_err(named(file)).map(|()| size));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn named(file: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}
