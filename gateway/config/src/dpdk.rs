//! `[dpdk]`: a card in poll mode, and the host that the gateway is on its link.
//!
//! Checked in every build, so that a file has the same verdict everywhere; used by a binary with
//! the feature `dpdk`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What the sum of the pools does not count: DPDK's own tables, pools of drivers, what is lost
/// between pages. In bytes.
const MEMORY_BESIDES: u64 = 48 << 20;
/// Header of a buffer in its pool (64), its descriptor (128), private space (8), headroom (128),
/// padding. In bytes.
const BUFFER_BESIDES: u64 = 448;
/// Buffers that threads keep to themselves, a pool.
const CACHED: u64 = 192;
/// Receive buffers that a stack keeps for itself.
const RESERVED: u64 = 64;
/// What a captured frame takes besides its bytes: when it came, and how long it was.
const CAPTURED_BESIDES: u64 = 16;
/// Frames of a queue on their way to the card, besides its descriptors.
const PENDING: u64 = 128;
/// Ethernet's header and its check sum, in bytes.
const FRAME_BESIDES: u32 = 18;

/// What is left to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardWork {
    /// Checksums, and cutting what is large into segments.
    All,
    /// Checksums.
    Checksums,
    /// Nothing.
    None,
}

/// An own address with its link's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the prefix.
    pub prefix_length: u8,
}

impl OwnAddress {
    /// `10.77.0.2/24`.
    pub(super) fn parse(text: &str) -> Option<OwnAddress> {
        let (ip, length) = text.split_once('/')?;
        let (ip, prefix_length): (IpAddr, u8) = (ip.parse().ok()?, length.parse().ok()?);
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        let usable = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !mapped;
        (usable && (1..=most).contains(&prefix_length)).then_some(OwnAddress { ip, prefix_length })
    }

    /// Whether `ip` belongs to no host on this address's link: it is the first address, which is
    /// the network's, or the last, which is the broadcast address (RFC 1122, 3.2.1.3). Links of one
    /// or two hosts have neither (RFC 3021).
    pub(super) fn is_of_no_host(&self, ip: IpAddr) -> bool {
        let (IpAddr::V4(_), IpAddr::V4(other)) = (self.ip, ip) else { return false };
        let host = u32::MAX.checked_shr(u32::from(self.prefix_length)).unwrap_or(0);
        let bits = u32::from(other) & host;
        self.prefix_length < 31 && self.reaches(ip) && (bits == 0 || bits == host)
    }

    /// Whether `other` is on this address's link.
    pub(super) fn reaches(&self, other: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix_length);
        match (self.ip, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u32::from(a) ^ u32::from(b)).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(b)).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_length)
    }
}

/// `[dpdk]`.
#[derive(Clone, Debug)]
pub struct DpdkConfig {
    /// Virtual devices with their arguments, and PCI addresses.
    pub devices: Vec<String>,
    /// The port to serve on.
    pub port: String,
    /// The host's addresses.
    pub addresses: Vec<OwnAddress>,
    /// The router for other IPv4 links.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The router for other IPv6 links.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The hardware address; `None`: the card's.
    pub mac: Option<[u8; 6]>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether packet buffers are in huge pages.
    pub huge_pages: bool,
    /// MiB that DPDK takes; `None`: what the pools need.
    pub memory_mb: Option<u64>,
    /// Receive descriptors of a queue.
    pub receive_descriptors: u16,
    /// Transmit descriptors of a queue.
    pub transmit_descriptors: u16,
    /// What is left to the card.
    pub offloads: CardWork,
    /// Whether an address is used only after no other host has claimed it.
    pub detect_duplicates: bool,
    /// How long an idle worker sleeps at most; zero: it never does.
    pub idle_sleep_max: Duration,
    /// Further arguments.
    pub eal_args: Vec<String>,
    /// The last frames of each queue that are kept for a capture; 0: none.
    pub capture_frames: usize,
    /// Bytes of each that are kept.
    pub capture_frame_bytes: usize,
}

impl DpdkConfig {
    /// Bytes of a receive buffer.
    pub fn receive_buffer_size(&self) -> u32 {
        (u32::from(self.mtu) + FRAME_BESIDES).next_multiple_of(64)
    }

    /// Bytes of packet buffers of one worker that holds `receive_buffers`: to receive, to send.
    pub fn packet_buffers(&self, receive_buffers: u32) -> [u64; 2] {
        let receive = u64::from(self.receive_buffer_size());
        let count = u64::from(receive_buffers) + u64::from(self.receive_descriptors) + RESERVED + CACHED;
        let sending = u64::from(self.transmit_descriptors) + PENDING + CACHED;
        [count * (receive + BUFFER_BESIDES), sending * (receive.max(2048) + BUFFER_BESIDES)]
    }

    /// Bytes of one worker's rolling capture: its ring, and a copy of it while a caller reads it.
    pub fn capture_bytes(&self) -> u64 {
        2 * self.capture_frames as u64 * (self.capture_frame_bytes as u64 + CAPTURED_BESIDES)
    }

    /// MiB that DPDK is given for `workers` workers.
    pub fn memory_mb(&self, workers: usize, receive_buffers: u32) -> u64 {
        let pools: u64 = self.packet_buffers(receive_buffers).iter().sum();
        let needed = (pools * workers as u64 + MEMORY_BESIDES).div_ceil(1 << 20).next_multiple_of(2);
        self.memory_mb.unwrap_or(needed)
    }
}

/// `0000:03:00.0`, with or without its domain and arguments.
pub fn is_pci(device: &str) -> bool {
    let address = name_of(device);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((before, function)) = address.split_once('.') else { return false };
    let parts: Vec<&str> = before.split(':').collect();
    (2..=3).contains(&parts.len()) && parts.iter().all(|part| digits(part)) && digits(function)
}

/// A device's name, without its arguments.
pub(super) fn name_of(device: &str) -> &str {
    device.split(',').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        for pci in ["0000:03:00.0", "03:00.1", "0000:03:00.0,mprq_en=1"] {
            assert!(is_pci(pci), "{pci}");
        }
        for other in ["net_tap0,iface=a.b", "net_memif0,socket=/run/a:b.sock", "", "lo"] {
            assert!(!is_pci(other), "{other}");
        }
    }

    #[test]
    fn the_first_and_the_last_address_of_a_link_are_no_hosts() {
        let all = |link: &str, ip: &str| OwnAddress::parse(link).unwrap().is_of_no_host(ip.parse().unwrap());
        assert!(all("10.77.0.255/24", "10.77.0.255") && all("10.77.0.0/24", "10.77.0.0"));
        assert!(!all("10.77.0.255/16", "10.77.0.255") && all("10.77.0.2/16", "10.77.255.255"));
        assert!(!all("10.77.0.2/31", "10.77.0.3") && !all("10.77.0.2/32", "10.77.0.2"));
        assert!(!all("fd77::/64", "fd77::"));
    }

    #[test]
    fn addresses_and_links() {
        let address = OwnAddress::parse("10.77.0.2/24").unwrap();
        assert!(address.reaches("10.77.0.1".parse().unwrap()));
        assert!(
            !address.reaches("10.77.1.1".parse().unwrap()) && !address.reaches("fd00::1".parse().unwrap())
        );
        assert!(OwnAddress::parse("fd77::2/64").unwrap().reaches("fd77::1".parse().unwrap()));
        for wrong in [
            "10.77.0.2",
            "10.77.0.2/0",
            "10.77.0.2/33",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.1/4",
            "x/8",
            "::ffff:10.0.0.2/96",
        ] {
            assert_eq!(OwnAddress::parse(wrong), None, "{wrong}");
        }
    }
}
