//! The bytes of clients: frames, WebSocket messages, and a reader of what the gateway sends.
//!
//! Written apart from `gateway-proto` on purpose: abuses need frames that the types there cannot
//! hold, and a reader that shares no code with the gateway checks it better.

use std::fmt;

pub(crate) const HEADER_SIZE: usize = 16;
/// The largest frame that a gateway may send to a client of this suite.
const FRAME_SIZE_MAX: usize = 20 << 20;

pub(crate) mod op {
    pub(crate) const HEARTBEAT: i32 = 2;
    pub(crate) const HEARTBEAT_REPLY: i32 = 3;
    pub(crate) const SEND: i32 = 4;
    pub(crate) const SEND_REPLY: i32 = 5;
    pub(crate) const AUTH: i32 = 7;
    pub(crate) const AUTH_REPLY: i32 = 8;
    pub(crate) const RAW: i32 = 9;
    pub(crate) const CHANGE_ROOM: i32 = 12;
    pub(crate) const SUBSCRIBE: i32 = 14;
    pub(crate) const UNSUBSCRIBE: i32 = 16;
    pub(crate) const APPLICATION: i32 = 50;
    pub(crate) const PUBLISH: i32 = 100;
    pub(crate) const PUBLISH_REPLY: i32 = 101;
    pub(crate) const DELIVER: i32 = 102;
    pub(crate) const DELIVER_ACK: i32 = 103;
    pub(crate) const JOIN: i32 = 104;
    pub(crate) const JOIN_REPLY: i32 = 105;
    pub(crate) const LEAVE: i32 = 106;
    pub(crate) const LEAVE_REPLY: i32 = 107;
    pub(crate) const RECONNECT: i32 = 110;
    pub(crate) const CLOSED: i32 = 111;
    pub(crate) const ERROR: i32 = 112;
    pub(crate) const PUSH: i32 = 1000;
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) operation: i32,
    pub(crate) sequence: i32,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// Code of a Closed (111) or Error (112) frame, or of a reply that begins with one.
    pub(crate) fn code(&self) -> i32 {
        match self.operation {
            op::CLOSED | op::ERROR => {
                self.body.get(..2).map_or(0, |two| i32::from(u16::from_be_bytes([two[0], two[1]])))
            }
            _ => self.word(0),
        }
    }

    /// The big-endian number at an offset of the body; 0 behind its end.
    pub(crate) fn word(&self, at: usize) -> i32 {
        let bytes = self.body.get(at..at + 4).and_then(|four| four.try_into().ok());
        bytes.map_or(0, i32::from_be_bytes)
    }
}

/// A frame with a correct header.
pub(crate) fn frame(operation: i32, sequence: i32, body: &[u8]) -> Vec<u8> {
    raw_frame((HEADER_SIZE + body.len()) as u32, 16, 1, operation, sequence, body)
}

/// A frame with any header.
pub(crate) fn raw_frame(
    length: u32,
    header: u16,
    version: u16,
    operation: i32,
    sequence: i32,
    body: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE + body.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&header.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&operation.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// The receiver of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To<'a> {
    Mid(i64),
    Uid(&'a str),
    Room(&'a str),
    Key(&'a str),
}

impl To<'_> {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            To::Mid(mid) => (1, mid.to_be_bytes().to_vec()),
            To::Uid(uid) => (2, uid.as_bytes().to_vec()),
            To::Room(room) => (3, room.as_bytes().to_vec()),
            To::Key(key) => (4, key.as_bytes().to_vec()),
        }
    }
}

/// SendMessage's flag: no reply unless nothing was reached.
pub(crate) const QUIET: u16 = 4;

/// The body of SendMessage (4); `push` 0 leaves the operation to the gateway.
pub(crate) fn send_body(to: To<'_>, flags: u16, push: i32, payload: &[u8]) -> Vec<u8> {
    let (kind, id) = to.parts();
    let mut out = vec![kind, id.len() as u8];
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&push.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id);
    out.extend_from_slice(payload);
    out
}

/// The body of Publish (100).
pub(crate) fn publish_body(to: To<'_>, message_id: &[u8], payload: &[u8]) -> Vec<u8> {
    let (kind, id) = to.parts();
    let mut out = vec![kind, id.len() as u8, 0, message_id.len() as u8, 0, 0, 0, 0];
    out.extend_from_slice(&id);
    out.extend_from_slice(message_id);
    out.extend_from_slice(payload);
    out
}

/// The body of Join (104).
pub(crate) fn join_body(room: &str) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend_from_slice(&(room.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(room.as_bytes());
    out
}

/// WebSocket opcodes.
pub(crate) mod ws {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// A client's WebSocket frame: masked, its length in the shortest form.
pub(crate) fn ws_frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = ws_head(opcode | if fin { 0x80 } else { 0 }, payload.len() as u64);
    const MASK: [u8; 4] = [0x5a, 0x21, 0xc3, 0x17];
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// First byte and masked length, as a client writes them; mask and payload are the caller's.
pub(crate) fn ws_head(first: u8, size: u64) -> Vec<u8> {
    let mut out = vec![first];
    match size {
        0..=125 => out.push(0x80 | size as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&size.to_be_bytes());
        }
    }
    out
}

/// The upgrade request of a well-behaved client.
pub(crate) fn upgrade_request(host: &str) -> String {
    format!(
        "GET /sub HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// What a gateway may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Frame(Frame),
    Ping(Vec<u8>),
    Pong,
    /// A WebSocket close frame's code.
    Close(u16),
}

/// Bytes that no gateway may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed bytes: {}", self.0)
    }
}

/// Cuts received bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    websocket: bool,
    input: Vec<u8>,
    at: usize,
    /// Frames of messages that came whole and wait to be taken, oldest last.
    ready: Vec<Frame>,
    message: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(websocket: bool) -> Reader {
        Reader { websocket, ..Reader::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 && self.at >= self.input.len() / 2 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// The next item that is there in full.
    ///
    /// # Errors
    /// Bytes that no gateway may send.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Malformed> {
        loop {
            if let Some(frame) = self.ready.pop() {
                return Ok(Some(Item::Frame(frame)));
            }
            if !self.websocket {
                let Some((frame, size)) = parse_frame(&self.input[self.at..])? else { return Ok(None) };
                self.at += size;
                return Ok(Some(Item::Frame(frame)));
            }
            match self.next_message()? {
                Step::Nothing => return Ok(None),
                Step::Data => {}
                Step::Control(item) => return Ok(Some(item)),
            }
        }
    }

    fn next_message(&mut self) -> Result<Step, Malformed> {
        let rest = &self.input[self.at..];
        let (Some(&first), Some(&second)) = (rest.first(), rest.get(1)) else { return Ok(Step::Nothing) };
        if second & 0x80 != 0 || first & 0x70 != 0 {
            return Err(Malformed("a masked or reserved WebSocket frame"));
        }
        let (head, size) = match second {
            126 => match rest.get(2..4) {
                Some(two) => (4, u64::from(u16::from_be_bytes([two[0], two[1]]))),
                None => return Ok(Step::Nothing),
            },
            127 => match rest.get(2..10).and_then(|eight| eight.try_into().ok()) {
                Some(eight) => (10, u64::from_be_bytes(eight)),
                None => return Ok(Step::Nothing),
            },
            short => (2, u64::from(short)),
        };
        if size > FRAME_SIZE_MAX as u64 {
            return Err(Malformed("a WebSocket length beyond any limit"));
        }
        let end = head + size as usize;
        let Some(payload) = rest.get(head..end) else { return Ok(Step::Nothing) };
        let step = match first & 0x0f {
            ws::CONTINUATION | ws::TEXT | ws::BINARY => {
                self.message.extend_from_slice(payload);
                Step::Data
            }
            ws::PING => Step::Control(Item::Ping(payload.to_vec())),
            ws::PONG => Step::Control(Item::Pong),
            ws::CLOSE => {
                let code = payload.get(..2).map_or(1005, |two| u16::from_be_bytes([two[0], two[1]]));
                Step::Control(Item::Close(code))
            }
            _ => return Err(Malformed("an unknown WebSocket opcode")),
        };
        self.at += end;
        if matches!(step, Step::Data) && first & 0x80 != 0 {
            let message = std::mem::take(&mut self.message);
            frames_of(&message, &mut self.ready)?;
            self.ready.reverse();
        }
        Ok(step)
    }
}

enum Step {
    Nothing,
    Data,
    Control(Item),
}

/// The first frame of `bytes`, and its size.
fn parse_frame(bytes: &[u8]) -> Result<Option<(Frame, usize)>, Malformed> {
    let Some(header) = bytes.get(..HEADER_SIZE) else { return Ok(None) };
    let word = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let size = word(0) as usize;
    if !(HEADER_SIZE..=FRAME_SIZE_MAX).contains(&size) || header[4..6] != [0, 16] {
        return Err(Malformed("a frame header"));
    }
    let Some(body) = bytes.get(HEADER_SIZE..size) else { return Ok(None) };
    Ok(Some((Frame { operation: word(8), sequence: word(12), body: body.to_vec() }, size)))
}

/// Appends the frames of a message, those in envelopes (operation 9) too.
fn frames_of(mut message: &[u8], out: &mut Vec<Frame>) -> Result<(), Malformed> {
    while !message.is_empty() {
        let Some((frame, size)) = parse_frame(message)? else {
            return Err(Malformed("a message that ends within a frame"));
        };
        message = &message[size..];
        if frame.operation == op::RAW { frames_of(&frame.body, out)? } else { out.push(frame) }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's frame: like a client's, without the mask.
    fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = ws_head(first, payload.len() as u64);
        out[1] &= 0x7f;
        out.extend_from_slice(payload);
        out
    }

    fn read_all(reader: &mut Reader) -> Vec<Item> {
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let bytes = [frame(3, 1, b""), frame(1000, 0, &[7; 300])].concat();
        let mut reader = Reader::new(false);
        let mut items = vec![];
        for byte in bytes {
            reader.push(&[byte]);
            items.extend(read_all(&mut reader));
        }
        let second = Frame { operation: 1000, sequence: 0, body: vec![7; 300] };
        let first = Frame { operation: 3, sequence: 1, body: vec![] };
        assert_eq!(items, [Item::Frame(first), Item::Frame(second)]);
    }

    #[test]
    fn messages_fragments_envelopes_and_control_frames_are_distinguished() {
        let envelope = frame(op::RAW, 0, &[frame(1000, 0, b"a"), frame(1001, 0, b"b")].concat());
        let mut reader = Reader::new(true);
        reader.push(&unmasked(2, &envelope[..20]));
        reader.push(&unmasked(0x80 | ws::PING, b"p"));
        reader.push(&unmasked(0x80, &envelope[20..]));
        reader.push(&unmasked(0x80 | ws::CLOSE, &3504_u16.to_be_bytes()));
        let items = read_all(&mut reader);
        assert_eq!(items[0], Item::Ping(b"p".to_vec()));
        let operations: Vec<i32> = items[1..3]
            .iter()
            .map(|item| if let Item::Frame(frame) = item { frame.operation } else { 0 })
            .collect();
        assert_eq!(operations, [1000, 1001]);
        assert_eq!(items[3], Item::Close(3504));
    }

    #[test]
    fn what_no_gateway_may_send_is_an_error() {
        for (websocket, bytes) in [
            (false, raw_frame(15, 16, 1, 3, 0, b"")),
            (false, raw_frame(16, 12, 1, 3, 0, b"")),
            (true, ws_frame(ws::BINARY, true, b"")),
            (true, unmasked(0x82, &frame(3, 0, b"")[..10])),
        ] {
            let mut reader = Reader::new(websocket);
            reader.push(&bytes);
            assert!(reader.next().is_err(), "{bytes:?}");
        }
    }
}
