//! DPDK, with safe names: everything that calls into it is here.
//!
//! ```text
//!   Eal ── once a process ──► PortConfig ── open ──► Queue, Queue, … (one a worker: a Device)
//!                                                     │  rx pool: its packet buffers are the stack's receive buffers
//!                                                     └─ tx pool: headers and payload, gathered a frame
//! ```
//!
//! * A frame is received where the card put it: the data room of a packet buffer is a block of the
//!   worker's receive pool ([`netpoll::LentMemory`]). The last hold on it lends it back, from any
//!   thread; the worker returns it to the card.
//! * A frame that leaves is gathered into a packet buffer of its own. What is in flight stays with
//!   the stack, which makes headers anew for a retransmission; so nothing has to be kept here until
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
