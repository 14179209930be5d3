//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and the errors that matter to a TCP host.

use super::checksum::{self, Sum};
use super::{WireError, array, be16, be32};
use std::ops::Range;

/// Bytes of a header, including the four that depend on the type.
pub const HEADER_SIZE: usize = 8;

/// The meaning of a message of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo request.
    EchoRequest,
    /// An echo reply.
    EchoReply,
    /// A router could not forward a packet of ours that was too big for the next link.
    PacketTooBig {
        /// The next link's MTU in bytes; 0 from routers older than RFC 1191.
        mtu: u32,
    },
    /// The destination, or its port, is unreachable, and will be for some time.
    Unreachable {
        /// The code field.
        code: u8,
        /// RFC 1122, 4.2.3.9: protocol or port unreachable, a hard error while connecting.
        hard: bool,
    },
    /// Errors without a meaning for TCP (time exceeded), or that it must ignore (source quench, RFC
    /// 6633).
    Ignored,
    /// Anything else.
    Other {
        /// The type field.
        kind: u8,
    },
}

/// ICMP type numbers.
pub mod kind {
    /// Echo reply, IPv4.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable, IPv4.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request, IPv4.
    pub const ECHO_REQUEST: u8 = 8;
    /// Destination unreachable, IPv6.
    pub const V6_UNREACHABLE: u8 = 1;
    /// Packet too big, IPv6.
    pub const V6_TOO_BIG: u8 = 2;
    /// Parameter problem, IPv6.
    pub const V6_PARAMETER: u8 = 4;
    /// Echo request, IPv6.
    pub const V6_ECHO_REQUEST: u8 = 128;
    /// Echo reply, IPv6.
    pub const V6_ECHO_REPLY: u8 = 129;
}

/// Where the checksum is.
const CHECKSUM: Range<usize> = 2..4;

/// Errors of ICMP that concern one packet: destination unreachable, time exceeded, parameter
/// problem (RFC 792).
const V4_ERRORS: [u8; 3] = [kind::UNREACHABLE, 11, 12];
/// Errors of ICMPv6 (RFC 4443, 2.1).
const V6_ERRORS: std::ops::RangeInclusive<u8> = 1..=4;

/// Whether an ICMP type is that of an error about a packet.
pub fn is_error_v4(kind: u8) -> bool {
    V4_ERRORS.contains(&kind)
}

/// Whether an ICMPv6 type is that of an error about a packet.
pub fn is_error_v6(kind: u8) -> bool {
    V6_ERRORS.contains(&kind)
}

/// The bytes of a message of either family, by field.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T>(T);

impl<T: AsRef<[u8]>> Packet<T> {
    /// Takes bytes that are long enough for a header.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn new_checked(bytes: T) -> Result<Packet<T>, WireError> {
        if bytes.as_ref().len() < HEADER_SIZE { Err(WireError::Truncated) } else { Ok(Packet(bytes)) }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Changes the type, and the checksum with it.
    pub fn replace_kind(&mut self, kind: u8) {
        let bytes = self.0.as_mut();
        let old = std::mem::replace(&mut bytes[0], kind);
        let field = be16(bytes, CHECKSUM.start);
        let field = checksum::update(field, u16::from(old) << 8, u16::from(kind) << 8);
        bytes[CHECKSUM].copy_from_slice(&field.to_be_bytes());
    }

    /// Computes the checksum. `pseudo` is the sum of the pseudo-header, which only ICMPv6 has.
    pub fn fill_checksum(&mut self, pseudo: Sum) {
        let bytes = self.0.as_mut();
        bytes[CHECKSUM].fill(0);
        let checksum = pseudo.bytes(bytes).finish();
        bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Writes an error about the packet that begins with `quote`. The checksum is zero.
    ///
    /// # Panics
    /// If header and quote do not fit.
    pub fn write_error(&mut self, (kind, code): (u8, u8), pointer: u32, quote: &[u8]) {
        let bytes = self.0.as_mut();
        bytes[..4].copy_from_slice(&[kind, code, 0, 0]);
        bytes[4..HEADER_SIZE].copy_from_slice(&pointer.to_be_bytes());
        bytes[HEADER_SIZE..HEADER_SIZE + quote.len()].copy_from_slice(quote);
    }
}

/// Reads an ICMP message. The caller checks the checksum, which covers a pseudo-header in IPv6
/// only.
///
/// # Errors
/// [`WireError::Truncated`].
pub fn parse_v4(message: &[u8]) -> Result<Message, WireError> {
    let header: [u8; HEADER_SIZE] = array(message, 0).ok_or(WireError::Truncated)?;
    Ok(match (header[0], header[1]) {
        (kind::ECHO_REQUEST, 0) => Message::EchoRequest,
        (kind::ECHO_REPLY, 0) => Message::EchoReply,
        // RFC 1191, 4: the low 16 bits of what was "unused".
        (kind::UNREACHABLE, 4) => Message::PacketTooBig { mtu: be32(&header, 4) & 0xffff },
        (kind::UNREACHABLE, code) => Message::Unreachable { code, hard: matches!(code, 2 | 3) },
        (4 | 11, _) => Message::Ignored,
        (kind, _) => Message::Other { kind },
    })
}

/// Reads an ICMPv6 message.
///
/// # Errors
/// [`WireError::Truncated`].
pub fn parse_v6(message: &[u8]) -> Result<Message, WireError> {
    let header: [u8; HEADER_SIZE] = array(message, 0).ok_or(WireError::Truncated)?;
    Ok(match (header[0], header[1]) {
        (kind::V6_ECHO_REQUEST, 0) => Message::EchoRequest,
        (kind::V6_ECHO_REPLY, 0) => Message::EchoReply,
        (kind::V6_TOO_BIG, _) => Message::PacketTooBig { mtu: be32(&header, 4) },
        // RFC 4443, 3.1: code 1 is "administratively prohibited", 4 "port unreachable".
        (kind::V6_UNREACHABLE, code) => Message::Unreachable { code, hard: matches!(code, 1 | 4) },
        (3, _) => Message::Ignored,
        (kind, _) => Message::Other { kind },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(parse_v4(&[8, 0, 0, 0, 0, 0, 0, 0]), Ok(Message::EchoRequest));
        assert_eq!(parse_v4(&[3, 4, 0, 0, 0, 0, 5, 120]), Ok(Message::PacketTooBig { mtu: 1400 }));
        assert_eq!(parse_v4(&[4, 0, 0, 0, 0, 0, 0, 0]), Ok(Message::Ignored), "RFC 6633");
        assert_eq!(parse_v6(&[2, 0, 0, 0, 0, 0, 5, 0]), Ok(Message::PacketTooBig { mtu: 1280 }));
        assert_eq!(parse_v6(&[1, 4, 0, 0, 0, 0, 0, 0]), Ok(Message::Unreachable { code: 4, hard: true }));
        assert_eq!(parse_v6(&[1, 4, 0, 0, 0, 0, 0]), Err(WireError::Truncated));
    }

    #[test]
    fn a_changed_type_keeps_the_checksum_right() {
        let mut bytes = [kind::V6_ECHO_REQUEST, 0, 0, 0, 1, 2, 3, 4, b'x', b'y'];
        let pseudo = Sum::ZERO.word(7);
        Packet::new_checked(&mut bytes[..]).unwrap().fill_checksum(pseudo);
        assert!(checksum::is_correct(pseudo, &bytes));
        Packet::new_checked(&mut bytes[..]).unwrap().replace_kind(kind::V6_ECHO_REPLY);
        assert!(checksum::is_correct(pseudo, &bytes));
        assert_eq!(parse_v6(&bytes), Ok(Message::EchoReply));
    }
}
