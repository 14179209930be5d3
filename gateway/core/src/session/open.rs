//! Proofs of how far a login is: what a request needs before it may reach rooms, pushes or
//! messages.

use super::accept_set::AcceptSetId;
use super::{Phase, Session, Sessions};
use crate::router::HostedRooms;
use crate::router::rooms::SessionRooms;
use crate::session::text::TextStore;
use crate::sources::Source;
use gateway_proto::frame::Operation;
use netpoll::ConnectionId;
use std::num::NonZero;
use std::ops::Deref;

/// Proof that a connection's identity is known: it is logged in, or is being entered under its
/// names.
///
/// A session's rooms can be changed with a proof only:
///
/// ```
/// use gateway_core::router::rooms::SessionRooms;
/// use gateway_core::session::{Identified, Sessions};
///
/// fn rooms<'s>(sessions: &'s mut Sessions, proof: &Identified) -> &'s mut SessionRooms {
///     sessions.rooms_mut(proof)
/// }
/// ```
///
/// ```compile_fail,E0308
/// use gateway_core::router::rooms::SessionRooms;
/// use gateway_core::session::Sessions;
/// use netpoll::ConnectionId;
///
/// fn rooms<'s>(sessions: &'s mut Sessions, connection: ConnectionId) -> &'s mut SessionRooms {
///     sessions.rooms_mut(&connection)
/// }
/// ```
#[derive(Debug)]
pub struct Identified(Packed);

/// A connection in one register: index and generation, and never 0, so that an `Option` of a proof
/// is a register, too. Proofs are handed from frame to frame, and memory that is written in two
/// halves and read as one stalls the processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed(NonZero<u64>);

impl Packed {
    #[inline]
    pub(crate) fn new(connection: ConnectionId) -> Packed {
        Packed(NonZero::new(connection.pack(1)).unwrap_or(NonZero::<u64>::MIN))
    }

    #[inline]
    pub(crate) fn connection(self) -> ConnectionId {
        ConnectionId::unpack(self.0.get()).1
    }
}

/// Proof that a connection is logged in.
///
/// [`Sessions::open`] and [`Sessions::set_open`] make it, and nothing else. What may end the
/// connection takes it and returns it only while the connection is still logged in, so it is never
/// out of date. The handlers of messages, rooms and subscriptions take it: a connection that has
/// not logged in cannot reach them in code that compiles.
///
/// ```
/// use gateway_core::session::{Open, Sessions};
/// use netpoll::ConnectionId;
///
/// fn logged_in(sessions: &Sessions, connection: ConnectionId) -> Option<Open> {
///     sessions.open(connection)
/// }
/// ```
///
/// ```compile_fail,E0423
/// use gateway_core::session::{Identified, Open};
///
/// fn logged_in(registering: Identified) -> Open {
///     Open(registering)
/// }
/// ```
///
/// What a session accepts can be changed with this proof only:
///
/// ```compile_fail,E0308
/// use gateway_core::session::{Identified, Sessions};
/// use gateway_core::sources::Source;
///
/// fn subscribe(sessions: &mut Sessions, registering: &Identified, from: Source) -> bool {
///     sessions.change_accepts(registering, [].into_iter(), true, from)
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Open(Identified);

impl Deref for Open {
    type Target = Identified;

    fn deref(&self) -> &Identified {
        &self.0
    }
}

impl Identified {
    /// The connection.
    #[inline]
    pub fn connection(&self) -> ConnectionId {
        self.0.connection()
    }
}

impl Sessions {
    /// The proof that a connection is logged in, if it is.
    #[inline]
    pub fn open(&self, connection: ConnectionId) -> Option<Open> {
        let session = self.get(connection)?;
        session.is_open().then_some(Open(Identified(Packed::new(connection))))
    }

    /// The session has logged in. `None` when it is gone.
    pub fn set_open(&mut self, connection: ConnectionId) -> Option<Open> {
        let session = self.get_mut(connection)?;
        debug_assert!(session.phase == Phase::Registering);
        session.phase = Phase::Open;
        self.open += 1;
        Some(Open(Identified(Packed::new(connection))))
    }

    /// The proof that a connection's identity is known, if it is.
    pub fn identified(&self, connection: ConnectionId) -> Option<Identified> {
        let session = self.get(connection)?;
        matches!(session.phase, Phase::Registering | Phase::Open)
            .then_some(Identified(Packed::new(connection)))
    }

    /// The session of an identified connection.
    #[inline]
    pub fn of(&self, proof: &Identified) -> &Session {
        let session = &self.slots[proof.connection().index()];
        debug_assert!(session.connection == proof.connection() && session.is_identified());
        session
    }

    /// The session of an identified connection.
    #[inline]
    pub fn of_mut(&mut self, proof: &Identified) -> &mut Session {
        let session = &mut self.slots[proof.connection().index()];
        debug_assert!(session.connection == proof.connection() && session.is_identified());
        session
    }

    /// The rooms of an identified connection.
    pub fn rooms_mut(&mut self, proof: &Identified) -> &mut SessionRooms {
        &mut self.of_mut(proof).rooms
    }

    /// Ends all memberships of a connection that leaves.
    pub fn leave_rooms(&mut self, rooms: &mut HostedRooms, texts: &mut TextStore, connection: ConnectionId) {
        if let Some(session) = self.get_mut(connection) {
            rooms.leave_all(texts, &mut session.rooms);
        }
    }

    /// The pushes that an identified connection takes, as it said in its login.
    pub fn set_accepts(&mut self, proof: &Identified, accepts: AcceptSetId) {
        self.of_mut(proof).accepts = accepts;
    }

    /// Adds push operations to those that a connection accepts, or removes them. False, and nothing
    /// changes, when they become too many, or no place is left for the set.
    pub fn change_accepts(
        &mut self,
        open: &Open,
        operations: impl Iterator<Item = Operation>,
        add: bool,
        source: Source,
    ) -> bool {
        let old = self.of(open).accepts;
        let Some(new) = self.accept_sets.change(old, operations, add, source) else { return false };
        self.of_mut(open).accepts = new;
        true
    }
}
