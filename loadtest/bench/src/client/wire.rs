//! The bytes on the wire, prepared before the clock runs.

use gateway_proto::auth::AuthRequest;
use gateway_proto::body::{PushOperation, RoomKey, SendMessage, SendMessageReply, Target};
use gateway_proto::frame::{Header, Operation};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_header};

/// An operation of the application: echoed by a gateway whose bus is `echo`.
const ECHO: Operation = Operation(200);
/// The operation of fanned-out messages.
const PUSH: Operation = Operation(1000);
/// The room of all receivers.
const ROOM: &str = "bench://all";
/// Frames of one client all carry the same mask; what unmasking costs does not depend on it.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Payloads and nothing else.
    Raw,
    /// goim frames over TCP.
    Goim,
    /// goim frames, one in a binary WebSocket message.
    GoimWebSocket,
    /// Payloads in binary WebSocket messages.
    WebSocket,
}

/// One step of making a connection ready: what to send, and what must come back.
#[derive(Clone, Debug)]
pub struct Step {
    /// Sent first.
    pub request: Vec<u8>,
    /// Must come back.
    pub reply: Expected,
}

/// What must come back.
#[derive(Clone, Debug)]
pub enum Expected {
    /// The head of an HTTP response that switches protocols.
    Upgrade,
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Expected {
    /// Whether `got` matches: yes, not yet (`None`), or no.
    pub fn matches(&self, got: &[u8]) -> Option<bool> {
        match self {
            Expected::Bytes(bytes) if got.len() < bytes.len() => {
                if bytes.starts_with(got) {
                    None
                } else {
                    Some(false)
                }
            }
            Expected::Bytes(bytes) => Some(got == bytes),
            Expected::Upgrade if !got.ends_with(b"\r\n\r\n") => None,
            Expected::Upgrade => Some(got.starts_with(b"HTTP/1.1 101 ")),
        }
    }
}

impl Protocol {
    fn is_websocket(self) -> bool {
        matches!(self, Protocol::GoimWebSocket | Protocol::WebSocket)
    }

    fn is_goim(self) -> bool {
        matches!(self, Protocol::Goim | Protocol::GoimWebSocket)
    }

    /// The steps of connection number `index` before it is ready.
    pub fn steps(self, index: usize, room: bool) -> Vec<Step> {
        let mut steps = vec![];
        if self.is_websocket() {
            let request = "GET /sub HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
            steps.push(Step { request: request.into(), reply: Expected::Upgrade });
        }
        if self.is_goim() {
            let request = AuthRequest {
                mid: index as i64 + 1,
                room: if room { RoomKey::parse(ROOM.as_bytes()).ok() } else { None },
                ..AuthRequest::default()
            };
            let mut body = [0; 256];
            let size = request.emit(&mut body).unwrap_or(0);
            let request = self.client_says(&frame(Operation::AUTH, 1, &body[..size]));
            let reply = self.server_says(&frame(Operation::AUTH_REPLY, 1, &[]));
            steps.push(Step { request, reply: Expected::Bytes(reply) });
        }
        steps
    }

    /// A message to be echoed, and the echo.
    pub fn echo(self, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let inner = if self.is_goim() { frame(ECHO, 1, payload) } else { payload.to_vec() };
        (self.client_says(&inner), self.server_says(&inner))
    }

    /// A message to all `receivers`: what is sent, what each receives, and what the sender
    /// receives.
    pub fn fan_out(self, payload: &[u8], receivers: u32) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        if !self.is_goim() {
            return (self.client_says(payload), self.server_says(payload), vec![]);
        }
        let mut body = vec![0; payload.len() + 64];
        let size = RoomKey::parse(ROOM.as_bytes()).ok().and_then(|room| {
            let push_operation = PushOperation::new(PUSH);
            let target = Target::Room(room);
            SendMessage {
                target,
                not_to_self: true,
                quiet: false,
                push_operation,
                traceparent: None,
                payload,
            }
            .emit(&mut body)
        });
        body.truncate(size.unwrap_or(0));
        let mut reply = [0; SendMessageReply::SIZE];
        SendMessageReply { result: Ok(()), receivers }.emit(&mut reply);
        (
            self.client_says(&frame(Operation::SEND_MESSAGE, 1, &body)),
            self.server_says(&frame(PUSH, 0, payload)),
            self.server_says(&frame(Operation::SEND_MESSAGE_REPLY, 1, &reply)),
        )
    }

    fn server_says(self, inner: &[u8]) -> Vec<u8> {
        let mut out = if self.is_websocket() { websocket_header(inner.len()) } else { vec![] };
        out.extend_from_slice(inner);
        out
    }

    fn client_says(self, inner: &[u8]) -> Vec<u8> {
        if !self.is_websocket() {
            return inner.to_vec();
        }
        let mut out = websocket_header(inner.len());
        out[1] |= 0x80;
        out.extend_from_slice(&MASK);
        out.extend(inner.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }
}

fn websocket_header(size: usize) -> Vec<u8> {
    let mut header = [0; HEADER_SIZE_MAX];
    let used = emit_header(Opcode::Binary, true, size as u64, &mut header).unwrap_or(0);
    header[..used].to_vec()
}

fn frame(operation: Operation, sequence: i32, body: &[u8]) -> Vec<u8> {
    [&Header::new(operation, sequence, body.len() as u32).to_bytes()[..], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_twice_gives_the_payload_back() {
        let (request, reply) = Protocol::WebSocket.echo(b"0123456789");
        assert_eq!(request[..6], [0x82, 0x8a, 0x37, 0xfa, 0x21, 0x3d]);
        let payload: Vec<u8> =
            request[6..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((&payload[..], &reply[..2]), (&b"0123456789"[..], &[0x82, 10][..]));
    }

    #[test]
    fn an_answer_is_right_wrong_or_not_there_yet() {
        let expected = Expected::Bytes(b"abc".to_vec());
        assert_eq!(expected.matches(b"ab"), None);
        assert_eq!(expected.matches(b"abc"), Some(true));
        assert_eq!(expected.matches(b"abcd"), Some(false));
        assert_eq!(expected.matches(b"x"), Some(false));
        assert_eq!(Expected::Upgrade.matches(b"HTTP/1.1 101 Switching Protocols\r\n"), None);
        assert_eq!(Expected::Upgrade.matches(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Some(false));
    }
}
