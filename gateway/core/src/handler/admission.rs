//! Admission of new connections: one decision when a connection is accepted, the same for every
//! listener.
//!
//! ```text
//!   accepted ─► a place for its address, memory for one more? ─ yes ─► its login, or its request
//!                 └─ no ─► TCP: Closed with 3001 ─► lingers
//!                          HTTP: the first bytes are answered with 503 or 429 ─► lingers
//! ```
//!
//! A connection that is admitted stays so, and one that is not is never asked about again. An HTTP
//! client takes no answer to a request that it has not sent (RFC 9112 §9.3), so the refusal waits
//! for the first bytes of one, for as long as a connection lingers. Nothing is kept of the request.
//!
//! A refusal that is said takes a slot for a moment. So in a storm only some are, and none at the
//! very end of memory: all others are reset.

use super::Handler;
use super::goodbye::Goodbye;
use super::state::turn::Stage;
use crate::listener::Framing;
use crate::memory::Level;
use crate::session::{Refusal, WebSocketInput};
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId};
use std::net::SocketAddr;

impl<B: Backend> Handler<B> {
    /// Admits a connection that was just accepted, or refuses it. It counts for its address until
    /// its end in either case.
    pub(super) fn admit(&mut self, connection: ConnectionId, peer: SocketAddr) {
        let has_place = self.count_for_address(peer);
        match self.turn.stage {
            Stage::Stopping => self.close(connection, Goodbye::Silent(CloseCode::SHUTDOWN)),
            Stage::Draining => {
                self.close(connection, Goodbye::Closed(CloseCode::SHUTDOWN, &"the server is shutting down"))
            }
            Stage::Serving if !has_place => self.turn_away(connection, Refusal::Address),
            Stage::Serving => {
                if !self.has_memory_for_one() {
                    self.turn_away(connection, Refusal::Memory);
                }
            }
        }
    }

    fn turn_away(&mut self, connection: ConnectionId, refusal: Refusal) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let is_at_end = match refusal {
            Refusal::Address => {
                self.io.metrics.address_refusals.add(1);
                false
            }
            Refusal::Memory => {
                self.io.metrics.memory_refusals.add(1);
                self.memory.state.level == Level::Close
            }
        };
        if is_at_end || !self.memory.refusals.admit(self.turn.now) {
            return self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
        }
        match session.framing {
            Framing::Tcp => {
                self.close(connection, Goodbye::Closed(CloseCode::OVERLOAD, &refusal.reason()));
            }
            Framing::WebSocket => {
                session.websocket_input = WebSocketInput::Refused(refusal);
                let until = self.turn.now + self.context.settings.linger;
                self.shard.sessions.timers.set(connection.index(), until);
            }
        }
    }

    /// The request of a connection that was not admitted has begun to come, or its time is over.
    pub(super) fn answer_refused(&mut self, connection: ConnectionId, refusal: Refusal) {
        self.io.metrics.upgrade_failures.add(1);
        self.close(connection, Goodbye::Http(CloseCode::OVERLOAD, refusal.response()));
    }
}
