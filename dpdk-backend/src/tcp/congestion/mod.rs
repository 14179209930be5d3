//! The sending rate, and lost segments: functions over a connection's blocks, without frames and
//! timers.
//!
//! `rtt` (round trips, the timeout), `cubic` (the window), `hystart` (the end of slow start),
//! `recovery` (losses), `state` (what they keep in a connection's active block).

pub(in crate::tcp) mod cubic;
pub(in crate::tcp) mod hystart;
pub(in crate::tcp) mod recovery;
pub(in crate::tcp) mod rtt;
pub(in crate::tcp) mod state;
