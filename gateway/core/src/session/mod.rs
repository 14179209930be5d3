//! Sessions: the state that a worker keeps of each connection.
//!
//! ```text
//!   Handshake (WebSocket) ─► Unauthenticated ─► Verifying ─► Registering ─► Open ─► Closing
//!                                    │              (jwt)      (homes answer)          │
//!                                    └────────── refused, timed out, ended ────────────┘
//! ```
//!
//! A session lives in the slot of its connection and is plain data: names are handles into stores,
//! rooms a list head, and the only buffer it may own is the carry of a frame that straddles two
//! receives.

pub mod accept_set;
mod carry;
mod ends;
pub mod flow;
mod open;
mod partial_frames;
pub mod text;
mod token_end;
mod unauthenticated;
mod unread;
mod user;

pub use crate::coarse_instant::CoarseInstant;
pub use carry::{Carry, PoolExhausted};
pub(crate) use open::Packed;
pub use open::{Identified, Open};
pub use partial_frames::PartialFrames;
pub use token_end::TokenEnd;
pub use user::User;

use crate::listener::Framing;
use crate::message::VerifyNumber;
use crate::router::rooms::SessionRooms;
use accept_set::{AcceptSetId, AcceptSets};
use ends::{UNLISTED, Unauthenticated};
use flow::Flow;
use gateway_proto::codes::CloseCode;
use gateway_proto::websocket::{CloseWatch, Decoder};
use netpoll::{ConnectionId, TimerWheel, Timestamp, release_spare};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;
use text::{TextId, TextStore, TextUse};
use user::PackedUser;

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The slot is free.
    Vacant,
    /// WebSocket: the upgrade request has not come whole.
    Handshake,
    /// Nothing is known of the client.
    Unauthenticated,
    /// The verifier has its token.
    Verifying,
    /// The homes of its names and its room have been asked and must answer.
    Registering,
    /// Logged in.
    Open,
    /// The last frame was sent; its names and rooms are released.
    Closing,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Memory runs short.
    Memory,
    /// Its address has as many connections as it may.
    Address,
}

impl Refusal {
    /// For the client.
    pub const fn reason(self) -> &'static str {
        match self {
            Refusal::Memory => "memory is short: come back later, or try another server",
            Refusal::Address => "this address has as many connections as it may",
        }
    }
}

/// How the bytes of a WebSocket connection are read.
#[derive(Clone, Copy, Debug)]
pub enum WebSocketInput {
    /// The upgrade request, then frame by frame.
    Messages(Decoder),
    /// The connection was not admitted: its first bytes are answered with that.
    Refused(Refusal),
    /// A close frame was sent: KiB are discarded until the peer's own, or until they are too many.
    UntilClose(CloseWatch, u16),
}

const _: () = assert!(size_of::<WebSocketInput>() <= 16);

impl Default for WebSocketInput {
    fn default() -> WebSocketInput {
        WebSocketInput::Messages(Decoder::default())
    }
}

impl WebSocketInput {
    /// State of the decoder; `None` when nothing is decoded any more.
    pub fn decoder(&mut self) -> Option<&mut Decoder> {
        match self {
            WebSocketInput::Messages(decoder) => Some(decoder),
            WebSocketInput::Refused(_) | WebSocketInput::UntilClose(..) => None,
        }
    }

    /// Why the connection was not admitted.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            WebSocketInput::Refused(refusal) => Some(*refusal),
            WebSocketInput::Messages(_) | WebSocketInput::UntilClose(..) => None,
        }
    }

    /// Discards `bytes`. True when the close frame has come, or `kib_max` have been discarded.
    pub fn discard(&mut self, bytes: &[u8], kib_max: u16) -> bool {
        let WebSocketInput::UntilClose(watch, kib) = self else { return false };
        *kib = kib.saturating_add(bytes.len().div_ceil(1024).min(usize::from(kib_max)) as u16);
        watch.has_closed(bytes) || *kib >= kib_max
    }

    /// The detector of the peer's close frame, if that is awaited.
    pub fn close_watch(&mut self) -> Option<&mut CloseWatch> {
        match self {
            WebSocketInput::Messages(_) | WebSocketInput::Refused(_) => None,
            WebSocketInput::UntilClose(watch, _) => Some(watch),
        }
    }
}

/// A peer's address, without the padding of `SocketAddr`.
#[derive(Clone, Copy, Debug)]
struct Peer {
    ip: [u8; 16],
    port: u16,
}

/// Beside the number of a token in [`Session::pair`]; no text is so long.
const HAS_NUMBER: u32 = u32::MAX;

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Its id; of the last connection in this slot while vacant.
    pub connection: ConnectionId,
    user: PackedUser,
    /// The key that it brought; none: the server made its key, which follows from its address.
    pub key: TextId,
    /// Bytes of a frame that has not come whole.
    pub carry: Carry,
    /// How its bytes are read, over WebSocket.
    pub websocket_input: WebSocketInput,
    /// Its rooms; changed with a proof ([`Sessions::rooms_mut`]).
    rooms: SessionRooms,
    /// Before the login its neighbors in the list of unauthenticated connections; while the
    /// verifier has its token, the number of that; then the rooms of its token.
    pair: [u32; 2],
    /// When its token was issued, in seconds since 1970; 0: it has none.
    pub issued_at: u32,
    /// When its token ends.
    pub ends: TokenEnd,
    /// Sequence of its Auth frame, for the reply.
    pub auth_sequence: i32,
    /// When it was last heard of.
    pub heard_at: CoarseInstant,
    /// When it was accepted.
    pub opened_at: CoarseInstant,
    /// How much it sends. Time has paid up to `heard_at`.
    pub flow: Flow,
    /// While it is logged in the number of its token's key; then the code that the server closed it
    /// with. 0: none.
    close_code: u16,
    peer: Peer,
    /// Pushes that it takes; changed with a proof ([`Sessions::change_accepts`]).
    accepts: AcceptSetId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Number of its listener.
    pub listener: u8,
    /// How its bytes are cut into frames: its listener's.
    pub framing: Framing,
    /// Its last frame was sent, and it lingers so that the frame arrives: the moments that it has
    /// for that, the present one included. None: it does not linger.
    pub lingers: Option<NonZeroU8>,
    /// Its token is a service's: it may send to all users and rooms.
    pub service: bool,
    /// Answers of homes that its login still needs; once it is logged in, answers to its messages
    /// that others make (at most 65 535 are counted).
    pub answers_due: u16,
}

const _: () = assert!(size_of::<Session>() <= 160, "a session must stay small: a million are held");

/// Bytes of a session's fields, in groups.
#[derive(Clone, Copy, Debug)]
pub struct FieldBytes {
    /// Connection, user, key; rooms of its token.
    pub names: usize,
    /// Carry and the state of the WebSocket decoder.
    pub incoming: usize,
    /// Its memberships.
    pub rooms: usize,
    /// When it was heard of, accepted, ends, its token's issue; sequence of its Auth.
    pub times: usize,
    /// Its rate.
    pub rate: usize,
    /// Its peer's address.
    pub peer: usize,
    /// Close code, accept set, token's key, states; and what alignment takes.
    pub rest: usize,
}

/// Of this build.
pub const FIELD_BYTES: FieldBytes = {
    let names =
        size_of::<ConnectionId>() + size_of::<PackedUser>() + size_of::<TextId>() + size_of::<[u32; 2]>();
    let incoming = size_of::<Carry>() + size_of::<WebSocketInput>();
    let rooms = size_of::<SessionRooms>();
    let times = 2 * size_of::<CoarseInstant>() + size_of::<u32>() + size_of::<TokenEnd>() + size_of::<i32>();
    let rate = size_of::<Flow>();
    let peer = size_of::<Peer>();
    let rest = size_of::<Session>() - names - incoming - rooms - times - rate - peer;
    FieldBytes { names, incoming, rooms, times, rate, peer, rest }
};

impl Session {
    fn vacant() -> Session {
        Session {
            connection: ConnectionId::new(0, 0),
            user: PackedUser::ANONYMOUS,
            key: TextId::NONE,
            carry: Carry::default(),
            websocket_input: WebSocketInput::default(),
            rooms: SessionRooms::EMPTY,
            pair: UNLISTED,
            issued_at: 0,
            ends: TokenEnd::NEVER,
            auth_sequence: 0,
            heard_at: CoarseInstant::ZERO,
            opened_at: CoarseInstant::ZERO,
            flow: Flow::default(),
            close_code: 0,
            peer: Peer { ip: [0; 16], port: 0 },
            accepts: AcceptSetId::EMPTY,
            phase: Phase::Vacant,
            listener: 0,
            framing: Framing::Tcp,
            lingers: None,
            service: false,
            answers_due: 0,
        }
    }

    /// Its user.
    pub fn user(&self) -> User {
        self.user.unpack()
    }

    /// Sets its user.
    pub fn set_user(&mut self, user: User) {
        self.user = PackedUser::pack(user);
    }

    /// The rooms, and patterns of rooms, of its token. None before the login.
    pub fn grants(&self) -> TextId {
        match self.phase {
            Phase::Registering | Phase::Open => TextId::unpack(self.pair),
            _ => TextId::NONE,
        }
    }

    /// The number of its token at the verifier.
    pub fn verifying(&self) -> Option<VerifyNumber> {
        let has_number = self.phase == Phase::Verifying && self.pair[1] == HAS_NUMBER;
        has_number.then_some(VerifyNumber(self.pair[0]))
    }

    /// Keeps the number of its token while the verifier has it.
    pub fn set_verifying(&mut self, number: VerifyNumber) {
        debug_assert!(self.phase == Phase::Verifying);
        self.pair = [number.0, HAS_NUMBER];
    }

    /// Its peer's address.
    pub fn peer(&self) -> SocketAddr {
        let ip = Ipv6Addr::from(self.peer.ip);
        SocketAddr::new(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4), self.peer.port)
    }

    /// The code that the server closed it with.
    pub fn close_code(&self) -> Option<CloseCode> {
        let is_over = matches!(self.phase, Phase::Closing | Phase::Vacant);
        CloseCode::new(self.close_code).filter(|_| is_over)
    }

    /// The number of its token's key; 0: it has none.
    pub fn key_number(&self) -> u8 {
        let is_logged_in = self.is_identified();
        if is_logged_in { self.close_code as u8 } else { 0 }
    }

    /// Keeps the number of its token's key until it ends.
    pub fn set_key_number(&mut self, number: u8) {
        debug_assert!(self.phase == Phase::Registering);
        self.close_code = u16::from(number);
    }

    /// Keeps the code that the server closes it with.
    pub fn set_close_code(&mut self, code: CloseCode) {
        self.close_code = code.get();
    }

    /// Its rooms.
    pub fn rooms(&self) -> &SessionRooms {
        &self.rooms
    }

    /// Pushes that it takes.
    pub fn accepts(&self) -> AcceptSetId {
        self.accepts
    }

    /// Whether its identity is known: it is logged in, or is being entered under its names.
    #[inline]
    pub fn is_identified(&self) -> bool {
        matches!(self.phase, Phase::Registering | Phase::Open)
    }

    /// Whether it has logged in and not left.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }
}

/// The sessions of one worker.
#[derive(Debug)]
pub struct Sessions {
    slots: Vec<Session>,
    live: usize,
    open: usize,
    closing: usize,
    /// Accept sets.
    pub accept_sets: AcceptSets,
    /// One timer a connection.
    pub timers: TimerWheel,
    partial_frames: PartialFrames,
    unauthenticated: Unauthenticated,
}

/// How fine timers are.
pub const TIMER_TICK: Duration = Duration::from_millis(64);

impl Sessions {
    /// Bytes that one connection takes here: its session and its timer.
    pub const BYTES_PER_CONNECTION: usize = size_of::<Session>() + TimerWheel::BYTES_PER_TIMER;

    /// Reserves everything.
    pub fn with_capacity(index_bound: usize, accept_sets_max: usize, blocks: usize) -> Sessions {
        Sessions {
            slots: Vec::with_capacity(index_bound),
            live: 0,
            open: 0,
            closing: 0,
            accept_sets: AcceptSets::with_capacity(accept_sets_max),
            timers: TimerWheel::new(index_bound, TIMER_TICK),
            partial_frames: PartialFrames::with_capacity(blocks),
            unauthenticated: Unauthenticated::default(),
        }
    }

    /// Adds the session of a new connection.
    ///
    /// # Panics
    /// If its slot is not vacant: the backend reports a connection's end before it uses the slot
    /// again.
    pub fn insert(
        &mut self,
        connection: ConnectionId,
        (listener, framing): (u8, Framing),
        peer: SocketAddr,
        now: Timestamp,
    ) -> &mut Session {
        while self.slots.len() <= connection.index() {
            self.slots.push(Session::vacant());
        }
        self.live += 1;
        let session = &mut self.slots[connection.index()];
        assert!(session.phase == Phase::Vacant, "slot of {connection:?} is taken");
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let phase = match framing {
            Framing::Tcp => Phase::Unauthenticated,
            Framing::WebSocket => Phase::Handshake,
        };
        *session = Session {
            connection,
            phase,
            peer: Peer { ip: ip.octets(), port: peer.port() },
            listener,
            framing,
            heard_at: CoarseInstant::of(now),
            opened_at: CoarseInstant::of(now),
            ..Session::vacant()
        };
        self.list_unauthenticated(connection.index());
        &mut self.slots[connection.index()]
    }

    /// The live session of a connection.
    #[inline]
    pub fn get(&self, connection: ConnectionId) -> Option<&Session> {
        let session = self.slots.get(connection.index())?;
        (session.connection == connection && session.phase != Phase::Vacant).then_some(session)
    }

    /// The live session of a connection.
    #[inline]
    pub fn get_mut(&mut self, connection: ConnectionId) -> Option<&mut Session> {
        let session = self.slots.get_mut(connection.index())?;
        (session.connection == connection && session.phase != Phase::Vacant).then_some(session)
    }

    /// The session in slot `index`, if one is there.
    pub fn at(&self, index: usize) -> Option<&Session> {
        self.slots.get(index).filter(|session| session.phase != Phase::Vacant)
    }

    /// Slots used so far: an upper bound of the indexes.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Sessions, those that are ending included.
    pub fn live_count(&self) -> usize {
        self.live
    }

    /// Whether no connection has a session.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Sessions logged in.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Sessions that are ending: those that linger, and those that wait for the backend to report
    /// the end.
    pub fn closing_count(&self) -> usize {
        self.closing
    }

    /// The counts are right; a vacant or closing session has released everything, and one that is
    /// not logged in has nothing to release.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self) {
        let open = self.slots.iter().filter(|session| session.is_open()).count();
        assert_eq!(open, self.open, "open sessions");
        let live = self.slots.iter().filter(|session| session.phase != Phase::Vacant).count();
        assert_eq!(live, self.live, "sessions");
        let closing = self.slots.iter().filter(|session| session.phase == Phase::Closing).count();
        assert_eq!(closing, self.closing, "sessions that are ending");
        for session in &self.slots {
            let connection = session.connection;
            let is_registered = matches!(session.phase, Phase::Registering | Phase::Open);
            let has_nothing = session.key.is_none()
                && session.user() == User::Anonymous
                && session.grants().is_none()
                && session.rooms.count == 0
                && session.accepts == AcceptSetId::EMPTY;
            assert!(is_registered || has_nothing, "{connection:?} in {:?} has a name", session.phase);
            let is_over = matches!(session.phase, Phase::Vacant | Phase::Closing);
            assert!(!is_over || session.carry.is_empty(), "{connection:?} is over and carries bytes");
            let waits = session.phase == Phase::Registering;
            assert!(!waits || session.answers_due > 0, "{connection:?} waits for nothing");
            // Nothing but its timer ends a stop.
            let is_stopped = session.flow.is_stopped() && session.is_open();
            let has_timer = self.timers.is_set(connection.index());
            assert!(!is_stopped || has_timer, "{connection:?} is stopped for ever");
        }
        let users = |id| self.slots.iter().filter(|session| session.accepts == id).count() as u32;
        self.accept_sets.invariants(users);
        self.partial_frame_invariants();
        self.unauthenticated_invariants();
    }

    /// Its token is looked at, or it is entered under its names.
    pub fn set_logging_in(&mut self, connection: ConnectionId, phase: Phase) {
        debug_assert!(matches!(phase, Phase::Verifying | Phase::Registering));
        self.unlist_unauthenticated(connection);
        if let Some(session) = self.get_mut(connection) {
            session.phase = phase;
            session.pair = TextId::NONE.pack();
        }
    }

    /// Keeps the rooms of its token, which has none yet.
    pub fn set_grants(&mut self, connection: ConnectionId, grants: TextId) {
        if let Some(session) = self.get_mut(connection) {
            debug_assert!(session.phase == Phase::Registering && session.grants().is_none());
            session.pair = grants.pack();
        }
    }

    /// Releases the handles of a session that leaves, and moves it to `Closing`. Its rooms must be
    /// left before.
    pub fn forget(&mut self, texts: &mut TextStore, connection: ConnectionId) {
        self.unlist_unauthenticated(connection);
        let Some(session) = self.get_mut(connection) else { return };
        debug_assert!(session.rooms.count == 0);
        texts.remove(session.grants(), TextUse::Login);
        let was_open = session.phase == Phase::Open;
        let begins = session.phase != Phase::Closing;
        if begins {
            session.close_code = 0;
        }
        session.phase = Phase::Closing;
        session.carry = Carry::default();
        let key = std::mem::replace(&mut session.key, TextId::NONE);
        let user = std::mem::replace(&mut session.user, PackedUser::ANONYMOUS).unpack();
        let accepts = std::mem::replace(&mut session.accepts, AcceptSetId::EMPTY);
        self.open -= usize::from(was_open);
        self.closing += usize::from(begins);
        texts.remove(key, TextUse::Login);
        if let User::Uid(uid) = user {
            texts.remove(uid, TextUse::Login);
        }
        self.accept_sets.release(accepts);
    }

    /// Frees the slot after the backend has reported the end.
    pub fn remove(&mut self, texts: &mut TextStore, connection: ConnectionId) {
        self.forget(texts, connection);
        self.timers.cancel(connection.index());
        if let Some(session) = self.get_mut(connection) {
            session.phase = Phase::Vacant;
            self.live -= 1;
            self.closing -= 1;
        }
    }

    /// Releases the memory when there is no session.
    pub fn trim(&mut self) {
        if self.live > 0 {
            return;
        }
        self.slots.clear();
        release_spare(&mut self.slots);
        self.accept_sets.trim();
        self.timers.trim();
        self.partial_frames.clear();
        self.unauthenticated = Unauthenticated::default();
    }
}
