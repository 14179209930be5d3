//! Messages to receivers, encoded once for both transports.

use super::MessageClass;
use gateway_proto::frame::{BODY_SIZE_LIMIT, HEADER_SIZE, Header, Operation};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_header, header_size};
use netpoll::{Buffer, SharedBuffer};

/// One message, or several in a row, encoded once for all of its receivers: they share the buffer,
/// and each transport's reference begins where its bytes do.
///
/// ```text
///   one frame:      [WebSocket header][frame]
///   several frames: [WebSocket header][header, operation 9][frame][frame]…   goim's envelope
///                   ▲ for_websocket()                      ▲ for_tcp()
/// ```
#[derive(Clone, Debug)]
pub struct EncodedPush {
    /// All of it. Longer than `websocket_prefix`, for it ends with a frame.
    bytes: SharedBuffer,
    /// Bytes at the front that only WebSocket receivers get.
    websocket_prefix: u8,
    class: MessageClass,
    operation: i32,
    frames: u16,
}

const _: () = assert!(HEADER_SIZE_MAX + HEADER_SIZE <= u8::MAX as usize, "the prefix's size is a byte");

impl EncodedPush {
    /// The push of one frame: `message` is a WebSocket message that holds it and nothing else, and
    /// `header` is the frame's.
    ///
    /// # Panics
    /// If `message` is shorter than the frame.
    #[inline]
    pub fn of_frame(class: MessageClass, header: Header, message: SharedBuffer) -> EncodedPush {
        let prefix = message.len() - header.frame_size();
        debug_assert_eq!(prefix, header_size(header.frame_size() as u64), "a WebSocket header");
        let operation = header.operation.0;
        EncodedPush { bytes: message, websocket_prefix: prefix as u8, class, operation, frames: 1 }
    }

    /// Size of the buffer that [`EncodedPush::encode`] fills for these `bodies`, in bytes. `None`
    /// when they are more than 65 535 or too large for an envelope.
    pub fn encoded_size(bodies: &[&[u8]]) -> Option<usize> {
        let frames_size = frames_size(bodies);
        let fits = frames_size <= BODY_SIZE_LIMIT as usize && u16::try_from(bodies.len()).is_ok();
        fits.then(|| {
            let message_size = frames_size + envelope_size(bodies);
            header_size(message_size as u64) + message_size
        })
    }

    /// Encodes `bodies` into an empty `buffer`, a frame each. Several share an envelope, which only
    /// WebSocket receivers see.
    ///
    /// # Panics
    /// If there are no bodies, or the buffer holds less than [`EncodedPush::encoded_size`].
    pub fn encode(
        mut buffer: Buffer,
        class: MessageClass,
        operation: Operation,
        bodies: &[&[u8]],
    ) -> EncodedPush {
        assert!(!bodies.is_empty() && buffer.is_empty(), "bodies, and an empty buffer");
        let size = EncodedPush::encoded_size(bodies).filter(|size| *size <= buffer.capacity());
        let size = size.expect("the buffer is as large as encoded_size says");
        let frames_size = frames_size(bodies);
        let mut prefix = [0; HEADER_SIZE_MAX];
        let message_size = (frames_size + envelope_size(bodies)) as u64;
        let prefix_size = emit_header(Opcode::Binary, true, message_size, &mut prefix).unwrap_or(0);
        buffer.append(&prefix[..prefix_size]);
        if envelope_size(bodies) > 0 {
            buffer.append(&Header::new(Operation::RAW, 0, frames_size as u32).to_bytes());
        }
        let websocket_prefix = buffer.len() as u8;
        for body in bodies {
            buffer.append(&Header::new(operation, 0, body.len() as u32).to_bytes());
            buffer.append(body);
        }
        debug_assert_eq!(buffer.len(), size);
        let (operation, frames) = (operation.0, bodies.len() as u16);
        EncodedPush { bytes: buffer.freeze(), websocket_prefix, class, operation, frames }
    }

    /// The bytes for a receiver over TCP: the frames. Copies nothing.
    #[inline]
    pub fn for_tcp(&self) -> SharedBuffer {
        self.bytes.slice(usize::from(self.websocket_prefix), self.bytes.len())
    }

    /// The bytes for a receiver over WebSocket: one binary message. Copies nothing.
    #[inline]
    pub fn for_websocket(&self) -> SharedBuffer {
        self.bytes.clone()
    }

    /// The same push, its bytes where `keep` has put them. Those must be the same.
    pub fn kept(self, keep: impl FnOnce(SharedBuffer) -> SharedBuffer) -> EncodedPush {
        let size = self.bytes.len();
        let bytes = keep(self.bytes);
        debug_assert_eq!(bytes.len(), size, "a copy has all bytes");
        EncodedPush { bytes, ..self }
    }

    /// Size of the frames in bytes, without what only WebSocket receivers get.
    #[inline]
    pub fn frames_size(&self) -> usize {
        self.bytes.len() - usize::from(self.websocket_prefix)
    }

    /// For the slow-consumer policy.
    #[inline]
    pub fn class(&self) -> MessageClass {
        self.class
    }

    /// Operation of the frames in it, for accept sets.
    #[inline]
    pub fn operation(&self) -> i32 {
        self.operation
    }

    /// Frames in it; an envelope is not one of them.
    #[inline]
    pub fn frames(&self) -> u16 {
        self.frames
    }
}

/// Size of a frame for each of `bodies`, in bytes.
fn frames_size(bodies: &[&[u8]]) -> usize {
    bodies.iter().map(|body| HEADER_SIZE + body.len()).sum()
}

/// Size of the envelope's header: one frame needs none.
fn envelope_size(bodies: &[&[u8]]) -> usize {
    if bodies.len() > 1 { HEADER_SIZE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::frame::{Frames, Peek};
    use netpoll::{BufferPools, PoolSize, PoolsConfig};

    const PUSH: Operation = Operation(1000);

    fn encode(bodies: &[&[u8]]) -> EncodedPush {
        let receive = PoolSize { size: 64, count: 1 };
        let blocks = vec![PoolSize { size: 1 << 17, count: 1 }];
        let mut pools = BufferPools::new(&PoolsConfig { receive, blocks, huge_pages: false }).unwrap();
        let size = EncodedPush::encoded_size(bodies).unwrap();
        let push = EncodedPush::encode(pools.take(size).unwrap(), MessageClass::Room, PUSH, bodies);
        assert_eq!(push.for_websocket().len(), size);
        push
    }

    #[test]
    fn one_body_is_a_frame_for_tcp_and_a_message_with_that_frame_for_websocket() {
        for (size, prefix) in [
            (0, &[0x82, 16][..]),
            (109, &[0x82, 125]),
            (110, &[0x82, 126, 0, 126]),
            (65_519, &[0x82, 126, 255, 255]),
            (65_520, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let body = vec![7; size];
            let push = encode(&[&body]);
            let frame = [&Header::new(PUSH, 0, size as u32).to_bytes()[..], &body].concat();
            assert_eq!(&push.for_tcp()[..], &frame[..]);
            assert_eq!(&push.for_websocket()[..], [prefix, &frame].concat());
            assert_eq!((push.frames(), push.frames_size(), push.operation()), (1, frame.len(), 1000));
            let again = EncodedPush::of_frame(
                MessageClass::User,
                Header::new(PUSH, 0, size as u32),
                push.for_websocket(),
            );
            assert_eq!(&again.for_tcp()[..], &frame[..]);
            assert_eq!((again.class(), again.frames(), again.operation()), (MessageClass::User, 1, 1000));
        }
    }

    #[test]
    fn several_bodies_are_frames_for_tcp_and_an_envelope_for_websocket() {
        let bodies: [&[u8]; 3] = [b"one", b"", &[7; 300]];
        let push = encode(&bodies);
        let (tcp, websocket) = (push.for_tcp(), push.for_websocket());
        let envelope = &websocket[websocket.len() - tcp.len() - HEADER_SIZE..];
        let Ok(Peek::Frame(header)) = Header::peek(envelope, 65_536) else { panic!("no envelope") };
        assert_eq!((header.operation, header.frame_size()), (Operation::RAW, envelope.len()));
        assert_eq!(websocket[..2], [0x82, 126]);
        let frames: Vec<_> = Frames::new(&tcp, 65_536).map(Result::unwrap).collect();
        assert_eq!((frames.len(), push.frames(), push.frames_size()), (3, 3, tcp.len()));
        for ((header, body), expected) in frames.iter().zip(bodies) {
            assert_eq!((header.operation, *body), (PUSH, expected));
        }
    }

    #[test]
    fn what_no_envelope_can_hold_has_no_size() {
        assert_eq!(EncodedPush::encoded_size(&vec![&b""[..]; 65_536]), None);
        assert!(EncodedPush::encoded_size(&vec![&b""[..]; 65_535]).is_some());
    }
}
