//! What happens to what comes in: one exhaustive match on operations, one file for each kind of request.
//!
//! * [`inbound`](self): bytes to frames, over TCP and WebSocket.
//! * `login`, `message`, `room`, `subscribe`: requests of clients.
//! * `inbox`: messages of other workers and the control thread.
//! * `deliver`: pushes on their way to sessions.
//! * `end`: farewells, timeouts, drains.
//! * `linger`: how long a connection is kept after its farewell, so that it arrives.
//! * `pressure`: frames that have not come whole, when buffers run short.
//! * `rate`: how fast a connection may ask.
//! * `backpressure`: whose socket is left unread while messages wait for other workers, and who is refused.
//! * `relief`: which receivers go when pieces, blocks or memory run short.
//! * `scarcity`: who goes when the machine's or the container's memory does.
//! * `crowd`: who comes in while many do.
//! * `echo`: the WebSocket echo for development and conformance tests.

mod backpressure;
mod crowd;
mod deliver;
mod echo;
mod end;
mod inbound;
mod inbox;
mod linger;
mod login;
mod message;
mod pressure;
mod rate;
mod relief;
mod reply;
mod reserve;
mod room;
mod scarcity;
mod subscribe;
mod websocket;

pub use backpressure::Held;
pub use echo::EchoConnections;
pub(crate) use echo::MESSAGES_MAX as ECHO_MESSAGES_MAX;
pub use linger::Lingering;
pub(crate) use reserve::Reserve;
pub(crate) use scarcity::{Admissions, Refusals};
pub(crate) use websocket::{PROTOCOL_SIZE_MAX, message_size_bound};
