//! Neighbor Discovery (RFC 4861): solicitations and advertisements. Router discovery is not
//! supported: gateways are configured.

use super::{Mac, WireError, array};

/// ICMPv6 type of a solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// Bytes of a message with one link-layer address option.
pub const MESSAGE_SIZE: usize = 32;
/// Bytes of a message without an option, as duplicate address detection sends it.
pub const MESSAGE_SIZE_MIN: usize = 24;

/// The group of all nodes on the link: ff02::1.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The solicited-node group of an address (RFC 4291, 2.7.1): ff02::1:ffXX:XXXX.
pub fn solicited_node(target: [u8; 16]) -> [u8; 16] {
    let [.., a, b, c] = target;
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]
}

/// Whether an ICMPv6 type is one of the supported types of discovery.
pub fn is_discovery(kind: u8) -> bool {
    kind == SOLICITATION || kind == ADVERTISEMENT
}

/// A message, without its ICMPv6 checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ndp {
    /// A request for the hardware address of `target`.
    Solicitation {
        /// The requested address.
        target: [u8; 16],
        /// The sender's hardware address; absent when its address is unspecified.
        source_mac: Option<Mac>,
    },
    /// The hardware address of `target`.
    Advertisement {
        /// The address that is advertised.
        target: [u8; 16],
        /// The hardware address.
        target_mac: Option<Mac>,
        /// Whether it answers a solicitation.
        solicited: bool,
        /// Whether it may replace a known address.
        overrides: bool,
    },
}

impl Ndp {
    /// Reads a message that begins at the ICMPv6 header.
    ///
    /// # Errors
    /// [`WireError`]. RFC 4861, 7.1: code 0, whole options, a target that is no group.
    pub fn parse(message: &[u8]) -> Result<Ndp, WireError> {
        let fixed: [u8; MESSAGE_SIZE_MIN] = array(message, 0).ok_or(WireError::Truncated)?;
        let target: [u8; 16] = array(&fixed, 8).unwrap_or_default();
        if fixed[1] != 0 || target[0] == 0xff {
            return Err(WireError::BadVersion);
        }
        let options = &message[MESSAGE_SIZE_MIN..];
        match fixed[0] {
            SOLICITATION => Ok(Ndp::Solicitation { target, source_mac: link_layer(options, 1)? }),
            ADVERTISEMENT => Ok(Ndp::Advertisement {
                target,
                target_mac: link_layer(options, 2)?,
                solicited: fixed[4] & 0x40 != 0,
                overrides: fixed[4] & 0x20 != 0,
            }),
            _ => Err(WireError::Unsupported),
        }
    }

    /// Writes the message with its option, if it has one. The checksum is zero. Returns its size.
    ///
    /// # Panics
    /// If `out` is shorter than [`MESSAGE_SIZE`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        out[..MESSAGE_SIZE].fill(0);
        let (kind, target, option, mac) = match self {
            Ndp::Solicitation { target, source_mac } => (SOLICITATION, target, 1, source_mac),
            Ndp::Advertisement { target, target_mac, solicited, overrides } => {
                out[4] = u8::from(*solicited) << 6 | u8::from(*overrides) << 5;
                (ADVERTISEMENT, target, 2, target_mac)
            }
        };
        out[0] = kind;
        out[8..24].copy_from_slice(target);
        let Some(mac) = mac else { return MESSAGE_SIZE_MIN };
        out[24..26].copy_from_slice(&[option, 1]);
        out[26..32].copy_from_slice(&mac.0);
        MESSAGE_SIZE
    }
}

/// The link-layer address option of type `wanted`. RFC 4861, 4.6: an option of length 0 makes the
/// packet invalid.
fn link_layer(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, WireError> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let size = usize::from(units) * 8;
        if size == 0 || size > options.len() {
            return Err(WireError::BadLength);
        }
        if kind == wanted && units == 1 {
            found = array(options, 2).map(Mac);
        }
        options = &options[size..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let target = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let all = [
            Ndp::Solicitation { target, source_mac: Some(mac) },
            Ndp::Solicitation { target, source_mac: None },
            Ndp::Advertisement { target, target_mac: Some(mac), solicited: true, overrides: false },
        ];
        for message in all {
            let mut bytes = [0xee; MESSAGE_SIZE];
            let size = message.emit(&mut bytes);
            assert_eq!(Ndp::parse(&bytes[..size]), Ok(message));
        }
    }

    #[test]
    fn an_option_of_length_zero_spoils_the_message() {
        let mut bytes = [0; MESSAGE_SIZE];
        bytes[0] = SOLICITATION;
        bytes[24] = 1;
        assert_eq!(Ndp::parse(&bytes), Err(WireError::BadLength));
    }
}
