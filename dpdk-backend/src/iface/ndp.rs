//! Neighbor Discovery (RFC 4861): answers for our addresses, requests, and duplicate address
//! detection (RFC 4862).

use super::icmp::IcmpPacket;
use super::interface::Interface;
use super::neighbor::Source;
use crate::counters::Counters;
use crate::time::Now;
use crate::wire::checksum::Sum;
use crate::wire::ndp::{ALL_NODES, MESSAGE_SIZE, MESSAGE_SIZE_MIN, Ndp, solicited_node};
use crate::wire::{Ip, Mac, icmp, ipv4};

impl Interface {
    /// Whether an IPv6 packet to this group is for this host: all nodes, or the solicited-node
    /// group of an address of ours.
    pub(crate) fn listens_to_group(&self, group: Ip) -> bool {
        let octets = group.octets();
        octets == ALL_NODES
            || self
                .addresses
                .iter()
                .any(|address| !address.ip.is_v4() && solicited_node(address.ip.octets()) == octets)
    }

    /// Handles a message with a correct checksum.
    pub(super) fn handle_ndp(
        &mut self,
        counters: &mut Counters,
        now: Now,
        packet: &IcmpPacket,
        message: &[u8],
    ) {
        // RFC 4861, 7.1.1: the hop limit shows that no router has forwarded it.
        if packet.hop_limit != 255 {
            counters.drop_hop_limit += 1;
            return;
        }
        counters.ndp_received += 1;
        match Ndp::parse(message) {
            Ok(Ndp::Solicitation { target, source_mac }) => {
                self.handle_solicitation(counters, now, packet, target, source_mac);
            }
            Ok(Ndp::Advertisement { target, target_mac, overrides, .. }) => {
                self.handle_advertisement(counters, now, target, target_mac, overrides);
            }
            Err(_) => counters.drop_ndp += 1,
        }
    }

    fn handle_solicitation(
        &mut self,
        counters: &mut Counters,
        now: Now,
        packet: &IcmpPacket,
        target: [u8; 16],
        source_mac: Option<Mac>,
    ) {
        let ip = Ip::from_v6(target);
        let is_probe = packet.source == Ip::UNSPECIFIED;
        // RFC 4861, 7.1.1: a probe carries no address and goes to the group.
        if is_probe && (source_mac.is_some() || !packet.destination.is_multicast()) {
            counters.drop_ndp += 1;
            return;
        }
        if self.local_index(ip).is_none() {
            // RFC 4862, 5.4.3: another host probes for the address that we probe for.
            if is_probe {
                self.claimed_by_other(counters, now, ip);
            }
            return;
        }
        if !self.discovery_limit.take(now) {
            return;
        }
        if is_probe {
            return self.send_advertisement(counters, target, None, Mac::of_ipv6_group(ALL_NODES));
        }
        let mac = source_mac.unwrap_or(packet.mac);
        if self.is_on_link(packet.source) && !self.is_martian(packet.source) {
            self.resolved_any |= self.neighbors.learn(packet.source, mac, Source::Unasked, now, counters);
        }
        self.send_advertisement(counters, target, Some(packet.source), mac);
    }

    fn handle_advertisement(
        &mut self,
        counters: &mut Counters,
        now: Now,
        target: [u8; 16],
        target_mac: Option<Mac>,
        overrides: bool,
    ) {
        let ip = Ip::from_v6(target);
        if self.addresses.iter().any(|address| address.ip == ip) {
            return self.claimed_by_other(counters, now, ip);
        }
        // RFC 4861, 7.2.5: creates no entry. Without the override flag a known address stays.
        let (Some(mac), true) = (target_mac, self.neighbors.is_asked_for(ip)) else { return };
        let mut hint = u16::MAX;
        let known = self.neighbors.find(ip, &mut hint, now, counters).mac;
        if known.is_none() || overrides || known == Some(mac) {
            self.resolved_any |= self.neighbors.learn(ip, mac, Source::Asked, now, counters);
        }
    }

    pub(super) fn send_solicitation(&mut self, counters: &mut Counters, source: Ip, target: [u8; 16]) {
        let source_mac = (source != Ip::UNSPECIFIED).then_some(self.mac);
        let group = solicited_node(target);
        let message = Ndp::Solicitation { target, source_mac };
        self.send_ndp(counters, message, source, Ip::from_v6(group), Mac::of_ipv6_group(group));
    }

    pub(super) fn send_advertisement(
        &mut self,
        counters: &mut Counters,
        target: [u8; 16],
        to: Option<Ip>,
        mac: Mac,
    ) {
        let message = Ndp::Advertisement {
            target,
            target_mac: Some(self.mac),
            solicited: to.is_some(),
            overrides: true,
        };
        let to = to.unwrap_or(Ip::from_v6(ALL_NODES));
        self.send_ndp(counters, message, Ip::from_v6(target), to, mac);
    }

    fn send_ndp(&mut self, counters: &mut Counters, message: Ndp, from: Ip, to: Ip, mac: Mac) {
        self.reply(counters, |interface, out| {
            let mut bytes = [0; MESSAGE_SIZE];
            let size = message.emit(&mut bytes).max(MESSAGE_SIZE_MIN);
            if let Ok(mut message) = icmp::Packet::new_checked(&mut bytes[..size]) {
                message.fill_checksum(Sum::ZERO.pseudo_header(from, to, ipv4::ICMPV6, size));
            }
            let at = interface.write_ip(out, mac, from, to, ipv4::ICMPV6, size);
            out[at..at + size].copy_from_slice(&bytes[..size]);
            at + size
        });
    }
}
