//! The ends of the list of connections that have not begun to log in.

pub(super) const NONE: u32 = u32::MAX;
const OUTSIDE: u32 = u32::MAX - 1;

/// The pair of a session that is in no list.
pub(super) const UNLISTED: [u32; 2] = [OUTSIDE; 2];

/// The ends of the list, by slot.
#[derive(Debug)]
pub(super) struct Unauthenticated {
    pub(super) oldest: u32,
    pub(super) newest: u32,
    pub(super) count: usize,
}

impl Default for Unauthenticated {
    fn default() -> Unauthenticated {
        Unauthenticated { oldest: NONE, newest: NONE, count: 0 }
    }
}
