//! What workers and the control thread say to one another. Handles and small values only: a payload
//! is written once and travels as a reference.
//!
//! Three roles meet here, and one worker plays all of them for different names:
//! * the **host** of a connection holds its session and its memberships;
//! * the **home** of a user, key or room (chosen by fingerprint) knows the hosts that it concerns;
//! * the **origin** of a message is where it came in, and where its outcome is reported.
//!
//! ```text
//!   origin ── ToName, ToRoom ──► home ── Deliver, DeliverRoom ──► host ──► sockets
//!      ▲                           ▲ └─ rooms: their size ─┐        │
//!      └──────── Outcome ──────────┴─ names: what each host reports ┘
//!   host ── Claim, Release, RoomMembers ──► home
//!   home ── Granted, Sharers, Evict, RoomReady, RoomTotal ──► host
//! ```

mod class;
mod control;
mod encoded_push;
mod inspection;
mod login;
mod pending;
mod verifier;

pub use class::MessageClass;
pub use control::{AuditEvent, AuditKind, ControlMessage, ControlSender};
pub use encoded_push::EncodedPush;
pub use inspection::{ConnectionRow, Inspection, Query, ROWS_MAX, RoomRow, SLOTS_PER_VISIT_MAX};
pub use login::{AuthError, Claims, ROOMS_SIZE_MAX, Verdict, VerifyRequest};
pub use pending::{PendingLogin, PendingLogins};
pub use verifier::{NextRequest, VerifyLane, VerifyNumber, VerifyQueue, VerifySender, verify_queue};

use crate::address::{Address, Fingerprint, WorkerId};
use crate::settings::Reloadable;
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{ConnectionId, SharedBuffer};
use std::sync::Arc;

/// Which connections of its target a push leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    /// The connection.
    pub address: Option<Address>,
    /// It was one of the target's when the message came, so it is not to be counted. It is left out
    /// even if it joins the target only then.
    pub is_counted: bool,
}

/// Where an outcome goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No outcome is wanted.
    None,
    /// A client's SendMessage or Publish with this sequence.
    Client {
        /// The connection that asked.
        address: Address,
        /// The sequence of its frame.
        sequence: i32,
        /// Publish (true) or SendMessage.
        publish: bool,
        /// It wants to hear only of a message that reached no connection.
        quiet: bool,
        /// Messages that it was charged for the deliveries to a room of a size that its worker does
        /// not know: the outcome says it, whether the client wants to hear of it or not. 0: nothing
        /// is to be settled.
        prepaid: u8,
    },
    /// A request of the control thread.
    Control {
        /// Its number.
        ticket: u64,
    },
    /// A home that adds up what several hosts report (`router::ReceiptCounts`).
    Sum {
        /// The home.
        home: WorkerId,
        /// Which of its sums.
        index: u32,
    },
}

impl Origin {
    /// Whether an outcome comes in any case. Of a quiet message comes none when it was delivered.
    pub fn is_answered(&self) -> bool {
        matches!(self, Origin::Client { quiet, prepaid, .. } if !quiet || *prepaid > 0)
    }
}

/// A kind of name that a connection is registered under at the name's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// Connection key: at most one connection.
    Key,
    /// User: as many connections as the device policy allows.
    User,
}

/// To a worker.
#[derive(Debug)]
pub enum Message {
    /// To a home: `from` is now registered under `name`. Answered with `Granted`.
    Claim {
        /// Kind of the name.
        kind: NameKind,
        /// The name.
        name: Fingerprint,
        /// The connection.
        from: Address,
        /// A user's: the connection's platform by hash, 0 if none was given. A key's: its user by
        /// hash, 0 where no token is asked for.
        tag: u32,
    },
    /// To a host: `from` brings the key that was made for `connection`, which gives way if it is
    /// the same user's. Answered with `Granted`.
    Reclaim {
        /// The connection that the key was made for.
        connection: ConnectionId,
        /// The connection that brings it.
        from: Address,
        /// Its user, as in `Claim`.
        tag: u32,
    },
    /// To a host: a `Claim` was entered.
    Granted {
        /// The connection that claimed.
        connection: ConnectionId,
    },
    /// To a host: so many connections share the rate of the connection's user.
    Sharers {
        /// One of them.
        connection: ConnectionId,
        /// All of them, itself included; at most [`SHARERS_MAX`].
        count: u8,
    },
    /// To a home: `from` no longer stands for `name`.
    Release {
        /// Kind of the name.
        kind: NameKind,
        /// The name.
        name: Fingerprint,
        /// The connection.
        from: Address,
    },
    /// To a host: close the connection, with code and reason as its last word.
    Evict {
        /// Which connection.
        connection: ConnectionId,
        /// Why.
        code: CloseCode,
        /// The same for people, UTF-8; `None`: the code's label.
        reason: Option<SharedBuffer>,
    },
    /// To a user's or key's home: deliver to its connections.
    ToName {
        /// The name.
        name: Fingerprint,
        /// What.
        push: EncodedPush,
        /// Connection to skip.
        exclude: Exclude,
        /// Where the outcome goes.
        origin: Origin,
    },
    /// To the host that a made key names: deliver to its connection. If that has ended, a client
    /// may have brought the key again: its home knows.
    ToMadeKey {
        /// The connection.
        connection: ConnectionId,
        /// The key as a name.
        name: Fingerprint,
        /// What.
        push: EncodedPush,
        /// Connection to skip.
        exclude: Exclude,
        /// Where the outcome goes.
        origin: Origin,
    },
    /// To a room's home: deliver to its members.
    ToRoom {
        /// The room.
        room: Fingerprint,
        /// What.
        push: EncodedPush,
        /// Connection to skip.
        exclude: Exclude,
        /// Where the outcome goes.
        origin: Origin,
    },
    /// To a host: deliver to all of its sessions.
    ToAll {
        /// What.
        push: EncodedPush,
        /// Deliveries per second at most on this worker; 0: no limit of its own.
        rate: u32,
        /// Where the outcome goes.
        origin: Origin,
    },
    /// To a host: deliver to one connection.
    Deliver {
        /// Which.
        connection: ConnectionId,
        /// What.
        push: EncodedPush,
        /// Where it is reported whether the connection got it.
        origin: Origin,
    },
    /// To a host: deliver to its members of the room.
    DeliverRoom {
        /// The room.
        room: Fingerprint,
        /// What.
        push: EncodedPush,
        /// Connection to skip.
        exclude: Exclude,
    },
    /// To a room's home: `worker` has so many members now. Answered with `RoomReady` when it had
    /// none before.
    RoomMembers {
        /// The host.
        worker: WorkerId,
        /// The room and its count; the appearance comes back in the answer.
        change: CountChange,
    },
    /// To a host: the home knows of your members; messages reach them from here on.
    RoomReady {
        /// The room.
        room: Fingerprint,
        /// Members everywhere; `None` when the home has no room for the room.
        total: Option<u32>,
        /// Which of the host's appearances this answers.
        appearance: u32,
    },
    /// To a host: the room's size has changed.
    RoomTotal {
        /// The room.
        room: Fingerprint,
        /// Members everywhere.
        total: u32,
    },
    /// To an origin, or to the home that adds up: what became of a message.
    Outcome {
        /// Where it goes.
        origin: Origin,
        /// Connections that got it, or why it was refused: [`ErrorCode::NOT_FOUND`] when there is
        /// no such target.
        result: Result<u32, ErrorCode>,
    },
    /// To a host, from the verifier of tokens.
    Verified(Verdict),
    /// From the control thread, to the home of the user or key, to the host of the connection, or
    /// to every host: close them.
    Kick {
        /// Its target.
        target: KickTarget,
        /// With what code.
        code: CloseCode,
        /// With what reason, UTF-8; `None`: the code's label.
        reason: Option<SharedBuffer>,
        /// Number of the request.
        ticket: u64,
    },
    /// To a worker, from the control thread: fill the list and send it back.
    Inspect(Box<Inspection>),
    /// To every worker: new values for what may change while running.
    Reload(Arc<Reloadable>),
    /// To every worker: stop accepting and send the clients away until `deadline`.
    Drain {
        /// How long the departures are spread over.
        over: std::time::Duration,
    },
    /// To every worker: close what is left and end the thread.
    Stop,
    /// To every worker, from one that stops.
    Shutdown(ShutdownPhase),
}

/// What a stopping worker announces to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShutdownPhase {
    /// It has no connection left: no request follows.
    NoConnection,
    /// It has heard [`ShutdownPhase::NoConnection`] of all others: no answer follows.
    NothingMore,
}

/// What a host reports to a room's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountChange {
    /// The room.
    pub room: Fingerprint,
    /// Members at the host.
    pub count: u32,
    /// What the host reported last.
    pub before: u32,
    /// Which of the host's appearances in the room it is.
    pub appearance: u32,
}

/// Connections of a user among which its rate is divided exactly: of more of them each has this
/// part of it.
pub const SHARERS_MAX: u8 = 32;

/// What a kick is meant for.
#[derive(Clone, Copy, Debug)]
pub enum KickTarget {
    /// All connections of a user or key, at the name's home.
    Name(Fingerprint),
    /// One connection, at its host.
    Connection(ConnectionId),
    /// The connection that a made key names, at its host; if it has ended, the one that brought the
    /// key again.
    MadeKey(ConnectionId, Fingerprint),
    /// Every connection of the host for which this holds.
    Many(Filter),
}

/// Which connections of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All, those that have not logged in included.
    All,
    /// Those that have logged in with a token of the key of this number.
    TokenKey(u8),
    /// Those that have logged in with a token issued before this time, in seconds since 1970.
    IssuedBefore(u32),
}

const _: () = assert!(size_of::<Message>() <= 112, "mailboxes are arrays of messages");
