//! What happens to what comes in: one exhaustive match on operations, one file for each kind of
//! request.
//!
//! `Handler` is all that a frame, a message, or a timer may touch. What belongs to the turn itself
//! (the mailbox, the batch of completions, the drain, the shutdown) is the worker's and out of reach
//! here.
//!
//! * [`inbound`](self): bytes to frames, over TCP and WebSocket.
//! * `websocket`: WebSocket frames to messages; `upgrade`: how a connection comes to speak it.
//! * `connection`: accepted and closed connections.
//! * `login`, `message`, `room`, `subscribe`: requests of clients.
//! * `inbox`: messages of other workers and the control thread.
//! * `homes`: what this worker does as the home of names and rooms.
//! * `deliver`: pushes on their way to sessions.
//! * `close`: one way to end a connection, and the last that it is sent.
//! * `timers`: timeouts of the login, of idleness, of tokens.
//! * `names`: the names that a session is known by.
//! * `linger`: how long a connection is kept after its last word, so that it arrives.
//! * `pressure`: frames that have not come whole, when buffers run short.
//! * `rate`: how fast a connection may ask.
//! * `share`, `backlog`: what one connection may have of a turn, and what waits for the next one.
//! * `backpressure`: whose socket is left unread while messages wait for other workers, and which
//!   requests are refused.
//! * `relief`: which receivers go when pieces, blocks or memory run short.
//! * `scarcity`: which connections go when the machine's or the container's memory runs short.
//! * `crowd`: which connections come in while many do.
//! * `inspect`: lists for the control thread.
//! * `echo`: the WebSocket echo for development and conformance tests.

mod backlog;
mod backpressure;
mod close;
mod connection;
mod crowd;
mod deliver;
mod echo;
mod homes;
mod inbound;
mod inbox;
mod inspect;
mod linger;
mod login;
mod message;
mod names;
mod pressure;
mod rate;
mod relief;
mod reply;
mod reserve;
mod room;
mod scarcity;
mod share;
mod subscribe;
mod timers;
mod turn_state;
mod upgrade;
mod websocket;

pub(crate) use backlog::Backlog;
pub use backpressure::Held;
pub use echo::EchoConnections;
pub use echo::MESSAGES_MAX as ECHO_MESSAGES_MAX;
pub use linger::Lingering;
pub(crate) use turn_state::{Stage, TurnState};
pub use upgrade::PROTOCOL_SIZE_MAX;
pub use websocket::message_size_bound;

use crate::address::Address;

use crate::context::{Context, Policy};
use crate::io::Io;
use crate::message::PendingLogins;
use crate::outbox::Outbox;
use crate::shard::Shard;
use deliver::Delivery;
use netpoll::{Backend, ConnectionId};
use relief::Relief;
use scarcity::MemoryPressure;
use std::sync::Arc;

/// What a frame, a message, or a timer may touch.
pub(crate) struct Handler<B: Backend> {
    pub(crate) context: Context,
    pub(crate) policy: Policy,
    /// The only exit for bytes to clients.
    pub(crate) io: Io<B>,
    /// The only exit for messages to other threads.
    pub(crate) outbox: Outbox,
    pub(crate) shard: Shard,
    pub(crate) turn: TurnState,
    relief: Relief,
    memory: MemoryPressure,
    /// Connections left unread while what they post has to wait.
    pub(crate) held: Held,
    delivery: Delivery,
    pub(crate) echo: EchoConnections,
    /// Tokens that the verifier has, and whose verdicts come to this worker's mailbox.
    pub(crate) verdicts: Arc<PendingLogins>,
}

impl<B: Backend> Handler<B> {
    /// Reserves everything that handling needs besides the tables.
    pub(crate) fn new(context: Context, mut io: Io<B>, outbox: Outbox, shard: Shard) -> Handler<B> {
        let now = io.now();
        let backlog = Backlog::new(io.pools().receive_level().count);
        Handler {
            policy: Policy::new(Arc::new(context.settings.reloadable.clone())),
            turn: TurnState::new(now, backlog),
            relief: Relief::new(now),
            memory: MemoryPressure::default(),
            held: Held::with_capacity(context.settings.tables.mailbox_capacity),
            delivery: Delivery::with_capacity(context.settings.fanout_slice.max(64)),
            echo: EchoConnections::default(),
            verdicts: PendingLogins::new(Arc::clone(&context.settings.shared.verifying)),
            context,
            io,
            outbox,
            shard,
        }
    }

    /// The worker's name for a connection of its own.
    pub(crate) fn address(&self, connection: ConnectionId) -> Address {
        Address::new(self.context.id, connection)
    }

    /// A turn begins, after a poll that brought `count` completions; returns whether timers may
    /// fire in it.
    pub(crate) fn begin_turn(&mut self, count: usize) -> bool {
        let timers_fire = self.take_time(count);
        self.turn.backlog.begin_turn();
        self.relief.begin_turn();
        self.memory.state = self.context.settings.shared.memory.state();
        timers_fire
    }

    /// Messages to this worker itself, as soon as they are there: the homes' answers to a login are
    /// worth no second turn.
    pub(crate) fn handle_local(&mut self) {
        while let Some(message) = self.outbox.next_local() {
            self.message(message);
        }
    }

    /// Closes what has to go for others, when pieces, blocks, memory or places run short.
    pub(crate) fn relieve(&mut self) {
        self.relieve_pressure();
        self.serve_block_requests();
        self.relieve_memory();
        self.give_up_places();
    }
}
