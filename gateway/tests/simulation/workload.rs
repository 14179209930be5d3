//! What clients and services do, drawn step by step.

use crate::clients::{Client, Fate, Phase, Request, UNASKED_FROM};
use crate::hear::wire_target;
use crate::model::{self, Message, Outcome, Target};
use crate::note;
use crate::plan::Action;
use crate::tokens::{Token, uid};
use crate::wire;
use crate::world::World;
use gateway_proto::auth::{Accepts, AuthRequest};
use gateway_proto::body::{Join, MessageId, Name, Publish, PushOperation, RoomKey, SendMessage};
use gateway_proto::frame::Operation;
use netpoll::Backend;
use netpoll::Queues;
use std::time::Duration;

/// Bytes of a window that lets through about as many frames a second as a flooder may send, however
/// short the way.
const NARROW_WINDOW: usize = 16;

impl World {
    /// Does something; if `only_talk`, nothing that moves anybody.
    pub fn act(&mut self, only_talk: bool) {
        let weights = self.plan.weights;
        let all =
            || Action::ALL.into_iter().zip(weights).filter(|(action, _)| !only_talk || action.is_talk());
        let total: usize = all().map(|(_, weight)| weight).sum();
        if total == 0 {
            return;
        }
        let mut drawn = self.rng.below(total);
        let chosen = all().find(|(_, weight)| {
            let hit = drawn < *weight;
            drawn = drawn.wrapping_sub(*weight);
            hit
        });
        let (action, _) = chosen.expect("the draw lies below the sum");
        match action {
            Action::Connect => self.connect(),
            Action::PushToAll => self.push(Target::Everyone),
            Action::PushToName => {
                let target = match self.rng.chance(0.5) {
                    true => Target::User(self.some_user()),
                    false => Target::Key(self.rng.below(self.plan.keys)),
                };
                self.push(target);
            }
            Action::PushToRoom => {
                let room = self.rng.below(self.plan.rooms);
                self.push(Target::Room(room));
            }
            Action::Kick => self.kick(),
            Action::KickConnection => self.kick_connection(),
            Action::Echo => self.echo(),
            Action::Flood => {
                let room = self.rng.below(self.plan.rooms);
                let count = 2 + self.rng.below(8);
                self.flood(room, count);
            }
            Action::Race => self.race(),
            Action::Inspect => self.inspect(),
            Action::Reload => self.reload(),
            Action::Stall => self.stall(),
            action => {
                let usable: Vec<usize> =
                    (0..self.clients.len()).filter(|id| self.clients[*id].is_usable()).collect();
                if !usable.is_empty() {
                    let id = usable[self.rng.below(usable.len())];
                    self.client_acts(id, action);
                }
            }
        }
    }

    /// A user that is known by a number, or by a text.
    pub fn some_user(&mut self) -> i64 {
        let user = 1 + self.rng.below(self.plan.users) as i64;
        if self.rng.chance(self.plan.uids) { -user } else { user }
    }

    fn client_acts(&mut self, id: usize, action: Action) {
        let room = self.rng.below(self.plan.rooms);
        match action {
            Action::Heartbeat => self.heartbeat(id),
            Action::SendToUser => {
                let user = self.some_user();
                self.send(id, Target::User(user));
            }
            Action::SendToRoom => self.send(id, Target::Room(room)),
            Action::SendToKey => {
                let key = self.rng.below(self.plan.keys);
                self.send(id, Target::Key(key));
            }
            Action::Join => self.join(id, room),
            Action::Leave => self.leave(id, room),
            Action::Rejoin => {
                for _ in 0..1 + self.rng.below(3) {
                    self.leave(id, room);
                    self.join(id, room);
                }
            }
            Action::ChangeRoom => self.change_room(id, room),
            Action::Subscribe => {
                let operations: Vec<i32> =
                    (0..1 + self.rng.below(2)).map(|_| 1000 + self.rng.below(4) as i32).collect();
                let text: Vec<String> = operations.iter().map(i32::to_string).collect();
                let add = self.rng.chance(0.5);
                let request = Request::Subscribe { operations, add };
                self.request(id, if add { 14 } else { 16 }, request, text.join(",").as_bytes());
            }
            Action::Application => {
                let operation = [18, 200, 5000][self.rng.below(3)];
                let body = model::payload(id, self.rng.below(self.plan.payload_max + 1));
                let request = Request::Application { operation, body: body.clone() };
                self.request(id, operation, request, &body);
            }
            Action::Shuffle => self.shuffle(id),
            Action::Hog => self.hog(id),
            Action::Deafen => self.deafen(id),
            Action::Ping => self.ping(id),
            Action::Disconnect => self.disconnect(id),
            Action::Garbage => self.garbage(id),
            _ => unreachable!("not a client's action"),
        }
    }

    fn change_room(&mut self, id: usize, room: usize) {
        let room = self.rng.chance(0.8).then_some(room);
        let text = room.map(|room| format!("live://{room}")).unwrap_or_default();
        let left = self.clients[id].primary;
        self.request(id, 12, Request::ChangeRoom { room, left }, text.as_bytes());
    }

    /// Requests for rooms that build on each other, while the home of one of them is behind now and
    /// then.
    fn shuffle(&mut self, id: usize) {
        let behind = self.rng.below(self.plan.rooms);
        if self.rng.chance(0.5) {
            let home = self.room_name(behind).home(self.shards.len()).index();
            let time = Duration::from_micros(1 + self.rng.below(3000) as u64);
            self.stall_for(home, time);
            let count = self.rng.below(4);
            self.flood(behind, count);
        }
        for _ in 0..2 + self.rng.below(4) {
            if !self.clients[id].is_usable() {
                return;
            }
            let room = self.rng.below(self.plan.rooms);
            match self.rng.below(4) {
                0 => self.join(id, room),
                1 => self.leave(id, room),
                _ => self.change_room(id, room),
            }
        }
        if self.rng.chance(0.5) {
            self.flood(behind, 1);
        }
    }

    /// Takes all the rooms with long names that it gets. From here on it is not looked at: what
    /// others get is.
    fn hog(&mut self, id: usize) {
        if !self.clients[id].is_open() {
            return;
        }
        self.churn += 1;
        note!(self, "client {id} takes what it gets");
        self.clients[id].fate = Fate::Hog;
        for number in 0..32 {
            let room = format!("hog://{id}/{number}/{}", "x".repeat(220));
            let join = Join { room: RoomKey::parse(room.as_bytes()).expect("a room"), since: None };
            let mut body = [0; 300];
            let size = join.emit(&mut body).expect("a Join fits");
            self.say(id, &wire::frame(104, UNASKED_FROM + number, &body[..size]));
        }
    }

    pub fn join(&mut self, id: usize, room: usize) {
        let text = format!("live://{room}");
        let join = Join { room: RoomKey::parse(text.as_bytes()).expect("a room"), since: None };
        let mut body = [0; 64];
        let size = join.emit(&mut body).expect("a Join fits");
        self.request(id, 104, Request::Join { room }, &body[..size]);
    }

    pub fn leave(&mut self, id: usize, room: usize) {
        let text = format!("live://{room}");
        self.request(id, 106, Request::Leave { room }, text.as_bytes());
    }

    pub fn heartbeat(&mut self, id: usize) {
        self.request(id, 2, Request::Heartbeat, &[]);
    }

    fn request(&mut self, id: usize, operation: i32, request: Request, body: &[u8]) {
        let changes = matches!(
            request,
            Request::Join { .. }
                | Request::Leave { .. }
                | Request::ChangeRoom { .. }
                | Request::Subscribe { .. }
        );
        self.churn += u64::from(changes);
        note!(self, "client {id} asks {request:?}");
        let sequence = self.clients[id].ask(request);
        self.say(id, &wire::frame(operation, sequence, body));
    }

    /// Lets a client say something, over WebSocket in fragments now and then.
    pub fn say(&mut self, id: usize, frames: &[u8]) {
        let (cuts, mask, ping) = self.way_of_saying(frames.len());
        self.clients[id].say(frames, &cuts, mask, ping);
        self.has_spoken(id);
    }

    /// The same for a WebSocket message of any kind.
    pub fn say_message(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let (cuts, mask, ping) = self.way_of_saying(payload.len());
        self.clients[id].say_message(opcode, payload, &cuts, mask, ping);
        self.has_spoken(id);
    }

    /// Where a message is cut, its mask, and a ping in its middle.
    fn way_of_saying(&mut self, size: usize) -> (Vec<usize>, [u8; 4], Option<Vec<u8>>) {
        let mut cuts: Vec<usize> =
            (0..[0, 0, 0, 1, 3][self.rng.below(5)]).map(|_| self.rng.below(size.max(1))).collect();
        cuts.sort_unstable();
        let mask = (self.rng.next_u64() as u32).to_be_bytes();
        let ping = self.rng.chance(0.05).then(|| mask.to_vec());
        (cuts, mask, ping)
    }

    fn has_spoken(&mut self, id: usize) {
        let client = &mut self.clients[id];
        client.spoke(self.network.now());
        self.network.nudge(self.shards.len() + client.host);
    }

    fn ping(&mut self, id: usize) {
        if self.clients[id].websocket && self.clients[id].phase == Phase::Open {
            let payload = id.to_be_bytes()[..self.rng.below(9)].to_vec();
            let client = &mut self.clients[id];
            client.output.extend(wire::masked(wire::PING, true, &payload, [7; 4]));
            client.pings.push_back(payload);
            client.spoke(self.network.now());
            self.network.nudge(self.shards.len() + client.host);
        }
    }

    // --- coming and going --------------------------------------------------------------------------------------------

    fn connect(&mut self) {
        self.connect_to(None);
    }

    /// Connects a client that logs in to `room`, if one is given.
    pub fn connect_to(&mut self, room: Option<usize>) {
        let open = self.clients.iter().filter(|client| client.phase != Phase::Gone).count();
        if open >= self.plan.clients_max {
            return;
        }
        let host = self.rng.below(self.hosts.len());
        let echo = self.rng.chance(self.plan.echoes);
        let websocket = echo || self.rng.chance(0.5);
        let address = self.addresses[if echo { 2 } else { usize::from(websocket) }];
        let Ok(connection) = self.hosts[host].backend.connect(None, address) else { return };
        let id = self.clients.len();
        let mut client = Client::new(host, connection, websocket, self.plan.rooms);
        client.fate = if self.rng.chance(0.03) { Fate::Mute } else { Fate::None };
        client.echo = echo;
        let anonymous = self.rng.chance(0.1);
        client.mid = if anonymous && self.verifier.is_none() { 0 } else { self.some_user() };
        client.token = self.some_token();
        client.key = self.rng.chance(0.6).then(|| self.rng.below(self.plan.keys));
        client.platform = [None, Some("web"), Some("ios")][self.rng.below(3)];
        client.first_room = room.or_else(|| self.rng.chance(0.5).then(|| self.rng.below(self.plan.rooms)));
        client.accepts = (1000..1004).filter(|_| self.rng.chance(0.6)).collect();
        // A token says who somebody is, so a client need not.
        let says_who = !anonymous || client.token == Token::Other;
        client.auth = auth_body(&client, if says_who { client.mid } else { 0 });
        note!(
            self,
            "client {id} connects: mid {}, {:?}, key {:?}, room {:?}, {:?}, websocket {websocket}, echo {echo}, {:?}",
            client.mid,
            client.token,
            client.key,
            client.first_room,
            client.accepts,
            client.fate
        );
        self.hosts[host].clients.insert(connection.pack(0), id);
        self.clients.push(client);
    }

    fn some_token(&mut self) -> Token {
        if self.verifier.is_none() {
            return Token::NotNeeded;
        }
        match self.rng.below(20) {
            0 => Token::Forged,
            1 => Token::Missing,
            2 => Token::Other,
            3 => Token::Garbage,
            4..8 => Token::Ending(self.unix_ms() / 1000 + 1 + self.rng.below(30) as u64),
            _ => Token::Good,
        }
    }

    pub fn disconnect(&mut self, id: usize) {
        self.churn += 1;
        let client = &mut self.clients[id];
        client.fate = Fate::Left;
        let backend = &mut self.hosts[client.host].backend;
        let way = self.rng.below(3);
        match way {
            0 => backend.close(client.connection),
            1 => backend.finish(client.connection, None),
            _ => backend.cut(client.connection),
        }
        client.output.clear();
        note!(self, "client {id} leaves, way {way}");
    }

    /// A client leaves its socket unread until the round ends.
    fn deafen(&mut self, id: usize) {
        self.churn += 1;
        note!(self, "client {id} reads nothing from here on");
        let client = &mut self.clients[id];
        client.was_deaf = true;
        self.hosts[client.host].backend.set_receiving(client.connection, false);
        self.deaf.push(id);
    }

    /// Those that read nothing go on reading.
    pub fn hear_again(&mut self) {
        for id in std::mem::take(&mut self.deaf) {
            let client = &self.clients[id];
            if client.phase != Phase::Gone {
                self.hosts[client.host].backend.set_receiving(client.connection, true);
                self.network.nudge(self.shards.len() + client.host);
            }
        }
    }

    fn garbage(&mut self, id: usize) {
        self.churn += 1;
        let bytes: Vec<u8> = (0..1 + self.rng.below(40)).map(|_| self.rng.next_u64() as u8).collect();
        note!(self, "client {id} sends garbage {bytes:?}");
        let client = &mut self.clients[id];
        client.fate = Fate::Garbage;
        client.spoilt_at = self.network.now();
        client.output.extend(bytes);
        // What makes sense by chance, or is the beginning of something, ends with the connection.
        client.output.extend([0; 32]);
        self.network.nudge(self.shards.len() + client.host);
    }

    /// A client that is logged in sends without end from here on.
    pub fn begin_flood(&mut self) {
        let open = |id: &usize| self.clients[*id].is_open() && !self.clients[*id].echo;
        let Some(id) = (0..self.clients.len()).find(open) else { return };
        note!(self, "client {id} floods");
        self.churn += 1;
        self.clients[id].fate = Fate::Flooder;
        self.flooder = Some((id, self.network.now()));
    }

    /// A network of so narrow a window lets no flood far above the rate: it may go on for ever, and
    /// so ends of itself.
    pub fn give_up_slow_flood(&mut self) {
        if self.plan.faults.window.1 <= NARROW_WINDOW {
            self.flooder = None;
        }
    }

    /// Gives the flooder more to say when its socket has taken what it had, each millisecond at
    /// most: a socket whose peer is gone takes everything, and no time would pass.
    pub fn feed_flood(&mut self) {
        let now = self.network.now();
        let Some((id, _)) = self.flooder.filter(|(_, last)| now >= *last + Duration::from_millis(1)) else {
            return;
        };
        self.flooder = Some((id, now)).filter(|_| self.clients[id].phase != Phase::Gone);
        let client = &mut self.clients[id];
        let queued = self.hosts[client.host].backend.queued_bytes(client.connection);
        if client.farewell.is_some() || !client.output.is_empty() || queued > 4096 {
            return;
        }
        let beat = |number: i32| wire::frame(2, UNASKED_FROM + number, b"");
        let frames: Vec<u8> = (0..100).flat_map(beat).collect();
        client.say(&frames, &[], [7; 4], None);
        self.network.nudge(self.shards.len() + client.host);
    }

    // --- messages ----------------------------------------------------------------------------------------------------

    fn send(&mut self, id: usize, target: Target) {
        let publish = self.rng.chance(0.3);
        let not_to_self = self.rng.chance(0.3);
        let operation = (!publish && self.rng.chance(0.7)).then(|| 1000 + self.rng.below(4) as i32);
        let number = self.messages.len();
        let payload = model::payload(number, self.rng.below(self.plan.payload_max + 1));
        let text = self.target_text(target);
        let body = message_body(wire_target(target, &text), publish, not_to_self, operation, &payload);
        let operation = if publish { 102 } else { operation.unwrap_or(1000) };
        let message = Message {
            sender: Some(id),
            target,
            operation,
            not_to_self,
            payload,
            outcome: Outcome::Unknown,
            duties: vec![],
            expected: self.expected_receivers(id, target, not_to_self),
            judged: false,
        };
        self.enter_message(message);
        self.tally.uid_messages += u64::from(matches!(target, Target::User(user) if user < 0));
        note!(self, "client {id} sends message {number} to {target:?}, not to self: {not_to_self}");
        let request = Request::Send { message: number, publish };
        self.request(id, if publish { 100 } else { 4 }, request, &body);
    }

    /// Keeps a message with the connections that must receive it.
    pub fn enter_message(&mut self, mut message: Message) {
        let duties =
            self.clients.iter().enumerate().filter(|(index, client)| message.must_reach(*index, client));
        message.duties = duties.map(|(index, client)| message.duty(index, client)).collect();
        self.messages.push(message);
    }
}

fn auth_body(client: &Client, user: i64) -> Vec<u8> {
    let mut accepts = Accepts::default();
    client.accepts.iter().for_each(|operation| accepts.push(Operation(*operation)).expect("few operations"));
    let key = client.key.map(|key| format!("k{key}")).unwrap_or_default();
    let room = client.first_room.map(|room| format!("live://{room}")).unwrap_or_default();
    let uid = if user < 0 { uid(user) } else { String::new() };
    let token = client.token.text(client.mid);
    let request = AuthRequest {
        mid: user.max(0),
        uid: Name::parse(uid.as_bytes()).ok(),
        token: &token,
        key: Name::parse(key.as_bytes()).ok(),
        room: RoomKey::parse(room.as_bytes()).ok(),
        platform: client.platform.and_then(|platform| Name::parse(platform.as_bytes()).ok()),
        accepts,
        ..AuthRequest::default()
    };
    let mut out = [0; 1024];
    let size = request.emit(&mut out).expect("an Auth fits");
    out[..size].to_vec()
}

fn message_body(
    target: gateway_proto::body::Target<'_>,
    publish: bool,
    not_to_self: bool,
    operation: Option<i32>,
    payload: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; payload.len() + 512];
    let size = if publish {
        let message_id = MessageId::parse(b"m").expect("an id");
        Publish { target, message_id, not_to_self, traceparent: None, payload }.emit(&mut out)
    } else {
        let push_operation = operation.and_then(|operation| PushOperation::new(Operation(operation)));
        SendMessage { target, not_to_self, quiet: false, push_operation, traceparent: None, payload }
            .emit(&mut out)
    };
    out.truncate(size.expect("a message fits"));
    out
}
