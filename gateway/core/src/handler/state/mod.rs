//! What handling keeps: [`Handler`] and its parts. Each part's file has data and what concerns it
//! alone; what is done with it is in the files beside this folder.

pub(crate) mod backlog;
pub(crate) mod echo;
pub(crate) mod held;
pub(crate) mod lingering;
pub(crate) mod memory_pressure;
pub(crate) mod relief;
pub(crate) mod reserve;
pub(crate) mod turn;

use crate::address::Address;

use crate::context::{Context, Policy};
use crate::io::Io;
use crate::message::PendingLogins;
use crate::outbox::Outbox;
use crate::shard::Shard;
use backlog::Backlog;
use echo::EchoConnections;
use held::Held;
use memory_pressure::MemoryPressure;
use netpoll::{Backend, ConnectionId, Introspect};
use relief::Relief;
use reserve::Delivery;
use std::sync::Arc;
use turn::TurnState;

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
    pub(in crate::handler) relief: Relief,
    pub(in crate::handler) memory: MemoryPressure,
    /// Connections left unread while what they post has to wait.
    pub(crate) held: Held,
    pub(in crate::handler) delivery: Delivery,
    pub(crate) echo: EchoConnections,
    /// Tokens that the verifier has; their verdicts come to this worker's mailbox.
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
            held: Held::with_capacity(context.settings.tables.mailbox_capacity, io.queues().index_bound()),
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
