//! Fuzz bodies: any bytes in, an assertion fails where an oracle does.
//!
//! Plain functions, so that `cargo test` runs them over the corpus and `fuzz/` runs them under a
//! fuzzer. The first bytes of an input choose limits, roles and cuts; the rest is what the peer
//! sends.
//!
//! | body | oracles |
//! |---|---|
//! | [`frame`] | a prefix says "incomplete" or what the whole says; emit is the inverse of peek |
//! | [`websocket`] | byte by byte gives the same frames; headers re-emit; masking is an involution |
//! | [`handshake`] | a prefix gives "incomplete" or the same result; the client accepts the answer |
//! | [`auth`] | every field within its limit; parse ∘ emit is the identity |
//! | [`bodies`] | emit writes the parsed bytes again, in exactly `encoded_size` |

#[cfg(test)]
mod tests;

use crate::auth::{ACCEPTS_MAX, AuthError, AuthRequest, KEY_SIZE_MAX, SCRATCH_SIZE_MAX, TOKEN_SIZE_MAX};
use crate::body::{
    ChangeRoom, Closed, Deliver, DeliverAck, Error, HeartbeatReply, Join, JoinReply, Leave, LeaveReply, Name,
    OPERATIONS_MAX, OperationList, Publish, PublishReply, Reconnect, SendMessage, SendMessageReply,
};
use crate::frame::{Frames, HEADER_SIZE, Header, Peek};
use crate::websocket::handshake::{
    HandshakeError, HandshakeParse, HandshakeRules, Request, ResponseParse, accept_response, client_request,
    verify_response,
};
use crate::websocket::{
    Decoded, Decoder, Kind, Limits, MASKED_HEADER_SIZE_MAX, Opcode, Role, WebSocketError, apply_mask,
    emit_header, emit_masked_header,
};

/// The most bytes of an input that are looked at.
const INPUT_SIZE_MAX: usize = 4096;

/// Takes a choice from the input's front; 0 from an empty one.
fn choose(input: &mut &[u8]) -> u8 {
    let Some((&choice, rest)) = input.split_first() else { return 0 };
    *input = rest;
    choice
}

fn cap(input: &[u8]) -> &[u8] {
    input.get(..INPUT_SIZE_MAX).unwrap_or(input)
}

/// Frames of the TCP stream, and inside messages.
pub fn frame(mut input: &[u8]) {
    let body_size_max = match choose(&mut input) {
        0xff => u32::MAX,
        choice => u32::from(choice) * 8,
    };
    let bytes = cap(input);
    let whole = Header::peek(bytes, body_size_max);
    for cut in 0..bytes.len().min(HEADER_SIZE * 2) {
        match Header::peek(&bytes[..cut], body_size_max) {
            Ok(Peek::Incomplete { needed }) => assert!(needed > cut),
            decided => assert_eq!(decided, whole),
        }
    }
    if let Ok(Peek::Frame(header)) = whole {
        let size = header.frame_size();
        assert!(size <= bytes.len() && header.body_size <= body_size_max);
        assert_eq!(header.to_bytes(), bytes[..HEADER_SIZE]);
        assert_eq!(Header::peek(&bytes[..size], header.body_size), whole);
        let short = Header::peek(&bytes[..size - 1], body_size_max);
        assert_eq!(short, Ok(Peek::Incomplete { needed: size }));
    }
    let (mut total, mut failed) = (0, false);
    for item in Frames::new(bytes, body_size_max) {
        assert!(!failed, "an error is the last item");
        match item {
            Ok((header, body)) => {
                assert_eq!(&bytes[total + HEADER_SIZE..total + header.frame_size()], body);
                total += header.frame_size();
            }
            Err(_) => failed = true,
        }
    }
    assert!(failed != (total == bytes.len()));
}

/// What a decoder made of a byte stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    frames: usize,
    consumed: usize,
    /// Over kinds and payloads.
    digest: u64,
    error: Option<WebSocketError>,
    decoder: Decoder,
}

/// FNV-1a.
fn digest(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn kind_tag(kind: &Kind) -> [u8; 3] {
    match kind {
        Kind::Data { text, first, last } => [u8::from(*text), u8::from(*first), u8::from(*last)],
        Kind::Ping => [2, 0, 0],
        Kind::Pong => [3, 0, 0],
        Kind::Close { code, .. } => {
            let [high, low] = code.map_or(0, |code| code.get()).to_be_bytes();
            [4, high, low]
        }
    }
}

/// Decodes the stream as it arrives, `step` bytes at a time.
fn decode_all(bytes: &[u8], step: usize, limits: &Limits, role: Role) -> Outcome {
    let mut buffer = [0; INPUT_SIZE_MAX];
    let buffer = &mut buffer[..bytes.len()];
    buffer.copy_from_slice(bytes);
    let mut out = Outcome { frames: 0, consumed: 0, digest: 0, error: None, decoder: Decoder::default() };
    let mut received = 0;
    loop {
        let input = &mut buffer[out.consumed..received];
        let given = input.len();
        match out.decoder.decode(input, limits, role) {
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > given);
                assert!(needed as u64 <= 14 + limits.frame_payload_size_max.max(125));
                if received == bytes.len() {
                    return out;
                }
                received = (received + step).min(bytes.len());
            }
            Ok(Decoded::Frame { consumed, payload, kind }) => {
                assert!(consumed <= given && payload.end == consumed);
                if let Kind::Close { reason, .. } = &kind {
                    assert!(core::str::from_utf8(&input[reason.clone()]).is_ok());
                }
                out.digest = digest(digest(out.digest, &kind_tag(&kind)), &input[payload.clone()]);
                let original = &bytes[out.consumed..out.consumed + consumed];
                check_header(original, payload.start, &mut input[payload], &kind, role);
                out.consumed += consumed;
                out.frames += 1;
            }
            Err(error) => {
                out.error = Some(error);
                return out;
            }
        }
    }
}

/// The header re-emits, and masking the payload again gives what was received.
fn check_header(original: &[u8], start: usize, payload: &mut [u8], kind: &Kind, role: Role) {
    let (opcode, fin) = match *kind {
        Kind::Data { text: true, first: true, last } => (Opcode::Text, last),
        Kind::Data { first: true, last, .. } => (Opcode::Binary, last),
        Kind::Data { last, .. } => (Opcode::Continuation, last),
        Kind::Ping => (Opcode::Ping, true),
        Kind::Pong => (Opcode::Pong, true),
        Kind::Close { .. } => (Opcode::Close, true),
    };
    let mut out = [0; MASKED_HEADER_SIZE_MAX];
    let size = payload.len() as u64;
    let (emitted, mask) = match role {
        Role::Client => (emit_header(opcode, fin, size, &mut out), [0; 4]),
        Role::Server => {
            let mask = [original[start - 4], original[start - 3], original[start - 2], original[start - 1]];
            (emit_masked_header(opcode, fin, size, mask, &mut out), mask)
        }
    };
    assert_eq!(emitted, Some(start));
    assert_eq!(&out[..start], &original[..start]);
    let slow = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
    assert!(slow.eq(original[start..].iter().copied()));
    apply_mask(payload, mask);
    assert_eq!(payload, &original[start..]);
}

/// A WebSocket stream after its handshake.
pub fn websocket(mut input: &[u8]) {
    let flags = choose(&mut input);
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let limits = match flags >> 1 & 3 {
        0 => Limits { frame_payload_size_max: 1 << 16, message_size_max: 1 << 20, fragments_max: 64 },
        1 => Limits { frame_payload_size_max: 64, message_size_max: 100, fragments_max: 3 },
        2 => Limits { frame_payload_size_max: 0, message_size_max: 0, fragments_max: 1 },
        _ => Limits { frame_payload_size_max: 1 << 40, message_size_max: u64::MAX, fragments_max: u32::MAX },
    };
    let bytes = cap(input);
    let whole = decode_all(bytes, bytes.len().max(1), &limits, role);
    assert_eq!(decode_all(bytes, 1, &limits, role), whole);
    let step = usize::from(flags >> 3) + 2;
    assert_eq!(decode_all(bytes, step, &limits, role), whole);
}

/// The opening handshake, as either end.
pub fn handshake(mut input: &[u8]) {
    let choice = usize::from(choose(&mut input));
    let bytes = input;
    let origins: &[&str] = if choice & 1 == 0 { &[] } else { &["https://example.com"] };
    let rules = HandshakeRules {
        path: "/sub",
        origins,
        protocols: &["goim.v1", "goim.v2"],
        head_size_max: crate::websocket::handshake::HEAD_SIZE_MAX,
    };
    let whole = Request::parse(bytes, &rules);
    for cut in [bytes.len() * choice / 256, bytes.len().saturating_sub(1 + choice / 32)] {
        match Request::parse(&bytes[..cut], &rules) {
            Ok(HandshakeParse::Incomplete) => {}
            decided => assert_eq!(decided, whole),
        }
    }
    match whole {
        Ok(HandshakeParse::Incomplete) => assert!(bytes.len() < crate::websocket::handshake::HEAD_SIZE_MAX),
        Ok(HandshakeParse::Plain { consumed, head }) => {
            assert!(consumed <= bytes.len() && head.path.starts_with('/'));
        }
        Ok(HandshakeParse::Upgrade { consumed, request }) => {
            assert_eq!(Request::parse(&bytes[..consumed], &rules), whole);
            let mut out = [0; 256];
            let size = accept_response(request.key, request.protocol, &mut out);
            let size = size.expect("the buffer is large enough");
            let verified = verify_response(&out[..size], request.key);
            assert_eq!(verified, Ok(ResponseParse::Accepted { consumed: size }));
        }
        Err(error) => {
            assert_ne!(error, HandshakeError::NotUpgrade);
            assert!(error.response().starts_with(b"HTTP/1.1 4") || error.status() == 505);
        }
    }
    let _ = verify_response(bytes, b"dGhlIHNhbXBsZSBub25jZQ==");
    client(bytes, choice as u8);
}

/// A request that the client writes is one that the server upgrades.
fn client(bytes: &[u8], choice: u8) {
    let Ok(host) = core::str::from_utf8(bytes.get(..16).unwrap_or(bytes)) else { return };
    let mut out = [0; 512];
    let Some((size, key)) = client_request("/sub?v=1", host, [choice; 16], None, &mut out) else { return };
    let rules = HandshakeRules {
        path: "/sub",
        origins: &[],
        protocols: &[],
        head_size_max: crate::websocket::handshake::HEAD_SIZE_MAX,
    };
    let parsed = Request::parse(&out[..size], &rules);
    let Ok(HandshakeParse::Upgrade { consumed, request }) = parsed else { panic!("{parsed:?}") };
    assert_eq!((consumed, request.key, request.head.host), (size, &key, host.as_bytes()));
}

/// The auth body.
pub fn auth(input: &[u8]) {
    let mut scratch = [0; SCRATCH_SIZE_MAX];
    let parsed = AuthRequest::parse(input, &mut scratch);
    assert_ne!(parsed, Err(AuthError::ScratchFull));
    let mut no_scratch = [0; 0];
    let plain = AuthRequest::parse(input, &mut no_scratch);
    let Ok(request) = parsed else {
        assert!(plain == parsed || plain == Err(AuthError::ScratchFull));
        return;
    };
    assert!(plain == parsed || plain == Err(AuthError::ScratchFull));
    let short = |name: Option<Name<'_>>, size_max| name.is_none_or(|name| name.as_bytes().len() <= size_max);
    assert!(short(request.key, KEY_SIZE_MAX) && short(request.uid, 128) && short(request.platform, 32));
    assert!(request.token.len() <= TOKEN_SIZE_MAX && request.accepts.as_slice().len() <= ACCEPTS_MAX);
    let mut out = [0; 4 * TOKEN_SIZE_MAX];
    let size = request.emit(&mut out).expect("the buffer is large enough");
    let mut scratch = [0; SCRATCH_SIZE_MAX];
    assert_eq!(AuthRequest::parse(&out[..size], &mut scratch), Ok(request));
    assert_eq!(request.emit(&mut out[..size - 1]), None);
}

/// Parse, emit, compare; and no byte less is enough.
macro_rules! round_trip {
    ($type:ty, $body:expr) => {
        if let Ok(value) = <$type>::parse($body) {
            let mut out = [0; INPUT_SIZE_MAX];
            assert_eq!(value.encoded_size(), $body.len());
            assert_eq!(value.emit(&mut out), Some($body.len()));
            assert_eq!(&out[..$body.len()], $body);
            if let Some(short) = $body.len().checked_sub(1) {
                assert_eq!(value.emit(&mut out[..short]), None);
            }
        }
    };
}

/// The bodies of all operations; the first byte chooses one.
pub fn bodies(mut input: &[u8]) {
    let choice = choose(&mut input);
    let body = cap(input);
    match choice % 18 {
        0 => round_trip!(SendMessage<'_>, body),
        1 => round_trip!(SendMessageReply, body),
        2 => round_trip!(Publish<'_>, body),
        3 => round_trip!(PublishReply, body),
        4 => round_trip!(Deliver<'_>, body),
        5 => round_trip!(DeliverAck<'_>, body),
        6 => round_trip!(Join<'_>, body),
        7 => round_trip!(JoinReply<'_>, body),
        8 => round_trip!(Leave<'_>, body),
        9 => round_trip!(LeaveReply<'_>, body),
        10 => round_trip!(ChangeRoom<'_>, body),
        11 => round_trip!(HeartbeatReply, body),
        12 => round_trip!(Reconnect<'_>, body),
        13 => round_trip!(Closed<'_>, body),
        14 => round_trip!(Error<'_>, body),
        15 => operation_list(body),
        16 => payload_offsets(body),
        _ => {
            round_trip!(SendMessage<'_>, body);
            round_trip!(Publish<'_>, body);
            round_trip!(Deliver<'_>, body);
        }
    }
}

/// The canonical spelling names the same operations, and is never longer.
fn operation_list(body: &[u8]) {
    let Ok(list) = OperationList::parse(body, OPERATIONS_MAX) else { return };
    let mut out = [0; INPUT_SIZE_MAX];
    let size = OperationList::emit(list.iter(), &mut out).expect("it is never longer");
    assert!(size <= body.len() && list.iter().count() == list.count());
    let again = OperationList::parse(&out[..size], OPERATIONS_MAX).expect("the canonical spelling parses");
    assert!(again.iter().eq(list.iter()));
}

/// A payload is where its offset says, and leaves room for a push header before it.
fn payload_offsets(body: &[u8]) {
    if let Ok(message) = SendMessage::parse(body) {
        assert_eq!(&body[message.payload_offset()..], message.payload);
        assert!(message.payload_offset() > 12);
    }
    if let Ok(message) = Publish::parse(body) {
        assert_eq!(&body[message.payload_offset()..], message.payload);
    }
}
