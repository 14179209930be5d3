//! Messages: who sent what to whom, who must get it, and what has been received.
//!
//! A message's number is the front of its payload, and every payload byte follows from it. When a
//! message is sent, the model lists the connections that must receive it if it is accepted; when
//! everything has come to rest, each of those that has stayed what it was has received it, or a
//! drop was counted for it.

use crate::clients::Client;
use gateway_core::message::MessageClass;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    User(i64),
    Room(usize),
    Key(usize),
    Everyone,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Unknown,
    Accepted { receivers: u32 },
    Refused { code: u16 },
}

/// A connection that must receive a message, and what must stay so until then.
#[derive(Clone, Debug)]
pub struct Duty {
    pub client: usize,
    leaving: i32,
    unsubscribed: usize,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// The sending client; `None`: the control plane.
    pub sender: Option<usize>,
    pub target: Target,
    /// The operation that receivers see.
    pub operation: i32,
    pub not_to_self: bool,
    pub payload: Vec<u8>,
    pub outcome: Outcome,
    pub duties: Vec<Duty>,
    /// Connections that it reaches if nothing else is under way.
    pub expected: Option<u32>,
    /// It has been judged at rest.
    pub judged: bool,
}

impl Message {
    pub fn class(&self) -> MessageClass {
        match self.target {
            Target::User(_) | Target::Key(_) => MessageClass::User,
            Target::Room(_) => MessageClass::Room,
            Target::Everyone => MessageClass::Broadcast,
        }
    }

    /// Whether accept sets filter it: operations from 1000, but not to rooms.
    fn is_filtered(&self) -> bool {
        self.operation >= 1000 && !matches!(self.target, Target::Room(_))
    }

    /// Whether `client` (number `index`) is meant for sure.
    pub fn must_reach(&self, index: usize, client: &Client) -> bool {
        let meant = match self.target {
            Target::User(mid) => client.mid == mid,
            Target::Room(room) => client.is_surely_in(room),
            Target::Key(key) => client.key == Some(key),
            Target::Everyone => true,
        };
        meant
            && client.is_open()
            && !(self.not_to_self && self.sender == Some(index))
            && (!self.is_filtered() || client.surely_accepts(self.operation))
    }

    /// Why `client` may not receive it now.
    pub fn refuses(&self, index: usize, client: &Client) -> Option<&'static str> {
        let meant = match self.target {
            Target::User(mid) => client.mid == mid,
            Target::Room(room) => client.is_possibly_in(room),
            Target::Key(key) => client.key == Some(key),
            Target::Everyone => true,
        };
        if !meant {
            return Some("it is not meant");
        }
        if self.not_to_self && self.sender == Some(index) {
            return Some("it is the sender, who is left out");
        }
        if self.is_filtered() && !client.may_accept(self.operation) {
            return Some("it does not accept the operation");
        }
        matches!(self.outcome, Outcome::Refused { .. }).then_some("the message was refused")
    }

    pub fn duty(&self, index: usize, client: &Client) -> Duty {
        let leaving = match self.target {
            Target::Room(room) => client.rooms[room].leaving,
            _ => 0,
        };
        Duty { client: index, leaving, unsubscribed: client.unsubscribed }
    }

    /// Whether the duty still stands: the client is what it was when the message was sent.
    pub fn stands(&self, duty: &Duty, client: &Client) -> bool {
        self.must_reach(duty.client, client)
            && self.duty(duty.client, client).leaving == duty.leaving
            && client.unsubscribed == duty.unsubscribed
    }
}

/// The payload of message `number`, of at least 4 bytes.
pub fn payload(number: usize, size: usize) -> Vec<u8> {
    let mut payload = (number as u32).to_be_bytes().to_vec();
    payload.extend((0..size.saturating_sub(4)).map(|at| (number * 7 + at) as u8));
    payload
}

/// The number of the message with this payload.
pub fn number(payload: &[u8]) -> Option<usize> {
    Some(u32::from_be_bytes(*payload.first_chunk::<4>()?) as usize)
}
