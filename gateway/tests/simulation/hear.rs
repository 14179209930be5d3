//! What clients hear, held against what they may hear.

use crate::clients::{Client, Fate, Phase, Request};
use crate::model::{self, Message, Outcome, Target};
use crate::note;
use crate::tokens::uid;
use crate::wire::{self, Frame, Said};
use crate::world::{UNIX_START_MS, World};
use gateway_proto::body::{
    Closed, Deliver, Error, HeartbeatReply, JoinReply, LeaveReply, Name, PublishReply, RoomKey,
    SendMessageReply, Target as WireTarget,
};
use gateway_proto::codes::ErrorCode;
use gateway_proto::websocket::handshake::{ResponseParse, verify_response};
use netpoll::{Completion, ConnectionId};
use std::collections::VecDeque;

impl World {
    /// Something happened to a client's connection.
    pub fn completion(&mut self, host: usize, completion: Completion) {
        match completion {
            Completion::Connected { connection } => self.connected(host, connection),
            Completion::Received { connection, buffer } => self.heard(host, connection, buffer.as_slice()),
            Completion::Closed { connection, reason } => {
                let id = self.client_of(host, connection).expect("clients: closed twice, or never open");
                note!(self, "client {id} is closed: {reason:?}");
                self.hosts[host].clients.remove(&connection.pack(0));
                self.churn += 1;
                let client = &mut self.clients[id];
                client.ended_in = std::mem::replace(&mut client.phase, Phase::Gone);
                client.end = Some(reason);
                self.judge_end(id);
            }
            Completion::Sent { .. } | Completion::PeerFinished { .. } => {}
            Completion::Accepted { .. } => panic!("clients do not listen"),
        }
    }

    fn connected(&mut self, host: usize, connection: ConnectionId) {
        let id = self.client_of(host, connection).expect("clients: connected, but never asked for");
        note!(self, "client {id} is connected");
        let client = &mut self.clients[id];
        client.phase = if client.websocket { Phase::Upgrading } else { Phase::LoggingIn };
        client.spoke(self.network.now());
        if client.fate == Fate::Mute {
            return;
        }
        if client.websocket {
            let nonce = [id as u8; 16];
            let mut out = [0; 512];
            let request =
                gateway_proto::websocket::handshake::client_request("/sub", "sim", nonce, None, &mut out);
            let (size, key) = request.expect("a request");
            client.nonce = Some(key);
            client.output.extend(&out[..size]);
        } else {
            self.log_in(id);
        }
    }

    /// Sends the Auth frame.
    fn log_in(&mut self, id: usize) {
        self.churn += 1;
        let client = &mut self.clients[id];
        client.phase = Phase::LoggingIn;
        let sequence = client.ask(Request::Auth);
        let frame = wire::frame(7, sequence, &client.auth);
        note!(self, "client {id} logs in");
        self.say(id, &frame);
    }

    fn heard(&mut self, host: usize, connection: ConnectionId, bytes: &[u8]) {
        let id = self.client_of(host, connection).expect("clients: bytes of a dead connection");
        self.clients[id].input.extend_from_slice(bytes);
        if self.clients[id].phase == Phase::Upgrading && !self.upgraded(id) {
            return;
        }
        if self.clients[id].echo {
            return self.take_echoes(id);
        }
        let client = &mut self.clients[id];
        let mut said = VecDeque::new();
        match client.websocket {
            true => wire::take_websocket(&mut client.input, &mut said),
            false => wire::take_tcp(&mut client.input, &mut said),
        }
        for said in said {
            self.said(id, said);
        }
    }

    /// Whether the answer to the upgrade request has come.
    fn upgraded(&mut self, id: usize) -> bool {
        let client = &mut self.clients[id];
        // Too late, or the server shuts down: FIN follows.
        if [&b"HTTP/1.1 408 "[..], b"HTTP/1.1 503 "].iter().any(|refusal| client.input.starts_with(refusal)) {
            return false;
        }
        let Some(key) = client.nonce else {
            assert!(client.input.len() < 13, "clients: {:?} answers no request", client.input);
            return false;
        };
        match verify_response(&client.input, &key) {
            Ok(ResponseParse::Incomplete) => false,
            Ok(ResponseParse::Accepted { consumed }) => {
                client.input.drain(..consumed);
                match client.echo {
                    true => client.phase = Phase::Echoing,
                    false => self.log_in(id),
                }
                true
            }
            Err(error) => panic!("clients: the upgrade was answered by {error}"),
        }
    }

    pub fn said(&mut self, id: usize, said: Said) {
        let client = &mut self.clients[id];
        match said {
            Said::Frame(frame) => {
                assert!(client.farewell.is_none(), "order: client {id} heard {frame:?} after the last word");
                self.frame(id, frame);
            }
            Said::Message(..) => unreachable!("only echoes are told bare messages"),
            Said::Pong(payload) => {
                let ping = client.pings.pop_front();
                let garbled = client.fate == Fate::Garbage;
                assert!(
                    garbled || ping == Some(payload),
                    "replies: client {id} got a pong to no ping, or out of order"
                );
            }
            Said::Close(code) => {
                note!(self, "client {id} heard a close frame, {code:?}");
                self.churn += 1;
                let client = &mut self.clients[id];
                let first = client.farewell.is_none();
                assert!(first || client.farewell == code, "farewell: client {id} heard two codes");
                if first {
                    client.farewell_at = self.network.now();
                }
                client.farewell = code.or(Some(1005));
                if client.fate == Fate::None && self.rng.chance(0.7) {
                    let payload = code.map_or(vec![], |code| code.to_be_bytes().to_vec());
                    self.clients[id].output.extend(wire::masked(wire::CLOSE, true, &payload, [3, 5, 7, 11]));
                    self.network.nudge(self.shards.len() + self.clients[id].host);
                }
            }
        }
    }

    fn frame(&mut self, id: usize, frame: Frame) {
        note!(self, "client {id} hears {} #{} ({} B)", frame.operation, frame.sequence, frame.body.len());
        match frame.operation {
            102 | 1000.. if frame.sequence == 0 => self.pushed(id, &frame),
            110 => self.clients[id].reconnect = true,
            111 => {
                let closed = Closed::parse(&frame.body).expect("wire: a Closed");
                note!(self, "client {id} is told {}: {:?}", closed.code, closed.reason);
                self.churn += 1;
                self.clients[id].farewell = Some(closed.code.get());
                self.clients[id].farewell_at = self.network.now();
            }
            112 => self.refused(id, &frame),
            _ => self.replied(id, &frame),
        }
    }

    // --- pushes ------------------------------------------------------------------------------------------------------

    fn pushed(&mut self, id: usize, frame: &Frame) {
        let payload = match frame.operation {
            102 => Deliver::parse(&frame.body).expect("wire: a Deliver").payload,
            _ => &frame.body[..],
        };
        let number = model::number(payload).expect("pushes: a payload too short to be a message");
        let message = self.messages.get(number).expect("pushes: no such message");
        assert!(payload == message.payload, "pushes: message {number} came changed");
        assert_eq!((frame.operation, frame.sequence), (message.operation, 0), "pushes: message {number}");
        if frame.operation == 102 {
            self.check_deliver(message, &frame.body);
        }
        let client = &self.clients[id];
        if let Some(why) = message.refuses(id, client) {
            panic!("pushes: client {id} got message {number} to {:?}: {why}", message.target);
        }
        let stream = (message.sender, message.target);
        let client = &mut self.clients[id];
        assert!(client.received.insert(number), "pushes: client {id} got message {number} twice");
        if let Some(last) = client.last.insert(stream, number) {
            assert!(last < number, "pushes: client {id} got message {number} after {last} of {stream:?}");
        }
    }

    fn check_deliver(&self, message: &Message, body: &[u8]) {
        let prefix = Deliver::parse(body).expect("wire: a Deliver").prefix;
        let sender = message.sender.map(|sender| self.clients[sender].mid);
        let text = |user: i64| if user < 0 { uid(user) } else { user.to_string() };
        let name = sender.filter(|mid| *mid != 0).map(text);
        if let Some(name) = name {
            assert_eq!(prefix.sender, Name::parse(name.as_bytes()).ok(), "pushes: another sender");
        }
        let text = self.target_text(message.target);
        assert_eq!(prefix.stream, wire_target(message.target, &text), "pushes: another stream");
        assert!(prefix.server_time_ms >= UNIX_START_MS, "pushes: sent before the server's start");
        assert!(
            prefix.server_time_ms <= UNIX_START_MS + self.network.now().as_millis(),
            "pushes: sent in the future"
        );
    }

    pub fn target_text(&self, target: Target) -> String {
        match target {
            Target::Room(room) => format!("live://{room}"),
            Target::Key(key) => format!("k{key}"),
            Target::User(user) if user < 0 => uid(user),
            Target::User(_) | Target::Everyone => String::new(),
        }
    }

    // --- replies -----------------------------------------------------------------------------------------------------

    fn replied(&mut self, id: usize, frame: &Frame) {
        let client = &mut self.clients[id];
        let sequence = frame.sequence;
        let Some(request) = client.pending.remove(&sequence) else {
            if client.is_unasked(frame) {
                return;
            }
            panic!("replies: client {id} got {frame:?} and had not asked, or had its answer");
        };
        let at_once = matches!(
            request,
            Request::Heartbeat
                | Request::Leave { .. }
                | Request::Subscribe { .. }
                | Request::Application { .. }
        );
        if at_once {
            client.check_order(id, sequence);
        }
        let expected = match &request {
            Request::Auth => 8,
            Request::Heartbeat => 3,
            Request::Send { publish: false, .. } => 5,
            Request::Send { publish: true, .. } => 101,
            Request::Join { .. } => 105,
            Request::Leave { .. } => 107,
            Request::ChangeRoom { .. } => 13,
            Request::Subscribe { add: true, .. } => 15,
            Request::Subscribe { add: false, .. } => 17,
            Request::Application { operation, .. } => *operation,
        };
        assert_eq!(frame.operation, expected, "replies: client {id} asked {request:?}");
        match request {
            Request::Send { message, publish } => self.outcome(id, message, publish, &frame.body),
            request => {
                let entered = self.clients[id].answered(id, sequence, request, &frame.body);
                if let Some(room) = entered.filter(|_| !self.stopping) {
                    self.probe(room);
                }
            }
        }
    }

    /// A push in the moment in which somebody has entered: now the room's home must know.
    fn probe(&mut self, room: usize) {
        if self.contested == Some(room) || self.rng.chance(self.plan.probes) {
            self.tally.probes += 1;
            self.push(Target::Room(room));
        }
    }

    fn outcome(&mut self, id: usize, message: usize, publish: bool, body: &[u8]) {
        let (result, receivers) = if publish {
            let reply = PublishReply::parse(body).expect("wire: a PublishReply");
            (reply.result, reply.receivers)
        } else {
            let reply = SendMessageReply::parse(body).expect("wire: a SendMessageReply");
            (reply.result, reply.receivers)
        };
        note!(self, "client {id} learns of message {message}: {result:?}, {receivers}");
        let message = &mut self.messages[message];
        message.outcome = match result {
            Ok(()) => Outcome::Accepted { receivers },
            Err(code) => Outcome::Refused { code: code.get() },
        };
        assert!(result.is_ok() || receivers == 0, "replies: a refused message has receivers");
    }

    /// Operation 112: the request had a fault, or there was no room for what it asked for.
    fn refused(&mut self, id: usize, frame: &Frame) {
        let error = Error::parse(&frame.body).expect("wire: an Error");
        let client = &mut self.clients[id];
        if client.is_unasked(frame) {
            return;
        }
        if client.fate == Fate::Flooder && error.code.get() == 429 {
            // What it asked before may have been refused for what came behind it; its rooms are not
            // known from here on.
            if client.pending.remove(&frame.sequence).is_some() {
                client.blur();
            }
            return;
        }
        let code = error.code.get();
        note!(self, "client {id} is refused #{}: {code}", frame.sequence);
        let client = &mut self.clients[id];
        if error.operation.0 == 7 && code == 503 {
            // Logged in, but not in the room: the Error follows the reply.
            assert!(
                self.plan.tight && client.phase == Phase::Open,
                "replies: no room at client {id}'s login"
            );
            client.not_entered();
            return;
        }
        match client.pending.remove(&frame.sequence) {
            Some(Request::Subscribe { add: true, .. }) => {
                client.check_order(id, frame.sequence);
                assert!(self.plan.tight && code == 413, "replies: a subscription was refused with {code}");
            }
            Some(Request::Subscribe { .. }) => {
                client.check_order(id, frame.sequence);
                assert!(self.plan.tight, "replies: an unsubscription was refused with {code}");
            }
            Some(Request::ChangeRoom { .. }) => {
                assert!([413, 503].contains(&code), "replies: a change of rooms was refused with {code}");
                client.blur();
            }
            request => panic!("replies: client {id} had {request:?} refused with {code}"),
        }
    }
}

impl Client {
    fn check_order(&mut self, id: usize, sequence: i32) {
        assert!(
            sequence > self.answered,
            "replies: client {id} got reply {sequence} after {}",
            self.answered
        );
        self.answered = sequence;
    }

    /// Takes a reply in. Returns the room that the client now is in for sure.
    fn answered(&mut self, id: usize, sequence: i32, request: Request, body: &[u8]) -> Option<usize> {
        match request {
            Request::Auth => {
                assert!(body.is_empty(), "replies: goim's AuthReply is empty");
                assert!(self.token.is_valid(), "auth: client {id} got in with {:?}", self.token);
                self.phase = Phase::Open;
                if let Some(room) = self.first_room {
                    self.entered(room, sequence);
                }
                return self.first_room.filter(|room| self.is_surely_in(*room));
            }
            Request::Heartbeat => {
                let reply = HeartbeatReply::parse(body).expect("wire: a HeartbeatReply");
                self.online = Some(reply.online);
            }
            Request::Join { room } => {
                let reply = JoinReply::parse(body).expect("wire: a JoinReply");
                assert_eq!(reply.room.as_str(), format!("live://{room}"), "replies: client {id}");
                match reply.result {
                    Ok(()) => {
                        self.entered(room, sequence);
                        return Some(room).filter(|room| self.is_surely_in(*room));
                    }
                    Err(ErrorCode::ALREADY) => {} // the Join before this one is under way
                    Err(_) => self.blur(),
                }
            }
            Request::Leave { room } => {
                let reply = LeaveReply::parse(body).expect("wire: a LeaveReply");
                assert_eq!(reply.room.as_str(), format!("live://{room}"), "replies: client {id}");
                self.left(room, sequence);
            }
            Request::ChangeRoom { room, left } => {
                let text = room.map(|room| format!("live://{room}")).unwrap_or_default();
                assert_eq!(body, text.as_bytes(), "replies: client {id} changed to another room");
                if let Some(left) = left {
                    self.left(left, sequence);
                }
                if let Some(room) = room {
                    self.entered(room, sequence);
                }
                return room.filter(|room| self.is_surely_in(*room));
            }
            Request::Subscribe { operations, add } => {
                assert!(body.is_empty(), "replies: the reply to a subscription is empty");
                for operation in operations {
                    if add {
                        self.accepts.insert(operation)
                    } else {
                        self.accepts.remove(&operation)
                    };
                }
            }
            Request::Application { body: sent, .. } => {
                assert!(body == sent, "replies: client {id} got another echo");
            }
            Request::Send { .. } => unreachable!("messages have an outcome"),
        }
        None
    }
}

/// A target as it is written.
pub fn wire_target(target: Target, text: &str) -> WireTarget<'_> {
    match target {
        Target::User(user) if user < 0 => WireTarget::Uid(Name::parse(text.as_bytes()).expect("a uid")),
        Target::User(mid) => WireTarget::Mid(mid),
        Target::Room(_) => WireTarget::Room(RoomKey::parse(text.as_bytes()).expect("a room")),
        Target::Key(_) => WireTarget::Connection(Name::parse(text.as_bytes()).expect("a key")),
        Target::Everyone => unreachable!("clients do not write to everyone"),
    }
}
