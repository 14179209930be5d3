//! ARP for IPv4 over Ethernet (RFC 826).

use super::{Mac, WireError, array, be16};

/// Bytes of a packet.
pub const PACKET_SIZE: usize = 28;

/// Where the operation is.
const OPERATION: usize = 6;

/// The operation field of a packet that may be cut off behind it: 1 is a request, 2 a reply.
pub fn operation(packet: &[u8]) -> Option<u16> {
    array(packet, OPERATION).map(u16::from_be_bytes)
}

/// The operation of a reply.
pub const REPLY: u16 = 2;

/// The operation of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A request for the target's hardware address.
    Request,
    /// A reply with the sender's hardware address.
    Reply,
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's hardware address.
    pub sender_mac: Mac,
    /// The sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: [u8; 4],
    /// The target's hardware address; zero in a request.
    pub target_mac: Mac,
    /// The target's address.
    pub target_ip: [u8; 4],
}

impl Arp {
    /// Reads a packet. Padding behind it is ignored.
    ///
    /// # Errors
    /// [`WireError::Truncated`]; [`WireError::Unsupported`] for other hardware, protocols or
    /// operations.
    pub fn parse(packet: &[u8]) -> Result<Arp, WireError> {
        let packet: [u8; PACKET_SIZE] = array(packet, 0).ok_or(WireError::Truncated)?;
        if packet[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(WireError::Unsupported);
        }
        let operation = match be16(&packet, OPERATION) {
            1 => Operation::Request,
            REPLY => Operation::Reply,
            _ => return Err(WireError::Unsupported),
        };
        Ok(Arp {
            operation,
            sender_mac: Mac(array(&packet, 8).unwrap_or_default()),
            sender_ip: array(&packet, 14).unwrap_or_default(),
            target_mac: Mac(array(&packet, 18).unwrap_or_default()),
            target_ip: array(&packet, 24).unwrap_or_default(),
        })
    }

    /// Writes the packet to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`PACKET_SIZE`].
    pub fn emit(&self, out: &mut [u8]) {
        out[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        out[6] = 0;
        out[7] = if self.operation == Operation::Request { 1 } else { 2 };
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip);
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target_ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were() {
        for operation in [Operation::Request, Operation::Reply] {
            let packet = Arp {
                operation,
                sender_mac: Mac([1, 2, 3, 4, 5, 6]),
                sender_ip: [10, 0, 0, 1],
                target_mac: Mac([6, 5, 4, 3, 2, 1]),
                target_ip: [10, 0, 0, 2],
            };
            let mut bytes = [0; 46];
            packet.emit(&mut bytes);
            assert_eq!(Arp::parse(&bytes), Ok(packet));
            assert_eq!(Arp::parse(&bytes[..27]), Err(WireError::Truncated));
            bytes[1] = 6;
            assert_eq!(Arp::parse(&bytes), Err(WireError::Unsupported));
        }
    }
}
