//! Ethernet II frames. Tagged frames (802.1Q) and lengths (802.3) are not spoken; their type fields match nothing.

use super::{Mac, WireError, array, be16};

/// Bytes of a header.
pub const HEADER_SIZE: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Whom it is for.
    pub destination: Mac,
    /// Whom it is from.
    pub source: Mac,
    /// What follows.
    pub ether_type: u16,
}

impl Ethernet {
    /// Reads the header; the payload begins at [`HEADER_SIZE`].
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
            ether_type: be16(&header, 12),
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
        out[12..14].copy_from_slice(&self.ether_type.to_be_bytes());
    }
}
