//! Clients: connections that speak the protocol, and what each of them knows for sure and what only
//! perhaps.
//!
//! A client's requests are handled in the order in which it sent them, and its stream is in order.
//! So of each room it knows two things at any moment. It is *possibly* a member from its Join until
//! it has read the reply to a later Leave: pushes may come. It is *surely* one from the JoinReply
//! until it sends a Leave: pushes must come. The same holds for operations that it accepts.

use crate::tokens::Token;
use crate::wire;
use netpoll::{CloseReason, ConnectionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a connection is in its life, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    /// WebSocket: the upgrade was asked for.
    Upgrading,
    /// Auth was sent.
    LoggingIn,
    Open,
    /// An echo after its upgrade.
    Echoing,
    Gone,
}

/// Sequences of what floods and hogs ask for, and nothing keeps: from here on.
pub const UNASKED_FROM: i32 = 1_000_000;

/// What the client has done that may end its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    None,
    /// It has closed, half-closed or cut the connection.
    Left,
    /// It has sent garbage.
    Garbage,
    /// It has taken all the rooms that it got.
    Hog,
    /// It never logs in.
    Mute,
    /// It sends as fast as it can, whatever it hears.
    Flooder,
}

/// A request under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Auth,
    Heartbeat,
    Send { message: usize, publish: bool },
    Join { room: usize },
    Leave { room: usize },
    ChangeRoom { room: Option<usize>, left: Option<usize> },
    Subscribe { operations: Vec<i32>, add: bool },
    Application { operation: i32, body: Vec<u8> },
}

/// One room, as a client sees it. Times are twice the sequence of the request, plus one for what
/// enters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Membership {
    /// The last request to enter, and the last that has succeeded.
    asked: i32,
    entered: i32,
    /// The last request to leave, and the last that was answered.
    pub leaving: i32,
    left: i32,
}

impl Membership {
    pub fn is_possible(&self) -> bool {
        self.asked > self.left
    }

    pub fn is_sure(&self) -> bool {
        self.entered > self.leaving
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    pub host: usize,
    pub connection: ConnectionId,
    pub websocket: bool,
    /// It speaks to the echo listener.
    pub echo: bool,
    pub phase: Phase,
    pub fate: Fate,
    /// It has left its socket unread for a while: it may have been closed for that.
    pub was_deaf: bool,
    /// Who it is: a number, a text where it is negative, nobody where it is 0.
    pub mid: i64,
    pub token: Token,
    pub key: Option<usize>,
    pub platform: Option<&'static str>,
    /// Room of the Auth frame.
    pub first_room: Option<usize>,
    sequence: i32,
    pub pending: BTreeMap<i32, Request>,
    /// Sequence of the last reply that is given at once: such replies come in order.
    pub answered: i32,
    pub rooms: Vec<Membership>,
    /// The rooms that the server has it in when all requests so far succeed, and goim's one room.
    pub server_rooms: BTreeSet<usize>,
    pub primary: Option<usize>,
    /// A request for a room was refused, so that `server_rooms` is no longer known.
    pub blurred: bool,
    pub accepts: BTreeSet<i32>,
    /// Unsubscriptions sent.
    pub unsubscribed: usize,
    /// Messages received.
    pub received: BTreeSet<usize>,
    /// The last message of each sender to each target.
    pub last: BTreeMap<(Option<usize>, crate::model::Target), usize>,
    pub pings: VecDeque<Vec<u8>>,
    /// What an echo must say next: opcode and payload.
    pub echoes: VecDeque<(u8, Vec<u8>)>,
    /// Bytes to send that the backend has not got.
    pub output: Vec<u8>,
    pub input: Vec<u8>,
    pub nonce: Option<[u8; 24]>,
    /// Body of its Auth.
    pub auth: Vec<u8>,
    /// Code of the server's last word.
    pub farewell: Option<u16>,
    /// When that was.
    pub farewell_at: netpoll::Timestamp,
    pub reconnect: bool,
    pub end: Option<CloseReason>,
    /// The phase that it ended in.
    pub ended_in: Phase,
    /// Online count of the last heartbeat.
    pub online: Option<i32>,
    /// When it sent garbage.
    pub spoilt_at: netpoll::Timestamp,
    /// When it sent something last.
    pub spoke_at: netpoll::Timestamp,
    /// When it sent something last, a second or more before that.
    pub spoke_before: netpoll::Timestamp,
}

impl Client {
    pub fn new(host: usize, connection: ConnectionId, websocket: bool, rooms: usize) -> Client {
        Client {
            host,
            connection,
            websocket,
            echo: false,
            phase: Phase::Connecting,
            fate: Fate::None,
            was_deaf: false,
            mid: 0,
            token: Token::NotNeeded,
            key: None,
            platform: None,
            first_room: None,
            sequence: 0,
            pending: BTreeMap::new(),
            answered: 0,
            rooms: vec![Membership::default(); rooms],
            server_rooms: BTreeSet::new(),
            primary: None,
            blurred: false,
            accepts: BTreeSet::new(),
            unsubscribed: 0,
            received: BTreeSet::new(),
            last: BTreeMap::new(),
            pings: VecDeque::new(),
            echoes: VecDeque::new(),
            output: vec![],
            input: vec![],
            nonce: None,
            auth: vec![],
            farewell: None,
            farewell_at: netpoll::Timestamp::ZERO,
            reconnect: false,
            end: None,
            ended_in: Phase::Gone,
            online: None,
            spoilt_at: netpoll::Timestamp::ZERO,
            spoke_at: netpoll::Timestamp::ZERO,
            spoke_before: netpoll::Timestamp::ZERO,
        }
    }

    /// Whether it goes on: nothing has been done or heard that ends it.
    pub fn is_well(&self) -> bool {
        self.phase != Phase::Gone && self.fate == Fate::None && self.farewell.is_none()
    }

    /// Whether it has earned this code by what it should not have done: by bytes that are no
    /// frames, or by more than its rate. Its other ends need another reason.
    pub fn has_earned(&self, code: u16) -> bool {
        match self.fate {
            // RFC 6455 §7.4.1; by chance the bytes may be a close frame.
            Fate::Garbage if self.websocket => (1000..1016).contains(&code) || matches!(code, 3500 | 3506),
            Fate::Garbage => matches!(code, 3500 | 3506),
            Fate::Flooder => code == 3004,
            _ => false,
        }
    }

    /// Whether this answers what it sent as a flooder or a hog, of which no requests are kept.
    pub fn is_unasked(&self, frame: &wire::Frame) -> bool {
        let reply = match self.fate {
            Fate::Flooder => 3,
            Fate::Hog => 105,
            _ => return false,
        };
        frame.sequence >= UNASKED_FROM && [reply, 112].contains(&frame.operation)
    }

    /// Whether it may send requests. What waits for the answer to a login has a bound.
    pub fn is_usable(&self) -> bool {
        let may_ask = match self.phase {
            Phase::Open => true,
            Phase::LoggingIn => self.pending.len() < 5,
            _ => false,
        };
        may_ask && self.is_well()
    }

    /// Whether it is logged in for sure.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open && self.is_well()
    }

    pub fn spoke(&mut self, now: netpoll::Timestamp) {
        if now.since(self.spoke_at) >= std::time::Duration::from_secs(1) {
            self.spoke_before = self.spoke_at;
        }
        self.spoke_at = now;
    }

    pub fn next_sequence(&mut self) -> i32 {
        self.sequence += 1;
        self.sequence
    }

    /// Notes a request and returns its sequence.
    pub fn ask(&mut self, request: Request) -> i32 {
        let sequence = self.next_sequence();
        self.note_request(sequence, &request);
        self.pending.insert(sequence, request);
        sequence
    }

    fn note_request(&mut self, sequence: i32, request: &Request) {
        match request {
            Request::Join { room } => {
                self.rooms[*room].asked = 2 * sequence + 1;
                if self.server_rooms.insert(*room) && self.primary.is_none() {
                    self.primary = Some(*room);
                }
            }
            Request::Leave { room } => self.note_leave(*room, sequence),
            Request::ChangeRoom { room, left } => {
                if let Some(left) = left {
                    self.note_leave(*left, sequence);
                }
                self.primary = *room;
                if let Some(room) = room {
                    self.rooms[*room].asked = 2 * sequence + 1;
                    self.server_rooms.insert(*room);
                }
            }
            Request::Auth => {
                if let Some(room) = self.first_room {
                    self.rooms[room].asked = 2 * sequence + 1;
                    self.server_rooms.insert(room);
                    self.primary = Some(room);
                }
            }
            Request::Subscribe { add: false, .. } => self.unsubscribed += 1,
            _ => {}
        }
    }

    fn note_leave(&mut self, room: usize, sequence: i32) {
        self.rooms[room].leaving = 2 * sequence;
        self.server_rooms.remove(&room);
        if self.primary == Some(room) {
            self.primary = None;
        }
    }

    /// A request to enter a room has succeeded.
    pub fn entered(&mut self, room: usize, sequence: i32) {
        let entered = &mut self.rooms[room].entered;
        *entered = (*entered).max(2 * sequence + 1);
    }

    /// The room of the login could not be entered.
    pub fn not_entered(&mut self) {
        if let Some(room) = self.first_room {
            self.rooms[room].entered = 0;
        }
        self.blur();
    }

    /// A request to leave a room was answered.
    pub fn left(&mut self, room: usize, sequence: i32) {
        let left = &mut self.rooms[room].left;
        *left = (*left).max(2 * sequence);
    }

    /// A request for a room was refused: what the server has is not known from here on.
    pub fn blur(&mut self) {
        self.blurred = true;
    }

    pub fn is_surely_in(&self, room: usize) -> bool {
        self.is_open() && !self.blurred && self.rooms[room].is_sure()
    }

    pub fn is_possibly_in(&self, room: usize) -> bool {
        self.rooms[room].is_possible() || (self.blurred && self.rooms[room].asked > 0)
    }

    /// Whether a push of this operation may come: no reply of an unsubscription says otherwise.
    pub fn may_accept(&self, operation: i32) -> bool {
        let asked = |request: &Request| matches!(request, Request::Subscribe { operations, add: true } if operations.contains(&operation));
        self.accepts.contains(&operation) || self.pending.values().any(asked)
    }

    /// Whether a push of this operation must come.
    pub fn surely_accepts(&self, operation: i32) -> bool {
        let dropped = |request: &Request| matches!(request, Request::Subscribe { operations, add: false } if operations.contains(&operation));
        self.accepts.contains(&operation) && !self.pending.values().any(dropped)
    }

    /// Puts frames into its output: bare, or in messages cut into `cuts` fragments, with a ping
    /// between them if any.
    pub fn say(&mut self, frames: &[u8], cuts: &[usize], mask: [u8; 4], ping: Option<Vec<u8>>) {
        if !self.websocket {
            self.output.extend(frames);
            return;
        }
        self.say_message(wire::BINARY, frames, cuts, mask, ping);
    }

    /// Puts a WebSocket message into its output.
    pub fn say_message(
        &mut self,
        opcode: u8,
        payload: &[u8],
        cuts: &[usize],
        mask: [u8; 4],
        ping: Option<Vec<u8>>,
    ) {
        let mut start = 0;
        let mut ping = ping;
        for (index, cut) in cuts.iter().chain([&payload.len()]).enumerate() {
            let end = (*cut).clamp(start, payload.len());
            let opcode = if index == 0 { opcode } else { wire::CONTINUATION };
            let last = index == cuts.len();
            self.output.extend(wire::masked(opcode, last, &payload[start..end], mask));
            if let Some(ping) = ping.take() {
                self.output.extend(wire::masked(wire::PING, true, &ping, mask));
                self.pings.push_back(ping);
            }
            start = end;
        }
    }
}
