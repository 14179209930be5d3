//! The control plane: pushes from services, kicks, questions, new values.
//!
//! Each request with a ticket is answered once, a broadcast once by each worker.

use crate::model::{self, Message as Sent, Outcome, Target};
use crate::note;
use crate::world::World;
use gateway_core::address::{Fingerprint, WorkerId};
use gateway_core::message::{ControlMessage, EncodedPush, Exclude, KickTarget, Message, Origin};
use gateway_core::message::{Inspection, Query};
use gateway_core::settings::{Reloadable, SlowConsumer};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Operation;
use netpoll::{BackendConfig, BufferPools, ConnectionId, Mailbox};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the control plane has under way.
pub struct Control {
    mailbox: Mailbox<ControlMessage>,
    pub pools: BufferPools,
    /// By worker: messages that its mailbox has not taken.
    outbox: Vec<VecDeque<Message>>,
    tickets: BTreeMap<u64, Ticket>,
    next_ticket: u64,
    pub kicks: usize,
    /// Connections that an operator has seen, by worker; most are gone.
    seen: Vec<(usize, ConnectionId)>,
}

/// A request that waits for workers.
struct Ticket {
    /// Answers that are still due.
    due: usize,
    /// How many connections each may speak of.
    receivers_max: u32,
    /// The message that is accepted or refused by them.
    message: Option<usize>,
}

impl Control {
    pub fn new(mailbox: Mailbox<ControlMessage>, workers: usize) -> Control {
        let mut pools = BackendConfig::small(1).pools;
        pools.blocks.iter_mut().for_each(|pool| pool.count *= 4);
        Control {
            mailbox,
            pools: BufferPools::new(&pools).expect("pools"),
            outbox: (0..workers).map(|_| VecDeque::new()).collect(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            kicks: 0,
            seen: vec![],
        }
    }

    pub fn is_at_rest(&self) -> bool {
        self.tickets.is_empty() && self.outbox.iter().all(VecDeque::is_empty)
    }

    fn ticket(&mut self, answers: usize) -> u64 {
        self.next_ticket += 1;
        let ticket = Ticket { due: answers, receivers_max: u32::MAX, message: None };
        self.tickets.insert(self.next_ticket, ticket);
        self.next_ticket
    }

    /// Takes an answer; returns the message that it is about, if it is about one.
    fn answered(&mut self, number: u64, receivers: u32) -> Option<usize> {
        let ticket =
            self.tickets.get_mut(&number).expect("control: an answer to no question, or one too many");
        let (max, message) = (ticket.receivers_max, ticket.message);
        assert!(receivers <= max, "control: {receivers} connections, {max} at most");
        ticket.due -= 1;
        if ticket.due == 0 {
            self.tickets.remove(&number);
        }
        message
    }

    pub fn tell(&mut self, worker: usize, message: Message) {
        self.outbox[worker].push_back(message);
    }
}

impl World {
    /// Hands over what the mailboxes take, and reads the answers.
    pub fn control_turn(&mut self) {
        let mut sent = false;
        for (worker, queue) in self.control.outbox.iter_mut().enumerate() {
            while let Some(message) = queue.pop_front() {
                sent = true;
                if let Err(message) = self.shards[worker].sender.send(message) {
                    queue.push_front(message);
                    break;
                }
            }
        }
        while let Some(message) = self.control.mailbox.pop() {
            match message {
                ControlMessage::Outcome { ticket, result } => {
                    let message = self.control.answered(ticket, result.unwrap_or(0));
                    if let Some((message, code)) = message.zip(result.err()) {
                        self.push_refused(message, code);
                    }
                }
                ControlMessage::Inspected(inspection) => {
                    self.control.answered(inspection.ticket(), 0);
                }
                ControlMessage::Audit(_) | ControlMessage::Stopped(_) => {}
            }
        }
        if sent {
            self.note_mail();
        }
    }

    /// A service's push to everyone, a user, a key or a room.
    pub fn push(&mut self, target: Target) {
        let operation = 1000 + self.rng.below(4) as i32;
        let number = self.messages.len();
        let payload = model::payload(number, self.rng.below(self.plan.payload_max + 1));
        let message = Sent {
            sender: None,
            target,
            operation,
            not_to_self: false,
            payload,
            outcome: Outcome::Accepted { receivers: 0 },
            duties: vec![],
            expected: None,
            judged: false,
        };
        let workers = self.shards.len();
        let everyone = target == Target::Everyone;
        if everyone && !self.places.take_for_everyone() {
            return; // refused before it is anything
        }
        let push = self.encode(&message);
        self.enter_message(message);
        let ticket = self.control.ticket(if everyone { workers } else { 1 });
        if let Some(ticket) = self.control.tickets.get_mut(&ticket) {
            ticket.message = Some(number);
        }
        let origin = Origin::Control { ticket };
        note!(self, "control pushes message {number} to {target:?}");
        let exclude = Exclude::default();
        let (home, message) = match target {
            Target::Everyone => {
                let rate = [0, 0, 300, 5000][self.rng.below(4)];
                for worker in 0..workers {
                    self.control.tell(worker, Message::ToAll { push: push.clone(), rate, origin });
                }
                return;
            }
            Target::User(mid) => {
                let name = self.user_name(mid);
                (name.home(workers), Message::ToName { name, push, exclude, origin })
            }
            Target::Key(key) => {
                let name = self.key_name(key);
                (name.home(workers), Message::ToName { name, push, exclude, origin })
            }
            Target::Room(room) => {
                let room = self.room_name(room);
                (room.home(workers), Message::ToRoom { room, push, exclude, origin })
            }
        };
        self.control.tell(home.index(), message);
    }

    /// A push was refused: no connection gets it.
    fn push_refused(&mut self, number: usize, code: ErrorCode) {
        note!(self, "control learns that message {number} is refused: {code}");
        let got = self.clients.iter().position(|client| client.received.contains(&number));
        assert_eq!(got, None, "pushes: a client got message {number}, which was refused with {code}");
        self.messages[number].outcome = Outcome::Refused { code: code.get() };
        self.tally.pushes_refused += u64::from(code == ErrorCode::BUSY);
    }

    fn encode(&mut self, message: &Sent) -> EncodedPush {
        let bodies = [&message.payload[..]];
        let size = EncodedPush::encoded_size(&bodies).expect("one body");
        let block = self.control.pools.take(size).expect("control has buffers enough");
        EncodedPush::encode(block, message.class(), Operation(message.operation), &bodies)
    }

    pub fn user_name(&self, user: i64) -> Fingerprint {
        if user < 0 { self.names.uid(&crate::tokens::uid(user)) } else { self.names.mid(user) }
    }

    pub fn key_name(&self, key: usize) -> Fingerprint {
        self.names.key(&format!("k{key}"))
    }

    pub fn room_name(&self, room: usize) -> Fingerprint {
        self.names.room(&format!("live://{room}"))
    }

    /// Closes a user's or a key's connections.
    pub fn kick(&mut self) {
        let workers = self.shards.len();
        let ticket = self.control.ticket(1);
        let name = match self.rng.chance(0.5) {
            true => {
                let user = self.some_user();
                self.user_name(user)
            }
            false => {
                let key = self.rng.below(self.plan.keys);
                self.key_name(key)
            }
        };
        self.churn += 1;
        self.control.kicks += 1;
        note!(self, "control kicks {name:?}");
        let target = KickTarget::Name(name);
        let code = CloseCode::KICKED;
        let reason = self
            .rng
            .chance(0.5)
            .then(|| self.control.pools.copy(b"why not").expect("control has buffers enough").freeze());
        self.control.tell(name.home(workers).index(), Message::Kick { target, code, reason, ticket });
    }

    /// Closes one connection, by an address that was good when an operator saw it: now, or a while
    /// ago.
    pub fn kick_connection(&mut self) {
        let worker = self.rng.below(self.shards.len());
        let slot = self.rng.below(32);
        let there = self.shards[worker].worker.shard().sessions.at(slot).map(|session| session.connection);
        self.control.seen.extend(there.map(|connection| (worker, connection)));
        if self.control.seen.is_empty() {
            return;
        }
        let newest = self.control.seen.len() - 1;
        let chosen = if self.rng.chance(0.5) { newest } else { self.rng.below(newest + 1) };
        let (worker, connection) = self.control.seen[chosen];
        let is_there = self.shards[worker].worker.shard().sessions.get(connection).is_some();
        let ticket = self.control.ticket(1);
        if let Some(ticket) = self.control.tickets.get_mut(&ticket) {
            ticket.receivers_max = u32::from(is_there);
        }
        self.tally.kicked_connections += u64::from(is_there);
        self.tally.kicked_nobody += u64::from(!is_there);
        self.churn += 1;
        self.control.kicks += usize::from(is_there);
        note!(self, "control kicks {connection:?} of worker {worker}, which is there: {is_there}");
        let target = KickTarget::Connection(connection);
        let code = CloseCode::KICKED;
        self.control.tell(worker, Message::Kick { target, code, reason: None, ticket });
    }

    /// Asks a worker for a list.
    pub fn inspect(&mut self) {
        let ticket = self.control.ticket(1);
        let worker = self.rng.below(self.shards.len());
        let room = self.room_name(0);
        let queries = [
            Query::Connections { from: 0, user: None, key: None },
            Query::Connections { from: 1, user: Some(self.names.mid(1)), key: None },
            Query::Rooms { from: 0 },
            Query::Room(room),
        ];
        let query = queries[self.rng.below(queries.len())];
        let limit = 1 + self.rng.below(9);
        let inspection = Inspection::new(ticket, WorkerId(worker as u8), query, limit);
        self.control.tell(worker, Message::Inspect(inspection));
    }

    /// Other policies for slow consumers.
    pub fn reload(&mut self) {
        let slow = |rng: &mut netpoll::sim::Rng| [SlowConsumer::Drop, SlowConsumer::Close][rng.below(2)];
        let rng = &mut self.rng;
        let reloadable = Arc::new(Reloadable {
            slow_consumer: [SlowConsumer::Close, slow(rng), slow(rng), slow(rng)],
            ..self.plan.settings.reloadable.clone()
        });
        for worker in 0..self.shards.len() {
            self.control.tell(worker, Message::Reload(Arc::clone(&reloadable)));
        }
    }

    /// The same message to every worker.
    pub fn tell_all(&mut self, message: impl Fn() -> Message) {
        for worker in 0..self.shards.len() {
            self.control.tell(worker, message());
        }
    }
}
