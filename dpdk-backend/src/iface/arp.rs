//! ARP (RFC 826), with RFC 5227's rules for an address that two hosts claim.
//!
//! Entries are learned only from packets for this host: a request for an address of ours shows its
//! sender, and a reply is accepted only after a request. Gratuitous packets update entries in use
//! (RFC 826's merge) and create none.

use super::interface::Interface;
use super::neighbor::Source;
use crate::counters::Counters;
use crate::time::Now;
use crate::wire::arp::{Arp, Operation, PACKET_SIZE};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::{Ip, Mac};

impl Interface {
    /// Handles a packet.
    pub(crate) fn handle_arp(&mut self, counters: &mut Counters, now: Now, packet: &[u8]) {
        let Ok(arp) = Arp::parse(packet) else {
            counters.drop_arp += 1;
            return;
        };
        let (sender, target) = (Ip::from_v4(arp.sender_ip), Ip::from_v4(arp.target_ip));
        let is_probe = arp.sender_ip == [0; 4];
        if arp.sender_mac == self.mac {
            return; // our own, reflected
        }
        // RFC 5227, 2.1.1 and 2.4: another host sends from an address of ours, or probes for one
        // that we probe for.
        if self
            .addresses
            .iter()
            .any(|address| address.ip == sender || (is_probe && address.ip == target && !address.is_usable()))
        {
            let claimed = if is_probe { target } else { sender };
            self.claimed_by_other(counters, now, claimed);
            self.defend(counters, now, claimed);
            return;
        }
        if !is_probe && (self.is_martian(sender) || !self.is_on_link(sender)) {
            counters.drop_arp += 1;
            return;
        }
        match arp.operation {
            Operation::Request => self.answer_arp(counters, now, &arp, is_probe),
            Operation::Reply => {
                counters.arp_replies += 1;
                if self.neighbors.is_asked_for(sender) {
                    self.resolved_any |=
                        self.neighbors.learn(sender, arp.sender_mac, Source::Asked, now, counters);
                }
            }
        }
    }

    fn answer_arp(&mut self, counters: &mut Counters, now: Now, arp: &Arp, is_probe: bool) {
        let sender = Ip::from_v4(arp.sender_ip);
        if self.local_index(Ip::from_v4(arp.target_ip)).is_none() {
            // RFC 826: a known sender may have moved.
            if !is_probe && self.neighbors.is_asked_for(sender) {
                self.neighbors.learn(sender, arp.sender_mac, Source::Asked, now, counters);
            }
            return;
        }
        counters.arp_requests += 1;
        if !self.discovery_limit.take(now) {
            return;
        }
        if !is_probe {
            self.resolved_any |= self.neighbors.learn(sender, arp.sender_mac, Source::Unasked, now, counters);
        }
        let reply = Arp {
            operation: Operation::Reply,
            sender_mac: self.mac,
            sender_ip: arp.target_ip,
            target_mac: arp.sender_mac,
            target_ip: arp.sender_ip,
        };
        self.send_arp(counters, reply, arp.sender_mac);
    }

    /// RFC 5227, 2.4(b): announces the address once more.
    fn defend(&mut self, counters: &mut Counters, now: Now, ip: Ip) {
        if self.local_index(ip).is_some()
            && self.discovery_limit.take(now)
            && let Some(v4) = ip.v4()
        {
            self.send_arp_request(counters, v4, v4);
        }
    }

    pub(super) fn send_arp_request(&mut self, counters: &mut Counters, source: [u8; 4], target: [u8; 4]) {
        let request = Arp {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender_ip: source,
            target_mac: Mac::default(),
            target_ip: target,
        };
        self.send_arp(counters, request, Mac::BROADCAST);
    }

    fn send_arp(&mut self, counters: &mut Counters, packet: Arp, destination: Mac) {
        self.reply(counters, |interface, out| {
            Ethernet { destination, source: interface.mac, ether_type: ethernet::ARP }.emit(out);
            packet.emit(&mut out[ethernet::HEADER_SIZE..]);
            (ethernet::HEADER_SIZE + PACKET_SIZE).max(60)
        });
    }
}
