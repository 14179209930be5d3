//! Memory left to the process, and the measures that it requires.
//!
//! ```text
//!   cgroup v2 or v1, or the configured maximum ─► Source ─► Reading ─┐
//!   /proc/pressure/memory, the cgroup's memory.pressure ─► stall ────┴─► Gauge ─► Level
//!   Level ─► Signal ─► every worker
//! ```
//!
//! The process's own tables and pools are reserved at the start and cannot outgrow it. What grows
//! with clients is the kernel's part: about 4 KB a connection, and the socket buffers of those that
//! read slowly. A container counts it to the process, and kills the process for it. So the gauge is
//! read several times a second, and long before the end new connections are refused, then droppable
//! messages are shed, then the slowest consumers are closed: the order of DESIGN, "Time, limits,
//! overload".

mod gauge;
mod signal;

pub use gauge::{Gauge, Level, Reading, Thresholds};
pub use signal::{MemoryState, ROOM_MAX, Signal};

/// Kernel memory of an idle connection, in bytes: socket, its file and inode, its direct descriptor
/// and its armed receive (measured on Linux 6.18: 3.7 to 4.6 KB). What a limit is compared with
/// where the kernel does not account.
pub const KERNEL_BYTES_PER_CONNECTION: u64 = 4096;

/// What a connection may take until the next reading shows it, in bytes:
/// [`KERNEL_BYTES_PER_CONNECTION`], its session and what of the tables it touches first, and its
/// login on the way through two socket buffers.
pub const BYTES_PER_NEW_CONNECTION: u64 = 8192;
