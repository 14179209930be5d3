//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and the errors that concern a TCP host.

use super::{WireError, array, be32};

/// Bytes of a header, the four that depend on the type included.
pub const HEADER_SIZE: usize = 8;

/// What a message says, in the words of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo is asked for.
    EchoRequest,
    /// An echo that was asked for.
    EchoReply,
    /// A router could not forward a packet of ours that was too big for the next link.
    PacketTooBig {
        /// The next link's MTU in bytes; 0 from routers older than RFC 1191.
        mtu: u32,
    },
    /// The destination, or its port, can not be reached, and trying again will not help soon.
    Unreachable {
        /// The code field.
        code: u8,
        /// RFC 1122, 4.2.3.9: protocol or port unreachable, a hard error while connecting.
        hard: bool,
    },
    /// Errors that mean nothing for TCP (time exceeded), or that it must ignore (source quench, RFC 6633).
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

/// Reads an ICMP message (the checksum is the caller's: it covers a pseudo-header in IPv6 only).
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
}
