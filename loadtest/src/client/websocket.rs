//! WebSocket for clients: the upgrade, and the payloads of binary messages. Around
//! `gateway_proto::websocket`.

use super::{Notice, Progress, Sink, Stage, Violation};
use gateway_proto::websocket::handshake::{KEY_SIZE, ResponseParse, client_request, verify_response};
use gateway_proto::websocket::{
    CONTROL_PAYLOAD_SIZE_MAX, Decoded, Decoder, Kind, Limits, MASKED_HEADER_SIZE_MAX, Opcode, Role,
    apply_mask, emit_masked_header,
};

/// Limits for what a server may send: whole messages of up to 16 MiB in one piece.
const LIMITS: Limits =
    Limits { frame_payload_size_max: 16 << 20, message_size_max: 16 << 20, fragments_max: 1 };

/// The largest request head that is written.
const REQUEST_SIZE_MAX: usize = 2048;

const PONG_MASK: [u8; 4] = [0x9d, 0x11, 0x52, 0xc3];

/// Path and host of the upgrade.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    pub(crate) path: String,
    pub(crate) host: String,
}

impl Upgrade {
    /// The nonce of a connection: fixed by its index, so that nothing need be kept to verify the
    /// answer.
    fn nonce(index: u32) -> [u8; 16] {
        let mixed = u128::from(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        mixed.to_be_bytes()
    }

    fn request_into(&self, index: u32, out: &mut [u8]) -> Option<(usize, [u8; KEY_SIZE])> {
        client_request(&self.path, &self.host, Self::nonce(index), None, out)
    }

    /// Whether path and host may stand in a request at all.
    pub(crate) fn is_valid(&self) -> bool {
        self.request_into(0, &mut [0; REQUEST_SIZE_MAX]).is_some()
    }

    /// Appends the request of connection `index`.
    pub(crate) fn request(&self, index: u32, out: &mut Vec<u8>) {
        let mut head = [0; REQUEST_SIZE_MAX];
        if let Some((size, _)) = self.request_into(index, &mut head) {
            out.extend_from_slice(&head[..size]);
        }
    }

    /// Reads the answer to [`Upgrade::request`].
    ///
    /// # Errors
    /// Any answer but a switch to WebSocket.
    pub(crate) fn verify(&self, index: u32, input: &[u8]) -> Result<Progress, Violation> {
        let Some((_, key)) = self.request_into(index, &mut [0; REQUEST_SIZE_MAX]) else {
            return Err(Violation("upgrade_request"));
        };
        match verify_response(input, &key) {
            Ok(ResponseParse::Accepted { consumed }) => Ok(Progress { consumed, needed: 0 }),
            Ok(ResponseParse::Incomplete) => Ok(Progress { consumed: 0, needed: input.len() + 1 }),
            Err(error) => Err(Violation(error.label())),
        }
    }
}

/// Reads messages off `input` and passes each payload to `each`.
///
/// # Errors
/// The first violation of RFC 6455, or the error of `each`.
pub(crate) fn read_messages<S: Sink>(
    decoder: &mut Decoder,
    input: &mut [u8],
    sink: &mut S,
    mut each: impl FnMut(&[u8], &mut S) -> Result<(), Violation>,
) -> Result<Progress, Violation> {
    let mut at = 0;
    while at < input.len() {
        let rest = &mut input[at..];
        match decoder.decode(rest, &LIMITS, Role::Client).map_err(|error| Violation(error.label()))? {
            Decoded::Incomplete { needed } => return Ok(Progress { consumed: at, needed }),
            Decoded::Frame { consumed, payload, kind } => {
                let payload = &rest[payload];
                match kind {
                    Kind::Data { .. } => each(payload, sink)?,
                    Kind::Ping => {
                        sink.notice(Notice::Ping);
                        owe_pong(payload, sink);
                    }
                    Kind::Pong => {}
                    Kind::Close { code, .. } => {
                        sink.notice(Notice::Closing(code.map_or(0, |code| code.get())));
                    }
                }
                at += consumed;
            }
        }
    }
    Ok(Progress { consumed: at, needed: 0 })
}

fn owe_pong(payload: &[u8], sink: &mut impl Sink) {
    let mut frame = [0; MASKED_HEADER_SIZE_MAX + CONTROL_PAYLOAD_SIZE_MAX];
    let size = payload.len() as u64;
    let Some(head) = emit_masked_header(Opcode::Pong, true, size, PONG_MASK, &mut frame) else { return };
    let Some(body) = frame.get_mut(head..head + payload.len()) else { return };
    body.copy_from_slice(payload);
    apply_mask(body, PONG_MASK);
    sink.owe(&frame[..head + payload.len()]);
}

/// Sets the stage that follows the answer to the upgrade.
pub(crate) fn upgraded(link: &mut super::Link) {
    debug_assert_eq!(link.stage, Stage::Upgrading);
    link.decoder = Decoder::default();
}
