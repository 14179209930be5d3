//! The record of a room at its home.

use crate::address::Fingerprint;

/// A room with its home here.
#[derive(Debug)]
pub struct HomeRoom {
    pub(super) name: Fingerprint,
    /// Members at all hosts.
    pub(super) total: u32,
    /// In the list of totals that hosts do not have yet.
    pub(super) is_listed: bool,
}

const _: () = assert!(size_of::<HomeRoom>() == 24);
