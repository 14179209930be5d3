//! Ethernet II frames. Tagged frames (802.1Q) and lengths (802.3) are not supported; their type
//! fields match nothing.

use super::{Mac, WireError, array, be16};

/// Bytes of a header.
pub const HEADER_SIZE: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Where the type is.
const ETHER_TYPE: usize = 12;

/// The bytes of a frame, by field.
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

    /// The protocol of the payload.
    pub fn ether_type(&self) -> u16 {
        be16(self.0.as_ref(), ETHER_TYPE)
    }
}

impl<'a> Packet<&'a [u8]> {
    /// The bytes behind the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[HEADER_SIZE..]
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// The receiver.
    pub destination: Mac,
    /// The sender.
    pub source: Mac,
    /// The protocol of the payload.
    pub ether_type: u16,
}

impl Ethernet {
    /// Reads the header. The payload begins at [`HEADER_SIZE`].
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Ethernet, WireError> {
        let header: [u8; HEADER_SIZE] = array(frame, 0).ok_or(WireError::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = header;
        Ok(Ethernet {
            destination: Mac([d0, d1, d2, d3, d4, d5]),
            source: Mac([s0, s1, s2, s3, s4, s5]),
            ether_type: be16(&header, ETHER_TYPE),
        })
    }

    /// Writes the header to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_SIZE`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        out[0..6].copy_from_slice(&self.destination.0);
        out[6..12].copy_from_slice(&self.source.0);
        out[ETHER_TYPE..HEADER_SIZE].copy_from_slice(&self.ether_type.to_be_bytes());
    }
}
