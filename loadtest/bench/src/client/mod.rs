//! The generator: many connections, one thread, closed loops.
//!
//! ```text
//!   Fleet: connect ─► steps (upgrade, log in) ─► ready
//!   echo:     each connection writes D messages at once and waits for all D echoes, then again
//!   fan-out:  one connection writes a message, all others wait for it; then the next message
//! ```
//!
//! Requests are prepared once and shared by all connections; every byte that comes back is compared
//! with what must come. In the first round of a measurement each connection's messages carry its
//! own number, so that an answer to the wrong connection shows.

mod broadcast;
mod echo;
mod fanout;
mod fleet;
mod line;
mod window;
mod wire;

pub use broadcast::{Crowd, Round};
pub use echo::echo;
pub use fanout::fan_out;
#[cfg(feature = "dpdk")]
pub(crate) use fleet::BATCH;
pub use fleet::{Fleet, Problem};
pub use line::Line;
pub use window::{Measured, NO_SAMPLES, Probe, Window};
pub use wire::Protocol;
