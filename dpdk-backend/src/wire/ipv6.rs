//! IPv6 headers and the chain of extension headers behind them (RFC 8200).
//!
//! Hop-by-hop and destination options are skipped; an option with a type that says "discard if not
//! understood" makes the packet unsupported. A routing header is accepted only when no segments are
//! left (RFC 5095 forbids type 0 to do more). A fragment header ends the walk.

use super::{WireError, array, be16};

/// Bytes of the fixed header.
pub const HEADER_SIZE: usize = 40;
/// Extension headers of one packet at most (RFC 8504, 5.3 lets a host set limits).
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of extension headers of one packet at most.
const EXTENSION_BYTES_MAX: usize = 256;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Where the fields are.
mod field {
    use std::ops::Range;

    pub(super) const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: Range<usize> = 8..24;
    pub(super) const DESTINATION: Range<usize> = 24..40;
}

/// The bytes of a packet, by field of the fixed header. They may be a quote, or the headers alone:
/// the payload length is not checked.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T>(T);

impl<T: AsRef<[u8]>> Packet<T> {
    /// Takes bytes that are long enough for a fixed header.
    ///
    /// # Errors
    /// [`WireError::BadVersion`], [`WireError::Truncated`].
    pub fn new_checked(bytes: T) -> Result<Packet<T>, WireError> {
        match bytes.as_ref() {
            bytes if bytes.len() < HEADER_SIZE => return Err(WireError::Truncated),
            bytes if bytes[0] >> 4 != 6 => return Err(WireError::BadVersion),
            _ => {}
        }
        Ok(Packet(bytes))
    }

    /// The type of the header behind the fixed one.
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[field::NEXT_HEADER]
    }

    /// The sender.
    pub fn source(&self) -> [u8; 16] {
        array(self.0.as_ref(), field::SOURCE.start).unwrap_or_default()
    }

    /// The receiver.
    pub fn destination(&self) -> [u8; 16] {
        array(self.0.as_ref(), field::DESTINATION.start).unwrap_or_default()
    }
}

impl<'a> Packet<&'a [u8]> {
    /// The bytes behind the fixed header, as far as they exist.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[HEADER_SIZE..]
    }
}

impl<T: AsMut<[u8]>> Packet<T> {
    /// Changes the payload length.
    pub fn set_payload_size(&mut self, size: u16) {
        self.0.as_mut()[field::PAYLOAD_LENGTH].copy_from_slice(&size.to_be_bytes());
    }
}

/// A header, with the chain resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Sender.
    pub source: [u8; 16],
    /// Receiver.
    pub destination: [u8; 16],
    /// The upper-layer protocol behind all extension headers.
    pub protocol: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Bytes of the upper layer.
    pub payload_size: u16,
    /// The offset of the upper layer.
    pub header_size: u16,
    /// Whether it is a fragment. Atomic fragments (RFC 6946) are whole packets.
    pub is_fragment: bool,
}

impl Ipv6 {
    /// Reads the header and walks the chain.
    ///
    /// # Errors
    /// [`WireError`]; [`WireError::Unsupported`] for options that must be understood, chains that
    /// are too long, and routing that is not complete.
    pub fn parse(packet: &[u8]) -> Result<Ipv6, WireError> {
        let fixed: [u8; HEADER_SIZE] = array(packet, 0).ok_or(WireError::Truncated)?;
        if fixed[0] >> 4 != 6 {
            return Err(WireError::BadVersion);
        }
        let end = HEADER_SIZE + usize::from(be16(&fixed, field::PAYLOAD_LENGTH.start));
        let packet = packet.get(..end).ok_or(WireError::Truncated)?;
        let chain = walk(packet, fixed[field::NEXT_HEADER])?;
        Ok(Ipv6 {
            source: array(&fixed, field::SOURCE.start).unwrap_or_default(),
            destination: array(&fixed, field::DESTINATION.start).unwrap_or_default(),
            protocol: chain.protocol,
            hop_limit: fixed[field::HOP_LIMIT],
            payload_size: (end - chain.offset) as u16,
            header_size: chain.offset as u16,
            is_fragment: chain.is_fragment,
        })
    }

    /// Writes a header without extensions.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_SIZE`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        out[field::PAYLOAD_LENGTH].copy_from_slice(&self.payload_size.to_be_bytes());
        out[field::NEXT_HEADER] = self.protocol;
        out[field::HOP_LIMIT] = self.hop_limit;
        out[field::SOURCE].copy_from_slice(&self.source);
        out[field::DESTINATION].copy_from_slice(&self.destination);
    }
}

struct Chain {
    protocol: u8,
    offset: usize,
    is_fragment: bool,
}

fn walk(packet: &[u8], first: u8) -> Result<Chain, WireError> {
    let mut chain = Chain { protocol: first, offset: HEADER_SIZE, is_fragment: false };
    for position in 0..=EXTENSIONS_MAX {
        let at = chain.offset;
        let size = match chain.protocol {
            // RFC 8200, 4.1: only as the first.
            HOP_BY_HOP if position > 0 => return Err(WireError::Unsupported),
            HOP_BY_HOP | DESTINATION | ROUTING => {
                let [_, units] = array(packet, at).ok_or(WireError::Truncated)?;
                8 + usize::from(units) * 8
            }
            FRAGMENT => 8,
            _ => return Ok(chain),
        };
        let header = packet.get(at..at + size).ok_or(WireError::Truncated)?;
        match chain.protocol {
            ROUTING if header[3] != 0 => return Err(WireError::Unsupported),
            HOP_BY_HOP | DESTINATION => check_options(&header[2..])?,
            // RFC 6946: offset 0 and no more fragments is a whole packet.
            FRAGMENT if be16(header, 2) & 0xfff9 != 0 => {
                return Ok(Chain { protocol: header[0], offset: at + size, is_fragment: true });
            }
            _ => {}
        }
        chain.protocol = header[0];
        chain.offset = at + size;
        if chain.offset > HEADER_SIZE + EXTENSION_BYTES_MAX {
            return Err(WireError::Unsupported);
        }
    }
    Err(WireError::Unsupported)
}

/// RFC 8200, 4.2: the two highest bits of an unknown option's type specify whether it may be
/// skipped.
fn check_options(mut options: &[u8]) -> Result<(), WireError> {
    while let Some((&kind, rest)) = options.split_first() {
        if kind == 0 {
            options = rest; // Pad1
            continue;
        }
        let Some((&size, rest)) = rest.split_first() else { return Err(WireError::BadLength) };
        options = rest.get(usize::from(size)..).ok_or(WireError::BadLength)?;
        if kind >> 6 != 0 {
            return Err(WireError::Unsupported);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let header = Ipv6 {
            source: [1; 16],
            destination: [2; 16],
            protocol: next,
            hop_limit: 64,
            payload_size: rest.len() as u16,
            header_size: 40,
            is_fragment: false,
        };
        let mut bytes = vec![0; 40];
        header.emit(&mut bytes);
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn a_plain_header_comes_back_as_it_was() {
        let bytes = packet(6, b"abc");
        let header = Ipv6::parse(&bytes).unwrap();
        assert_eq!((header.protocol, header.payload_size, header.header_size), (6, 3, 40));
        assert_eq!(Ipv6::parse(&bytes[..42]), Err(WireError::Truncated));
    }

    #[test]
    fn extension_headers_are_walked() {
        let bytes = packet(0, &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, b'x']);
        let header = Ipv6::parse(&bytes).unwrap();
        assert_eq!((header.protocol, header.payload_size, header.header_size), (6, 1, 56));
    }

    #[test]
    fn fragments_are_marked_and_atomic_ones_are_whole() {
        let atomic = packet(44, &[6, 0, 0, 0, 0, 0, 0, 1, b'x']);
        assert!(!Ipv6::parse(&atomic).unwrap().is_fragment);
        let piece = packet(44, &[6, 0, 0, 1, 0, 0, 0, 1, b'x']);
        assert!(Ipv6::parse(&piece).unwrap().is_fragment);
    }

    #[test]
    fn hostile_chains_end() {
        let long: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(40);
        assert_eq!(Ipv6::parse(&packet(60, &long)), Err(WireError::Unsupported));
        let demanding = packet(60, &[6, 0, 0x80, 4, 0, 0, 0, 0]);
        assert_eq!(Ipv6::parse(&demanding), Err(WireError::Unsupported));
        let overlong = packet(60, &[6, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Ipv6::parse(&overlong), Err(WireError::Truncated));
        let late_hop_by_hop = packet(60, &[0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(Ipv6::parse(&late_hop_by_hop), Err(WireError::Unsupported));
    }
}
