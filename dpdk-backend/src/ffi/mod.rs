//! DPDK behind a safe interface: all calls into DPDK are here.
//!
//! ```text
//!   Eal ── once a process ──► PortConfig ── open ──► Queue, Queue, … (one a worker: a Device)
//!                                                     │  rx pool: the stack's receive buffers
//!                                                     └─ tx pool: headers and payload of a frame
//! ```
//!
//! * A frame stays where the card put it: the data room of a packet buffer is a block of the
//!   worker's receive pool ([`netpoll::LentMemory`]). The last reference returns it, from any
//!   thread, and the worker gives it to the card again.
//! * A frame to send is copied into a packet buffer of its own. Bytes in flight stay with the
//!   stack, which writes headers again for a retransmission, so nothing has to be kept here until
//!   it is acknowledged.
//! * Drivers load themselves: DPDK opens every shared object in its plug-in folder.
#![allow(unsafe_code)]

mod eal;
mod open;
mod pool;
mod port;
mod queue;
mod signals;

pub use eal::{Eal, EalError, WorkerThread};
pub use open::{Offloads, PortConfig};
pub use port::{LinkWatch, PortError, PortFacts};
pub use queue::Queue;
