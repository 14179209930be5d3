//! What happens to what comes in: one exhaustive match on operations, one file for each kind of
//! request.
//!
//! `Handler` is all that a frame, a message, or a timer may touch. What belongs to the turn itself
//! (the mailbox, the batch of completions, the drain, the shutdown) is the worker's and out of
//! reach here.
//!
//! * `state`: what handling keeps, `Handler` itself first.
//! * `inbound`: bytes to frames, and frames to the requests below; `framing` is the seam between
//!   them.
//! * `websocket`: WebSocket frames to messages; `upgrade`: how a connection comes to speak it.
//! * `connection`: accepted and closed connections; `admission`: which of them stay.
//! * `login`, `message`, `room`, `subscribe`: requests of clients.
//! * `inbox`: messages of other workers and the control thread.
//! * `homes`: what this worker does as the home of names and rooms.
//! * `deliver`: pushes on their way to sessions.
//! * `reply`: answers, refusals, heartbeats, and an application's own operations.
//! * `answers`: sockets that are left unread while their own answers wait.
//! * `close`: one way to end a connection; `goodbye`: the last that it is sent.
//! * `half_close`: clients that have ended their side and still read.
//! * `timers`: timeouts of the login, of idleness, of tokens.
//! * `names`: the names that a session is known by.
//! * `linger`: how long a connection is kept after its last word, so that it arrives.
//! * `unsent`: what a receiver that is too slow is not sent any more.
//! * `buffer_pressure`: frames that have not come whole, when buffers run short.
//! * `rate`: how fast a connection may ask.
//! * `share`: what one connection may have of a turn, and what waits for the next one.
//! * `backpressure`: whose socket is left unread while messages wait for other workers, and which
//!   requests are refused.
//! * `relief`: which receivers go when pieces, blocks or memory run short.
//! * `memory_pressure`: which connections go when the machine's or the container's memory runs
//!   short.
//! * `crowd`: which connections come in while many do.
//! * `inspect`: lists for the control thread.
//! * `echo`: the WebSocket echo for development and conformance tests.

mod admission;
mod answers;
mod backpressure;
mod buffer_pressure;
mod close;
mod connection;
mod crowd;
mod deliver;
mod echo;
mod framing;
mod goodbye;
mod half_close;
mod homes;
mod http_answers;
mod inbound;
mod inbox;
mod inspect;
mod linger;
mod login;
mod memory_pressure;
mod message;
mod names;
mod rate;
mod relief;
mod reply;
mod room;
mod share;
mod state;
mod subscribe;
mod timers;
mod unsent;
mod upgrade;
mod websocket;

pub use framing::message_size_bound;
pub(crate) use state::Handler;
pub(crate) use state::backlog::Backlog;
pub use state::echo::{EchoConnections, MESSAGES_MAX as ECHO_MESSAGES_MAX};
pub use state::held::Held;
pub use state::lingering::Lingering;
pub(crate) use state::turn::Stage;
pub use upgrade::PROTOCOL_SIZE_MAX;
