//! IPv4 headers (RFC 791). Options are skipped and have no effect (RFC 7126 lets a host ignore
//! them).

use super::checksum::{self, Sum};
use super::{WireError, array, be16};

/// Bytes of a header without options.
pub const HEADER_SIZE: usize = 20;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of ICMPv6, which has no place in IPv4.
pub const ICMPV6: u8 = 58;

/// Where the fields are.
mod field {
    use std::ops::Range;

    pub(super) const TOTAL_LENGTH: Range<usize> = 2..4;
    pub(super) const FRAGMENT: usize = 6;
    pub(super) const HOP_LIMIT: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: Range<usize> = 10..12;
    pub(super) const SOURCE: Range<usize> = 12..16;
    pub(super) const DESTINATION: Range<usize> = 16..20;
}

/// The bytes of a packet, by field. They may be a quote, or the headers alone: the total length is
/// not checked.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T>(T);

impl<T: AsRef<[u8]>> Packet<T> {
    /// Takes bytes that are long enough for the header that they begin with.
    ///
    /// # Errors
    /// [`WireError::BadVersion`], [`WireError::BadLength`], [`WireError::Truncated`].
    pub fn new_checked(bytes: T) -> Result<Packet<T>, WireError> {
        let packet = Packet(bytes);
        let bytes = packet.0.as_ref();
        if bytes.len() < HEADER_SIZE {
            return Err(WireError::Truncated);
        }
        if bytes[0] >> 4 != 4 {
            return Err(WireError::BadVersion);
        }
        match packet.header_size() {
            size if size < HEADER_SIZE => Err(WireError::BadLength),
            size if size > bytes.len() => Err(WireError::Truncated),
            _ => Ok(packet),
        }
    }

    /// Bytes of the header, including options.
    pub fn header_size(&self) -> usize {
        usize::from(self.0.as_ref()[0] & 0xf) * 4
    }

    /// The protocol of the payload.
    pub fn protocol(&self) -> u8 {
        self.0.as_ref()[field::PROTOCOL]
    }

    /// The sender.
    pub fn source(&self) -> [u8; 4] {
        array(self.0.as_ref(), field::SOURCE.start).unwrap_or_default()
    }

    /// The receiver.
    pub fn destination(&self) -> [u8; 4] {
        array(self.0.as_ref(), field::DESTINATION.start).unwrap_or_default()
    }
}

impl<'a> Packet<&'a [u8]> {
    /// The bytes behind the header, as far as they exist.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[self.header_size()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the total length for a payload of `size` bytes, and computes the checksum.
    pub fn set_payload_size(&mut self, size: u16) {
        let header_size = self.header_size();
        let bytes = self.0.as_mut();
        bytes[field::TOTAL_LENGTH].copy_from_slice(&(size + header_size as u16).to_be_bytes());
        bytes[field::CHECKSUM].fill(0);
        let checksum = Sum::ZERO.bytes(&bytes[..header_size]).finish();
        bytes[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Sender.
    pub source: [u8; 4],
    /// Receiver.
    pub destination: [u8; 4],
    /// The protocol of the payload.
    pub protocol: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Bytes behind the header, without padding of the frame.
    pub payload_size: u16,
    /// Bytes of the header, including options.
    pub header_size: u8,
    /// Whether it is a fragment: "more fragments" is set or the offset is not zero.
    pub is_fragment: bool,
}

impl Ipv4 {
    /// Reads and checks a header: version, lengths, checksum.
    ///
    /// # Errors
    /// [`WireError`]. Bytes behind the total length are padding, and no error.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Ipv4, WireError> {
        let fixed: [u8; HEADER_SIZE] = array(packet, 0).ok_or(WireError::Truncated)?;
        if fixed[0] >> 4 != 4 {
            return Err(WireError::BadVersion);
        }
        let header_size = usize::from(fixed[0] & 0xf) * 4;
        let total = usize::from(be16(&fixed, field::TOTAL_LENGTH.start));
        if header_size < HEADER_SIZE || total < header_size {
            return Err(WireError::BadLength);
        }
        if total > packet.len() {
            return Err(WireError::Truncated);
        }
        if !checksum::is_correct(Sum::ZERO, &packet[..header_size]) {
            return Err(WireError::BadChecksum);
        }
        Ok(Ipv4 {
            source: [fixed[12], fixed[13], fixed[14], fixed[15]],
            destination: [fixed[16], fixed[17], fixed[18], fixed[19]],
            protocol: fixed[field::PROTOCOL],
            hop_limit: fixed[field::HOP_LIMIT],
            payload_size: (total - header_size) as u16,
            header_size: header_size as u8,
            is_fragment: be16(&fixed, field::FRAGMENT) & 0x3fff != 0,
        })
    }

    /// Writes a header without options: "don't fragment" set, identification 0 (RFC 6864, 4: an
    /// atomic datagram's identification means nothing).
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_SIZE`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let total = self.payload_size + HEADER_SIZE as u16;
        out[..4].copy_from_slice(&[0x45, 0, (total >> 8) as u8, total as u8]);
        out[4..12].copy_from_slice(&[0, 0, 0x40, 0, self.hop_limit, self.protocol, 0, 0]);
        out[field::SOURCE].copy_from_slice(&self.source);
        out[field::DESTINATION].copy_from_slice(&self.destination);
        let checksum = Sum::ZERO.bytes(&out[..HEADER_SIZE]).finish();
        out[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Ipv4, [u8; 30]) {
        let header = Ipv4 {
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
            protocol: TCP,
            hop_limit: 64,
            payload_size: 4,
            header_size: 20,
            is_fragment: false,
        };
        let mut bytes = [0; 30];
        header.emit(&mut bytes);
        (header, bytes)
    }

    #[test]
    fn a_header_comes_back_as_it_was_and_padding_is_no_payload() {
        let (header, bytes) = sample();
        assert_eq!(Ipv4::parse(&bytes), Ok(header));
    }

    #[test]
    fn lies_are_refused() {
        let (_, bytes) = sample();
        for cut in 0..24 {
            assert_eq!(Ipv4::parse(&bytes[..cut]), Err(WireError::Truncated), "{cut}");
        }
        let mut flipped = bytes;
        flipped[8] ^= 1;
        assert_eq!(Ipv4::parse(&flipped), Err(WireError::BadChecksum));
        flipped[0] = 0x44;
        assert_eq!(Ipv4::parse(&flipped), Err(WireError::BadLength));
        flipped[0] = 0x65;
        assert_eq!(Ipv4::parse(&flipped), Err(WireError::BadVersion));
        let mut short = bytes;
        short[3] = 19;
        assert_eq!(Ipv4::parse(&short), Err(WireError::BadLength));
    }

    #[test]
    fn a_changed_length_keeps_the_checksum_right() {
        let (header, mut bytes) = sample();
        Packet::new_checked(&mut bytes[..]).unwrap().set_payload_size(10);
        assert_eq!(Ipv4::parse(&bytes), Ok(Ipv4 { payload_size: 10, ..header }));
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((packet.protocol(), packet.payload().len()), (TCP, 10));
        assert_eq!((packet.source(), packet.destination()), (header.source, header.destination));
    }

    #[test]
    fn a_packet_has_its_whole_header() {
        let (_, mut bytes) = sample();
        bytes[0] = 0x46;
        assert!(Packet::new_checked(&bytes[..24]).is_ok());
        assert_eq!(Packet::new_checked(&bytes[..23]).unwrap_err(), WireError::Truncated);
        bytes[0] = 0x44;
        assert_eq!(Packet::new_checked(&bytes[..]).unwrap_err(), WireError::BadLength);
    }
}
