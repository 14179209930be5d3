//! A WebSocket client.

use super::{Frame, auth_body, frame};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::{Frames, Operation};
use gateway_proto::websocket::handshake::{ResponseParse, client_request, verify_response};
use gateway_proto::websocket::{
    Decoded, Decoder, Kind, Limits, Opcode, Role, apply_mask, emit_masked_header,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A blocking WebSocket client.
pub struct WebSocket {
    pub stream: TcpStream,
    input: Vec<u8>,
    decoder: Decoder,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Message(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>),
    End,
}

/// A frame as clients send it.
pub fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 14];
    let mask = [0x11, 0x22, 0x33, 0x44];
    let size = emit_masked_header(opcode, fin, payload.len() as u64, mask, &mut out).unwrap();
    out.truncate(size);
    let mut payload = payload.to_vec();
    apply_mask(&mut payload, mask);
    out.extend(payload);
    out
}

impl WebSocket {
    pub fn open(address: SocketAddr) -> WebSocket {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        WebSocket::ask(&mut stream);
        WebSocket::answered(stream)
    }

    /// Sends the request to upgrade.
    pub fn ask(stream: &mut TcpStream) {
        let mut out = [0; 512];
        let (size, _) = client_request("/sub", "localhost", [7; 16], None, &mut out).unwrap();
        stream.write_all(&out[..size]).unwrap();
    }

    /// Waits for the answer to it.
    pub fn answered(mut stream: TcpStream) -> WebSocket {
        let (_, key) = client_request("/sub", "localhost", [7; 16], None, &mut [0; 512]).unwrap();
        let mut input = vec![];
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            input.push(byte[0]);
            if let ResponseParse::Accepted { consumed } = verify_response(&input, &key).unwrap() {
                assert_eq!(consumed, input.len());
                return WebSocket { stream, input: vec![], decoder: Decoder::default() };
            }
        }
    }

    pub fn login(address: SocketAddr, mid: i64, room: &str) -> WebSocket {
        let mut client = WebSocket::open(address);
        client.write(&masked(Opcode::Binary, true, &frame(Operation::AUTH, 1, &auth_body(mid, "", room))));
        assert_eq!(client.frame().operation, 8);
        client
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn read(&mut self) -> Said {
        let limits =
            Limits { frame_payload_size_max: 1 << 24, message_size_max: 1 << 24, fragments_max: 1 << 20 };
        loop {
            if !self.input.is_empty()
                && let Decoded::Frame { consumed, payload, kind } =
                    self.decoder.decode(&mut self.input, &limits, Role::Client).unwrap()
            {
                let payload = self.input[payload].to_vec();
                self.input.drain(..consumed);
                return match kind {
                    Kind::Data { text: false, first: true, last: true } => Said::Message(payload),
                    Kind::Pong => Said::Pong(payload),
                    Kind::Close { code, .. } => Said::Close(code),
                    kind => panic!("unexpected {kind:?}"),
                };
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return Said::End,
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub fn frame(&mut self) -> Frame {
        let Said::Message(message) = self.read() else { panic!("expected a message") };
        let mut frames = Frames::new(&message, 1 << 20);
        let (header, body) = frames.next().unwrap().unwrap();
        assert!(frames.next().is_none());
        Frame { operation: header.operation.0, sequence: header.sequence, body: body.to_vec() }
    }
}
