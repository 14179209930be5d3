//! Addresses of the host, and their states until they may be used (RFC 5227 for IPv4, RFC 4862, 5.4
//! for IPv6).

use crate::time::Now;
use crate::wire::{Ip, Mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The smallest MTU that is accepted. IPv6 requires 1280 of its links; tests use less.
pub(crate) const MTU_MIN: u16 = 576;
/// Probes before an address is considered free.
pub(super) const PROBES: u8 = 3;

/// An address with its link's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressConfig {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the link's prefix.
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
    /// The hop limit of packets.
    pub hop_limit: u8,
    /// Neighbors in the cache at most.
    pub neighbors_max: usize,
    /// ICMP answers and errors a second at most.
    pub icmp_per_second: u32,
    /// Requests for hardware addresses, and answers to them, a second at most.
    pub discoveries_per_second: u32,
    /// Whether addresses are used only after duplicate address detection. Takes a second.
    pub detect_duplicates: bool,
    /// Where the states of the addresses are published.
    pub watch: Option<Arc<AddressWatch>>,
}

/// The states of a host's first 32 addresses, for other threads. All workers of a host publish the
/// same.
#[derive(Debug, Default)]
pub struct AddressWatch {
    /// One bit per address.
    tentative: AtomicU32,
    taken: AtomicU32,
}

impl AddressWatch {
    /// Whether duplicate address detection is running for one of the addresses.
    pub fn is_checking(&self) -> bool {
        self.tentative.load(Ordering::Relaxed) != 0
    }

    /// The places of the addresses that another host uses.
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
            neighbors_max: 1024,
            icmp_per_second: 1000,
            discoveries_per_second: 1000,
            detect_duplicates: false,
            watch: None,
        }
    }
}

/// The state of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressState {
    /// Not known to be free: `left` probes have to be sent, the next at `due_ms`.
    Tentative { left: u8, due_ms: u32 },
    /// Used by this host.
    Usable,
    /// Used by another host. Probed again at `due_ms`.
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
