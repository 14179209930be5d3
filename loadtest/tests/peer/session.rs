//! goim frames, on a TCP stream or in WebSocket messages.

use super::{Kind, Server};
use gateway_proto::auth::AuthRequest;
use gateway_proto::body::{Join, JoinReply, Position, SendMessage, SendMessageReply, Target};
use gateway_proto::codes::ErrorCode;
use gateway_proto::frame::{Frames, HEADER_SIZE, Header, Operation, Peek};
use gateway_proto::websocket::handshake::{HandshakeParse, HandshakeRules, Request, accept_response};
use gateway_proto::websocket::{self as ws, Decoded, Decoder, Limits, Opcode, Role, emit_header};
use netpoll::ConnectionId;
use std::time::Instant;

pub struct Session {
    pub kind: Kind,
    pub input: Vec<u8>,
    pub used_at: Instant,
    upgraded: bool,
    decoder: Decoder,
    pub mid: i64,
    pub key: String,
    pub room: String,
    pub joined: Vec<String>,
    pub accepts: Vec<i32>,
    ready: bool,
}

impl Session {
    pub fn new(kind: Kind) -> Session {
        Session {
            kind,
            input: Vec::new(),
            used_at: Instant::now(),
            upgraded: false,
            decoder: Decoder::default(),
            mid: 0,
            key: String::new(),
            room: String::new(),
            joined: Vec::new(),
            accepts: Vec::new(),
            ready: false,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    pub fn accepts(&self, operation: i32) -> bool {
        self.ready && self.accepts.contains(&operation)
    }
}

pub fn frame(operation: i32, sequence: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Header::new(Operation(operation), sequence, body.len() as u32).to_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

pub fn frames(server: &mut Server, id: ConnectionId, input: &[u8]) -> usize {
    let mut at = 0;
    while let Ok(Peek::Frame(header)) = Header::peek(&input[at..], 1 << 16) {
        let end = at + header.frame_size();
        handle(server, id, header, &input[at + HEADER_SIZE..end]);
        at = end;
    }
    at
}

pub fn messages(server: &mut Server, id: ConnectionId, input: &mut [u8]) -> usize {
    let session = server.sessions.get_mut(&id).unwrap();
    let mut at = 0;
    if !session.upgraded {
        let path = if session.kind == Kind::WebSocketEcho { "/" } else { "/sub" };
        let rules = HandshakeRules {
            path,
            origins: &[],
            protocols: &[],
            head_size_max: gateway_proto::websocket::handshake::HEAD_SIZE_MAX,
        };
        let Ok(HandshakeParse::Upgrade { consumed, request }) = Request::parse(input, &rules) else {
            return 0;
        };
        let mut response = [0; 512];
        let size = accept_response(request.key, None, &mut response).unwrap();
        session.upgraded = true;
        server.send(id, &response[..size]);
        at = consumed;
    }
    let limits = Limits { frame_payload_size_max: 1 << 20, message_size_max: 1 << 20, fragments_max: 1 };
    while at < input.len() {
        let Some(session) = server.sessions.get_mut(&id) else { return input.len() };
        match session.decoder.decode(&mut input[at..], &limits, Role::Server) {
            Ok(Decoded::Frame { consumed, payload, kind: ws::Kind::Data { .. } }) => {
                let message = input[at + payload.start..at + payload.end].to_vec();
                if session.kind == Kind::WebSocketEcho {
                    server.send(id, &binary(&message));
                } else {
                    for (header, body) in Frames::new(&message, 1 << 16).flatten() {
                        handle(server, id, header, body);
                    }
                }
                at += consumed;
            }
            Ok(Decoded::Frame { consumed, .. }) => at += consumed,
            _ => return at,
        }
    }
    at
}

fn binary(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 10];
    let size = emit_header(Opcode::Binary, true, message.len() as u64, &mut bytes).unwrap();
    bytes.truncate(size);
    bytes.extend_from_slice(message);
    bytes
}

fn handle(server: &mut Server, id: ConnectionId, header: Header, body: &[u8]) {
    let reply = |server: &mut Server, operation: Operation, body: &[u8]| {
        let bytes = frame(operation.0, header.sequence, body);
        server.send_frame(id, &bytes);
    };
    match header.operation {
        Operation::AUTH if server.faults.mute => {}
        Operation::AUTH => {
            let request = AuthRequest::parse(body, &mut []).unwrap();
            let session = server.sessions.get_mut(&id).unwrap();
            session.mid = request.mid;
            session.key = request.key.map_or("", |key| key.as_str()).to_owned();
            session.room = request.room.map_or("", |room| room.as_str()).to_owned();
            session.accepts = request.accepts.as_slice().iter().map(|operation| operation.0).collect();
            session.ready = true;
            reply(server, Operation::AUTH_REPLY, &[]);
        }
        Operation::JOIN => {
            let room = Join::parse(body).unwrap().room;
            let refused = server.faults.refuse_joins;
            let session = server.sessions.get_mut(&id).unwrap();
            assert!(session.ready && session.room != room.as_str(), "{}", session.room);
            assert!(!session.joined.iter().any(|joined| joined == room.as_str()), "{room:?} twice");
            session.joined.push(room.as_str().to_owned());
            let result = if refused { Err(ErrorCode::BUSY) } else { Ok(()) };
            let answer =
                JoinReply { result, recovered: false, position: Position::default(), members: 1, room };
            let mut out = vec![0; answer.encoded_size()];
            answer.emit(&mut out).unwrap();
            reply(server, Operation::JOIN_REPLY, &out);
        }
        Operation::HEARTBEAT => reply(server, Operation::HEARTBEAT_REPLY, &[0, 0, 0, 7]),
        Operation::SEND_MESSAGE => {
            let message = SendMessage::parse(body).unwrap();
            let operation = message.push_operation.map_or(1000, |operation| operation.get().0);
            let members = match message.target {
                Target::Room(room) => server.members(|session| session.room == room.as_str()),
                Target::Mid(mid) => server.members(|session| session.is_ready() && session.mid == mid),
                other => panic!("{other:?}"),
            };
            let push = frame(operation, 0, message.payload);
            let receivers = members.len() as u32;
            members.into_iter().for_each(|member| server.deliver(member, &push));
            let mut out = [0; SendMessageReply::SIZE];
            SendMessageReply { result: Ok(()), receivers }.emit(&mut out).unwrap();
            reply(server, Operation::SEND_MESSAGE_REPLY, &out);
        }
        operation => {
            let body = if server.faults.empty_replies { &[] } else { body };
            let bytes = frame(operation.reply().0, header.sequence, body);
            server.deliver(id, &bytes);
        }
    }
}

impl Server {
    /// Sends a frame in the framing of the connection; on WebSocket in an envelope, as goim pushes.
    pub(crate) fn send_frame(&mut self, id: ConnectionId, frame_bytes: &[u8]) {
        let Some(session) = self.sessions.get(&id) else { return };
        let is_push = frame_bytes[12..16] == [0; 4];
        match session.kind {
            Kind::WebSocket if is_push => self.send(id, &binary(&frame(9, 0, frame_bytes))),
            Kind::WebSocket => self.send(id, &binary(frame_bytes)),
            _ => self.send(id, frame_bytes),
        }
    }
}
