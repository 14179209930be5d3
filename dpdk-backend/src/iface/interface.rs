//! The interface of one stack: its addresses, its neighbors, and the queue of control frames.

use super::address::AddressWatch;
use super::address::{Address, AddressState, InterfaceConfig, MTU_MIN};
use super::neighbor::{Neighbors, Source};
use crate::counters::Counters;
use crate::device::{Device, Frame};
use crate::time::{Now, RateLimit};
use crate::wire::{Ip, Mac};
use netpoll::{SharedBuffer, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;

/// Control frames that may wait in the queue.
const REPLIES_MAX: usize = 1024;
/// Bytes of a control frame without a buffer at most.
pub(crate) const SMALL_SIZE_MAX: usize = 128;

/// A frame that is ready to leave.
#[derive(Debug)]
enum Reply {
    /// Complete in itself.
    Small { bytes: [u8; SMALL_SIZE_MAX], size: u8 },
    /// Complete in a buffer: the answered frame, turned around.
    Turned(SharedBuffer),
}

/// The interface of one stack.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) mac: Mac,
    /// Bytes of the largest IP packet.
    pub(crate) mtu: u16,
    pub(super) hop_limit: u8,
    pub(super) addresses: Vec<Address>,
    pub(super) gateways: [Option<Ip>; 2],
    pub(super) neighbors: Neighbors,
    replies: VecDeque<Reply>,
    pub(super) icmp_limit: RateLimit,
    pub(super) discovery_limit: RateLimit,
    /// Whether a neighbor was resolved since the last call of `take_resolved`.
    pub(super) resolved_any: bool,
    pub(super) watch: Option<Arc<AddressWatch>>,
}

impl Interface {
    pub(crate) fn new(config: &InterfaceConfig, secret: u64, now: Now) -> Interface {
        let interface = Interface {
            mac: config.mac,
            mtu: config.mtu.max(MTU_MIN),
            hop_limit: config.hop_limit,
            addresses: config
                .addresses
                .iter()
                .map(|address| Address::new(address, config.detect_duplicates, now))
                .collect(),
            gateways: [
                config.gateway_v4.map(|ip| Ip::from_v4(ip.octets())),
                config.gateway_v6.map(|ip| Ip::from_v6(ip.octets())),
            ],
            neighbors: Neighbors::new(config.neighbors_max, secret),
            replies: VecDeque::with_capacity(REPLIES_MAX),
            icmp_limit: RateLimit::new(config.icmp_per_second, secret),
            discovery_limit: RateLimit::new(config.discoveries_per_second, !secret),
            resolved_any: false,
            watch: config.watch.clone(),
        };
        (0..interface.addresses.len()).for_each(|position| interface.note_address(position));
        interface
    }

    // --- addresses ---

    /// The index of an address of ours that may be used.
    #[inline]
    pub(crate) fn local_index(&self, ip: Ip) -> Option<u8> {
        let position = self.addresses.iter().position(|address| address.ip == ip && address.is_usable())?;
        Some(position as u8)
    }

    /// The address with an index; unspecified when there is none.
    #[inline]
    pub(crate) fn local(&self, index: u8) -> Ip {
        self.addresses.get(usize::from(index)).map_or(Ip::UNSPECIFIED, |address| address.ip)
    }

    /// The source address for `remote`: one on its link, else any of its family.
    pub(crate) fn source_for(&self, remote: Ip) -> Option<u8> {
        let usable = |address: &&Address| address.is_usable() && address.ip.is_v4() == remote.is_v4();
        let on_link =
            self.addresses.iter().filter(usable).find(|a| a.ip.shares_prefix(remote, a.prefix_length));
        let chosen = on_link.or_else(|| self.addresses.iter().find(usable))?;
        self.local_index(chosen.ip)
    }

    /// Whether duplicate address detection is complete for every address.
    pub(crate) fn has_checked_addresses(&self) -> bool {
        self.addresses.iter().all(|address| !matches!(address.state, AddressState::Tentative { .. }))
    }

    /// Whether `remote` is on a link of this host.
    pub(super) fn is_on_link(&self, remote: Ip) -> bool {
        self.addresses.iter().any(|address| address.ip.shares_prefix(remote, address.prefix_length))
    }

    /// Whether an address is no valid source (RFC 1122, 3.2.1.3; RFC 4291, 2.7; RFC 6890).
    pub(crate) fn is_martian(&self, source: Ip) -> bool {
        let special = match source.v4() {
            Some([0 | 127 | 224.., ..]) => true,
            Some(v4) => self.is_broadcast(v4),
            None => {
                let octets = source.octets();
                let is_loopback = octets[..15] == [0; 15] && octets[15] <= 1;
                // A mapped address never appears in an IPv6 header; `Ip` would take it for IPv4.
                octets[0] == 0xff || is_loopback
            }
        };
        special || self.addresses.iter().any(|address| address.ip == source)
    }

    /// Whether it is the broadcast address of a link of this host.
    pub(super) fn is_broadcast(&self, v4: [u8; 4]) -> bool {
        let bits = u32::from_be_bytes(v4);
        bits == u32::MAX
            || self.addresses.iter().any(|address| {
                let host_bits = 32_u32.saturating_sub(u32::from(address.prefix_length));
                let mask = if host_bits >= 32 { u32::MAX } else { (1 << host_bits) - 1 };
                let is_ours = address.ip.shares_prefix(Ip::from_v4(v4), address.prefix_length);
                is_ours && host_bits > 1 && (bits & mask == mask || bits & mask == 0)
            })
    }

    // --- neighbors ---

    /// The hardware address of the next hop to `remote`. Sends a request when it is not known.
    /// `hint` keeps the place of the entry.
    #[inline]
    pub(crate) fn resolve(
        &mut self,
        cx: &mut Counters,
        now: Now,
        local: u8,
        remote: Ip,
        hint: &mut u16,
    ) -> Option<Mac> {
        let hop = if self.is_on_link(remote) { remote } else { self.gateways[usize::from(!remote.is_v4())]? };
        let found = self.neighbors.find(hop, hint, now, cx);
        if found.ask {
            self.ask(cx, now, local, hop);
        }
        found.mac
    }

    /// Sends a request for `hop`'s hardware address.
    pub(super) fn ask(&mut self, counters: &mut Counters, now: Now, local: u8, hop: Ip) {
        if !self.discovery_limit.take(now) {
            return;
        }
        counters.arp_probes_sent += 1;
        match (hop.v4(), self.local(local).v4()) {
            (Some(target), Some(source)) => self.send_arp_request(counters, source, target),
            _ => self.send_solicitation(counters, self.local(local), hop.octets()),
        }
    }

    /// Whether a neighbor was resolved since the last call.
    pub(crate) fn take_resolved(&mut self) -> bool {
        std::mem::take(&mut self.resolved_any)
    }

    /// Adds a configured neighbor.
    pub(crate) fn set_neighbor(&mut self, ip: Ip, mac: Mac, now: Now, counters: &mut Counters) {
        self.neighbors.learn(ip, mac, Source::Asked, now, counters);
        self.resolved_any = true;
    }

    // --- control frames ---

    /// Queues a control frame that `write` fills in. Returns false when the queue is full.
    pub(crate) fn reply(
        &mut self,
        counters: &mut Counters,
        write: impl FnOnce(&Interface, &mut [u8; SMALL_SIZE_MAX]) -> usize,
    ) -> bool {
        if self.replies.len() == REPLIES_MAX {
            counters.replies_dropped += 1;
            return false;
        }
        let mut bytes = [0; SMALL_SIZE_MAX];
        let size = write(self, &mut bytes).min(SMALL_SIZE_MAX) as u8;
        self.replies.push_back(Reply::Small { bytes, size });
        true
    }

    pub(super) fn reply_turned(&mut self, counters: &mut Counters, frame: SharedBuffer) {
        if self.replies.len() == REPLIES_MAX {
            counters.replies_dropped += 1;
            return;
        }
        self.replies.push_back(Reply::Turned(frame));
    }

    /// Gives control frames to the device. Returns false when the device accepts no more; the rest
    /// stays, in order.
    pub(crate) fn flush_replies<D: Device>(
        &mut self,
        counters: &mut Counters,
        device: &mut D,
        now: Timestamp,
    ) -> bool {
        while let Some(reply) = self.replies.front() {
            let bytes = match reply {
                Reply::Small { bytes, size } => &bytes[..usize::from(*size)],
                Reply::Turned(frame) => &frame[..],
            };
            if device.transmit(now, &Frame::whole(bytes)).is_err() {
                counters.device_full += 1;
                return false;
            }
            counters.frames_sent += 1;
            self.replies.pop_front();
        }
        true
    }

    /// Whether another control frame has room.
    pub(crate) fn has_reply_room(&self) -> bool {
        self.replies.len() < REPLIES_MAX
    }

    /// Whether control frames wait.
    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }
}
