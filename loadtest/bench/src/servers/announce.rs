//! How a server says where it listens.

use std::io::{self, Write};

/// Writes the ports, as the first line on standard output.
pub(crate) fn announce(ports: &[u16]) {
    let words: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut out = io::stdout().lock();
    // Without a reader no client will connect either.
    let _ = writeln!(out, "{}", words.join(" "));
    let _ = out.flush();
}
