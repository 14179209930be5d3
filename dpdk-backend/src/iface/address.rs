//! Addresses of the host, and what must hold before one is used (RFC 5227 for IPv4, RFC 4862, 5.4
//! for IPv6).

use crate::time::Now;
use crate::wire::{Ip, Mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The least MTU: IPv6's on a link that speaks it is 1280, but tests may want less.
pub(crate) const MTU_MIN: u16 = 576;
/// Probes before an address is taken for free.
pub(super) const PROBES: u8 = 3;

/// An address with its link's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressConfig {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the prefix that everybody on the link shares.
    pub prefix_length: u8,
}

/// The host on its link.
#[derive(Clone, Debug)]
pub struct InterfaceConfig {
    /// The hardware address.
    pub mac: Mac,
    /// Bytes of the largest IP packet on the link.
    pub mtu: u16,
    /// The host's addresses; 255 at most.
    pub addresses: Vec<AddressConfig>,
    /// The router for other IPv4 links.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The router for other IPv6 links.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Hops that packets may take.
    pub hop_limit: u8,
    /// Neighbours remembered at most.
    pub neighbours_max: usize,
    /// ICMP answers and errors a second at most.
    pub icmp_per_second: u32,
    /// Questions for hardware addresses, and answers to them, a second at most.
    pub discoveries_per_second: u32,
    /// Ask whether somebody else has an address before using it. Takes a second.
    pub detect_duplicates: bool,
    /// Where it is told how far the addresses are.
    pub watch: Option<Arc<AddressWatch>>,
}

/// How far a host's addresses are, for other threads to read. Of the first 32 addresses; all
/// workers of a host tell it the same.
#[derive(Debug, Default)]
pub struct AddressWatch {
    /// A bit an address.
    tentative: AtomicU32,
    taken: AtomicU32,
}

impl AddressWatch {
    /// Whether it is still being found out if others have one of the addresses.
    pub fn is_checking(&self) -> bool {
        self.tentative.load(Ordering::Relaxed) != 0
    }

    /// The places of the addresses that another host has.
    pub fn taken(&self) -> impl Iterator<Item = usize> {
        let taken = self.taken.load(Ordering::Relaxed);
        (0..32).filter(move |place| taken >> place & 1 == 1)
    }

    pub(super) fn note(&self, place: usize, state: AddressState) {
        let Some(bit) = u32::try_from(place).ok().and_then(|place| 1_u32.checked_shl(place)) else { return };
        let set = |word: &AtomicU32, is_so: bool| match is_so {
            true => word.fetch_or(bit, Ordering::Relaxed),
            false => word.fetch_and(!bit, Ordering::Relaxed),
        };
        set(&self.tentative, matches!(state, AddressState::Tentative { .. }));
        set(&self.taken, matches!(state, AddressState::Duplicate { .. }));
    }
}

impl InterfaceConfig {
    /// An Ethernet interface with one address.
    pub fn new(mac: Mac, ip: IpAddr, prefix_length: u8) -> InterfaceConfig {
        InterfaceConfig {
            mac,
            mtu: 1500,
            addresses: vec![AddressConfig { ip, prefix_length }],
            gateway_v4: None,
            gateway_v6: None,
            hop_limit: 64,
            neighbours_max: 1024,
            icmp_per_second: 1000,
            discoveries_per_second: 1000,
            detect_duplicates: false,
            watch: None,
        }
    }
}

/// How far an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressState {
    /// Somebody else may have it: `left` probes are to be sent, the next at `due_ms`.
    Tentative { left: u8, due_ms: u32 },
    /// Ours.
    Usable,
    /// Somebody else's; asked about anew at `due_ms`.
    Duplicate { due_ms: u32 },
}

/// One address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) ip: Ip,
    pub(crate) prefix_length: u8,
    pub(crate) state: AddressState,
}

impl Address {
    pub(crate) fn new(config: &AddressConfig, detect_duplicates: bool, now: Now) -> Address {
        let state = match detect_duplicates {
            true => AddressState::Tentative { left: PROBES, due_ms: now.ms },
            false => AddressState::Usable,
        };
        Address { ip: Ip::from(config.ip), prefix_length: config.prefix_length, state }
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.state == AddressState::Usable
    }
}
