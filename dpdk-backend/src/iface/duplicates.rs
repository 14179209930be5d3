//! Duplicate address detection (RFC 5227 for IPv4, RFC 4862, 5.4 for IPv6).

use super::address::{Address, AddressState, PROBES};
use super::interface::Interface;
use crate::counters::Counters;
use crate::time::Now;
use crate::wire::{Ip, Mac, ndp};

/// The time after which an address that another host uses is probed again, in milliseconds (RFC
/// 5227, 2.1.1: at most once a minute).
const ASK_AGAIN_MS: u32 = 60_000;
/// The time between probes, in milliseconds.
const PROBE_INTERVAL_MS: u32 = 300;

impl Interface {
    /// Sends due probes, and takes addresses without a conflict into use.
    pub(crate) fn poll_addresses(&mut self, counters: &mut Counters, now: Now) {
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

    /// RFC 5227, 2.3, and RFC 4861, 7.2.6: announces a new address to the link.
    fn announce(&mut self, counters: &mut Counters, ip: Ip) {
        match ip.v4() {
            Some(v4) => self.send_arp_request(counters, v4, v4),
            None => self.send_advertisement(counters, ip.octets(), None, Mac::of_ipv6_group(ndp::ALL_NODES)),
        }
    }

    /// Notes that another host uses, or probes for, an address of ours.
    pub(crate) fn claimed_by_other(&mut self, counters: &mut Counters, now: Now, ip: Ip) {
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

    /// Publishes the state of an address.
    pub(crate) fn note_address(&self, position: usize) {
        if let Some(watch) = &self.watch {
            watch.note(position, self.addresses[position].state);
        }
    }

    /// Milliseconds until the next probe is due.
    pub(crate) fn next_probe_ms(&self, now: Now) -> Option<u32> {
        let due = |address: &Address| match address.state {
            AddressState::Tentative { due_ms, .. } | AddressState::Duplicate { due_ms } => {
                Some(now.until(due_ms))
            }
            AddressState::Usable => None,
        };
        self.addresses.iter().filter_map(due).min()
    }
}
