//! The server's side: the answer (RFC 6455 §4.2.2).

use super::{KEY_SIZE, is_token};
use crate::bytes::Writer;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// Size of a Sec-WebSocket-Accept, in bytes: the 20 of a SHA-1 in base64.
pub const ACCEPT_SIZE: usize = 28;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455 §4.2.2).
#[must_use]
pub fn accept_key(key: &[u8; KEY_SIZE]) -> [u8; ACCEPT_SIZE] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; ACCEPT_SIZE];
    // 20 bytes always take 28 in base64, so this cannot fail.
    let _ = STANDARD.encode_slice(digest, &mut accept);
    accept
}

/// Writes the 101 response (RFC 6455 §4.2.2) to the front of `out`.
///
/// `protocol` is the chosen subprotocol. Returns the bytes written, 129 without a subprotocol;
/// `None` where they do not fit or the subprotocol is not a token.
pub fn accept_response(key: &[u8; KEY_SIZE], protocol: Option<&str>, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.put(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")?;
    writer.put(b"Sec-WebSocket-Accept: ")?;
    writer.put(&accept_key(key))?;
    if let Some(protocol) = protocol {
        if !is_token(protocol) {
            return None;
        }
        writer.put(b"\r\nSec-WebSocket-Protocol: ")?;
        writer.put(protocol.as_bytes())?;
    }
    writer.put(b"\r\n\r\n")?;
    Some(writer.size())
}
