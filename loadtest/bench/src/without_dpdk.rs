//! In place of the rows past the kernel, in a build without the feature `dpdk`: the same names, and an error.

use crate::client::{Fleet, Problem};
use crate::floor::Work;
use netpoll::epoll::EpollBackend;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

/// Whether this build has them.
pub const IS_HERE: bool = false;
/// Where a server would be.
pub const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

const WITHOUT: &str = "this was built without DPDK: --features bench/dpdk";

/// The link that would be.
#[derive(Debug, Default)]
pub struct Link;

impl Link {
    /// Nothing yet.
    pub fn new() -> Link {
        Link
    }

    /// Nowhere.
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
