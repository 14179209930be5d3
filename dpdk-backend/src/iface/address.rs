//! Addresses of the host, and what must hold before one is used (RFC 5227 for IPv4, RFC 4862, 5.4 for IPv6).

use crate::time::Now;
use crate::wire::{Ip, Mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The least MTU: IPv6's on a link that speaks it is 1280, but tests may want less.
pub(crate) const MTU_MIN: u16 = 576;
/// Probes before an address is taken for free.
pub(crate) const PROBES: u8 = 3;
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
    /// Somebody else's.
    Duplicate,
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
            let AddressState::Tentative { left, due_ms } = address.state else { continue };
            if !now.reached(due_ms) {
                continue;
            }
            let Some(left) = left.checked_sub(1) else {
                self.addresses[position].state = AddressState::Usable;
                self.announce(counters, address.ip);
                continue;
            };
            let due_ms = now.ms.wrapping_add(PROBE_INTERVAL_MS);
            self.addresses[position].state = AddressState::Tentative { left, due_ms };
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
    pub(crate) fn claimed_by_other(&mut self, counters: &mut crate::Counters, ip: Ip) {
        let Some(address) = self.addresses.iter_mut().find(|address| address.ip == ip) else { return };
        if let AddressState::Tentative { .. } = address.state {
            address.state = AddressState::Duplicate;
            counters.dad_failures += 1;
        } else {
            counters.arp_conflicts += 1;
        }
    }

    /// When the next probe is due, in milliseconds.
    pub(crate) fn next_probe_ms(&self, now: Now) -> Option<u32> {
        let due = |address: &Address| match address.state {
            AddressState::Tentative { due_ms, .. } => Some(now.since_inverse(due_ms)),
            _ => None,
        };
        self.addresses.iter().filter_map(due).min()
    }
}
