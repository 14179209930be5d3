//! Stands in for the rows past the kernel in a build without the feature `dpdk`: the same names,
//! and an error.

use crate::client::{Fleet, Problem};
use crate::floor::Work;
use netpoll::epoll::EpollBackend;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

/// Whether this build has them.
pub const IS_HERE: bool = false;
/// A placeholder for the server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

const WITHOUT: &str = "this was built without DPDK: --features bench/dpdk";

/// A placeholder for the link.
#[derive(Debug, Default)]
pub struct Link;

impl Link {
    /// A link that cannot be opened.
    pub fn new() -> Link {
        Link
    }

    /// No socket.
    pub fn socket(&self) -> &Path {
        Path::new("")
    }
}

/// # Errors
/// Always.
pub fn over_engine(_: &Link, _: usize) -> Result<Fleet<EpollBackend>, Problem> {
    Err(Problem(WITHOUT.into()))
}

/// # Errors
/// Always.
pub fn over_frames(_: &Link, _: usize) -> Result<Fleet<EpollBackend>, Problem> {
    Err(Problem(WITHOUT.into()))
}

/// # Errors
/// Always.
pub fn serve_gateway(_: &Path) -> io::Result<()> {
    Err(io::Error::other(WITHOUT))
}

/// # Errors
/// Always.
pub fn serve_floor(_: &Path, _: Work) -> io::Result<()> {
    Err(io::Error::other(WITHOUT))
}
