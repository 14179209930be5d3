//! Addresses of the host, and what must hold before one is used (RFC 5227 for IPv4, RFC 4862, 5.4 for IPv6).

use crate::time::Now;
use crate::wire::{Ip, Mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The least MTU: IPv6's on a link that speaks it is 1280, but tests may want less.
pub(crate) const MTU_MIN: u16 = 576;
/// Probes before an address is taken for free.
pub(crate) const PROBES: u8 = 3;
/// An address that somebody else has is asked about anew so often, in milliseconds (RFC 5227, 2.1.1: once a minute at most).
const ASK_AGAIN_MS: u32 = 60_000;
/// Between probes, in milliseconds.
pub(crate) const PROBE_INTERVAL_MS: u32 = 300;

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

/// How far a host's addresses are, for other threads to read. Of the first 32 addresses; all workers of a host tell it the same.
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

    fn note(&self, place: usize, state: AddressState) {
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

impl super::Interface {
    /// Sends the probes that are due, and takes into use what nobody claimed.
    pub(crate) fn poll_addresses(&mut self, counters: &mut crate::Counters, now: Now) {
        for position in 0..self.addresses.len() {
            let address = self.addresses[position];
            let (left, due_ms) = match address.state {
                AddressState::Usable => continue,
                AddressState::Tentative { left, due_ms } => (left, due_ms),
                AddressState::Duplicate { due_ms } => (PROBES, due_ms),
            };
            if !now.reached(due_ms) {
                continue;
            }
            let Some(left) = left.checked_sub(1) else {
                self.set_address(position, AddressState::Usable);
                self.announce(counters, address.ip);
                continue;
            };
            let due_ms = now.ms.wrapping_add(PROBE_INTERVAL_MS);
            self.set_address(position, AddressState::Tentative { left, due_ms });
            match address.ip.v4() {
                // RFC 5227, 2.1.1: a probe has no sender address.
                Some(target) => self.send_arp_request(counters, [0; 4], target),
                None => self.send_solicitation(counters, Ip::UNSPECIFIED, address.ip.octets()),
            }
        }
    }

    /// RFC 5227, 2.3, and RFC 4861, 7.2.6: tells the link whose the address is now.
    fn announce(&mut self, counters: &mut crate::Counters, ip: Ip) {
        match ip.v4() {
            Some(v4) => self.send_arp_request(counters, v4, v4),
            None => self.send_advertisement(
                counters,
                ip.octets(),
                None,
                Mac::of_ipv6_group(super::ndp::ALL_NODES),
            ),
        }
    }

    /// Somebody else uses, or probes for, an address of ours.
    pub(crate) fn claimed_by_other(&mut self, counters: &mut crate::Counters, now: Now, ip: Ip) {
        let Some(position) = self.addresses.iter().position(|address| address.ip == ip) else { return };
        let due_ms = now.ms.wrapping_add(ASK_AGAIN_MS);
        match self.addresses[position].state {
            AddressState::Tentative { .. } => {
                self.set_address(position, AddressState::Duplicate { due_ms });
                counters.dad_failures += 1;
            }
            AddressState::Usable => counters.arp_conflicts += 1,
            AddressState::Duplicate { .. } => {}
        }
    }

    fn set_address(&mut self, position: usize, state: AddressState) {
        self.addresses[position].state = state;
        self.note_address(position);
    }

    /// Tells the watch, if there is one, how far an address is.
    pub(crate) fn note_address(&self, position: usize) {
        if let Some(watch) = &self.watch {
            watch.note(position, self.addresses[position].state);
        }
    }

    /// When the next probe is due, in milliseconds.
    pub(crate) fn next_probe_ms(&self, now: Now) -> Option<u32> {
        let due = |address: &Address| match address.state {
            AddressState::Tentative { due_ms, .. } | AddressState::Duplicate { due_ms } => {
                Some(now.since_inverse(due_ms))
            }
            AddressState::Usable => None,
        };
        self.addresses.iter().filter_map(due).min()
    }
}
