//! The wire as a client sees it, written from the protocol's description and not from the gateway's
//! code: goim frames, bare over TCP, in binary messages over WebSocket.

use std::collections::VecDeque;

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub operation: i32,
    pub sequence: i32,
    pub body: Vec<u8>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Frame(Frame),
    /// Of an echo: opcode and payload.
    Message(u8, Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CONTINUATION: u8 = 0;
pub const PING: u8 = 9;
pub const CLOSE: u8 = 8;

/// The bytes of a frame.
pub fn frame(operation: i32, sequence: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend((16 + body.len() as u32).to_be_bytes());
    out.extend([0, 16, 0, 1]);
    out.extend(operation.to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out.extend(body);
    out
}

/// A client's WebSocket frame.
pub fn masked(opcode: u8, last: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        size @ 0..=125 => out.push(0x80 | size as u8),
        size @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((size as u16).to_be_bytes());
        }
        size => {
            out.push(0x80 | 127);
            out.extend((size as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn word(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The frame at the front of `input`, if it is whole, and its size.
fn parse_frame(input: &[u8]) -> Option<(Frame, usize)> {
    if input.len() < 16 {
        return None;
    }
    let size = word(input, 0);
    assert!((16..1 << 20).contains(&size), "wire: a frame of {size} bytes");
    assert_eq!(input[4..8], [0, 16, 0, 1], "wire: a header");
    let size = size as usize;
    let body = input.get(16..size)?.to_vec();
    Some((Frame { operation: word(input, 8), sequence: word(input, 12), body }, size))
}

/// What the server has said over TCP, as far as it came whole; the rest stays.
pub fn take_tcp(input: &mut Vec<u8>, said: &mut VecDeque<Said>) {
    let mut start = 0;
    while let Some((frame, size)) = parse_frame(&input[start..]) {
        said.push_back(Said::Frame(frame));
        start += size;
    }
    input.drain(..start);
}

/// What the server has said over WebSocket, as far as it came whole; the rest stays.
pub fn take_websocket(input: &mut Vec<u8>, said: &mut VecDeque<Said>) {
    let mut start = 0;
    while let Some((opcode, payload, end)) = parse_websocket(&input[start..]) {
        let payload = &input[start..][payload..end];
        match opcode {
            0x82 => {
                let mut rest = payload;
                assert!(!rest.is_empty(), "wire: an empty message");
                while !rest.is_empty() {
                    let (frame, size) = parse_frame(rest).expect("wire: a message holds whole frames");
                    said.push_back(Said::Frame(frame));
                    rest = &rest[size..];
                }
            }
            opcode => said.push_back(control(opcode, payload)),
        }
        start += end;
    }
    input.drain(..start);
}

/// What an echo has said, as far as it came whole; the rest stays.
pub fn take_messages(input: &mut Vec<u8>, said: &mut VecDeque<Said>) {
    let mut start = 0;
    while let Some((opcode, payload, end)) = parse_websocket(&input[start..]) {
        let payload = &input[start..][payload..end];
        said.push_back(match opcode {
            0x81 | 0x82 => Said::Message(opcode & 15, payload.to_vec()),
            opcode => control(opcode, payload),
        });
        start += end;
    }
    input.drain(..start);
}

fn control(opcode: u8, payload: &[u8]) -> Said {
    match opcode {
        0x8a => Said::Pong(payload.to_vec()),
        0x88 if payload.is_empty() => Said::Close(None),
        0x88 => Said::Close(Some(u16::from_be_bytes([payload[0], payload[1]]))),
        opcode => panic!("wire: a frame that begins with {opcode:#x}"),
    }
}

/// First byte, payload's start and end of the frame at the front.
fn parse_websocket(input: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    assert!(second & 0x80 == 0, "wire: a server masks nothing");
    let (size, start) = match second {
        126 => (usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])), 4),
        127 => (input.get(2..10)?.iter().fold(0, |size, byte| size << 8 | usize::from(*byte)), 10),
        size => (usize::from(size), 2),
    };
    (input.len() >= start + size).then_some((first, start, start + size))
}
