//! How fast to send, and what was lost: functions over a connection's blocks, without frames and
//! timers.
//!
//! `rtt` (round trips, the timeout), `cubic` (the window), `hystart` (the end of slow start),
//! `recovery` (losses).

pub(in crate::tcp) mod cubic;
pub(in crate::tcp) mod hystart;
pub(in crate::tcp) mod recovery;
pub(in crate::tcp) mod rtt;
pub(in crate::tcp) mod state;
