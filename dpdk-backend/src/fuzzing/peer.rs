//! The peer of the fuzz body: frames that are correct except for what the input changes, and an
//! observer of the link.

use crate::device::{Device, DeviceFull, Frame, Received};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::icmp;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::ndp::{self, Ndp};
use crate::wire::tcp::{self, Flags, Options, Tcp};
use crate::wire::{Ip, Mac};
use netpoll::{BufferPools, Timestamp};
use std::net::IpAddr;

pub(super) const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The peer's first sequence number: it wraps early.
pub(super) const IRS: u32 = 0xffff_f000;

/// Keeps the last sequence numbers that left, as an observer on the link does.
#[derive(Default)]
pub(super) struct Tap {
    /// The sequence number after the last byte that left.
    pub(super) sequence: u32,
    /// The last timestamp.
    pub(super) stamp: u32,
    /// Ours and the peer's in the last segment.
    pub(super) ports: Option<(u16, u16)>,
    frames: usize,
}

impl Device for Tap {
    fn receive_burst(&mut self, _: Timestamp, _: &mut BufferPools, _: &mut Vec<Received>) {}

    fn transmit(&mut self, _: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        self.frames += 1;
        assert!(frame.size() <= 1514, "a frame of {} bytes", frame.size());
        if let Some(segment) = segment_of(frame.header)
            && let Ok(tcp) = Tcp::parse(segment)
        {
            let size = frame.payload.len() as u32 + u32::from(tcp.flags.has(Flags::SYN.with(Flags::FIN)));
            self.sequence = tcp.sequence.wrapping_add(size);
            self.ports = Some((tcp.source_port, tcp.destination_port));
            self.stamp = tcp.options.timestamp.map_or(self.stamp, |stamp| stamp.0);
        }
        // The device is full at times.
        if self.frames.is_multiple_of(7) { Err(DeviceFull) } else { Ok(()) }
    }

    fn transmit_burst(&mut self, _: Timestamp) {}
}

/// The TCP segment behind a frame's headers, if it has one.
fn segment_of(header: &[u8]) -> Option<&[u8]> {
    let frame = ethernet::Packet::new_checked(header).ok()?;
    match frame.ether_type() {
        ethernet::IPV4 => {
            let packet = ipv4::Packet::new_checked(frame.payload()).ok()?;
            (packet.protocol() == ipv4::TCP).then(|| packet.payload())
        }
        ethernet::IPV6 => {
            let packet = ipv6::Packet::new_checked(frame.payload()).ok()?;
            (packet.next_header() == ipv4::TCP).then(|| packet.payload())
        }
        _ => None,
    }
}

/// The IP version of both hosts.
#[derive(Clone, Copy)]
pub(super) struct Family {
    v6: bool,
}

impl Family {
    pub(super) fn new(v6: bool) -> Family {
        Family { v6 }
    }

    pub(super) fn own(self) -> IpAddr {
        self.host(1)
    }

    pub(super) fn peer(self) -> IpAddr {
        self.host(2)
    }

    /// Bits of the link's prefix.
    pub(super) fn prefix(self) -> u8 {
        if self.v6 { 64 } else { 24 }
    }

    fn host(self, number: u8) -> IpAddr {
        match self.v6 {
            false => IpAddr::from([10, 0, 0, number]),
            true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
        }
    }

    /// A segment of the peer with `size` bytes of payload and a correct checksum.
    pub(super) fn segment(
        self,
        (local, remote): (u16, u16),
        flags: Flags,
        (sequence, acknowledgement): (u32, u32),
        options: Options,
        (size, window): (usize, u16),
    ) -> Vec<u8> {
        let mut segment = vec![0; 60];
        let tcp = Tcp {
            source_port: remote,
            destination_port: local,
            sequence,
            acknowledgement,
            flags,
            window,
            header_size: 0,
            options,
        };
        let header_size = tcp.emit(&mut segment);
        segment.resize(header_size, 0);
        segment.resize(header_size + size, 7);
        self.checked(ipv4::TCP, 64, &mut segment)
    }

    /// Any bytes behind a valid IP header. The low bits of `choice` select the protocol; the
    /// highest leaves the checksum as it is.
    pub(super) fn raw(self, choice: u8, payload: &mut [u8]) -> Vec<u8> {
        let protocol = [ipv4::ICMP, ipv4::TCP, ipv4::ICMPV6, 17][usize::from(choice % 4)];
        let hop_limit = if choice & 4 == 0 { 255 } else { 64 };
        match choice & 0x80 {
            0 => self.checked(protocol, hop_limit, payload),
            _ => self.packet((self.peer(), self.own()), protocol, hop_limit, payload),
        }
    }

    /// An error about a segment of ours: destination unreachable, or the family's "too big".
    pub(super) fn error(
        self,
        (kind, code): (u8, u8),
        mtu: u32,
        (local, remote): (u16, u16),
        sequence: u32,
    ) -> Vec<u8> {
        let kind = match (self.v6, kind) {
            (false, _) => icmp::kind::UNREACHABLE,
            (true, 0) => icmp::kind::V6_UNREACHABLE,
            (true, _) => icmp::kind::V6_TOO_BIG,
        };
        let mut segment = [0; 8];
        segment[..2].copy_from_slice(&local.to_be_bytes());
        segment[2..4].copy_from_slice(&remote.to_be_bytes());
        segment[4..].copy_from_slice(&sequence.to_be_bytes());
        let quoted =
            &self.packet((self.own(), self.peer()), ipv4::TCP, 64, &segment)[ethernet::HEADER_SIZE..];
        let mut message = vec![kind, code, 0, 0];
        message.extend_from_slice(&mtu.to_be_bytes());
        message.extend_from_slice(quoted);
        self.checked(if self.v6 { ipv4::ICMPV6 } else { ipv4::ICMP }, 64, &mut message)
    }

    /// ARP, or neighbor discovery, about hosts that exist and hosts that do not.
    pub(super) fn discovery(self, choice: u8, mac: u8) -> Vec<u8> {
        let is_question = choice & 1 == 0;
        let sender = self.host(choice >> 1 & 3);
        let target = self.host(choice >> 3 & 3);
        let mac = Mac([2, 0, 0, 0, 0, mac]);
        if !self.v6 {
            let v4 = |ip: IpAddr| Ip::from(ip).v4().unwrap_or_default();
            let sender_ip = if choice & 0x20 == 0 { v4(sender) } else { [0; 4] };
            let operation = if is_question { Operation::Request } else { Operation::Reply };
            let arp =
                Arp { operation, sender_mac: mac, sender_ip, target_mac: OWN_MAC, target_ip: v4(target) };
            let mut frame = vec![0; ethernet::HEADER_SIZE + arp::PACKET_SIZE];
            Ethernet { destination: OWN_MAC, source: PEER_MAC, ether_type: ethernet::ARP }.emit(&mut frame);
            arp.emit(&mut frame[ethernet::HEADER_SIZE..]);
            return frame;
        }
        let target = Ip::from(target).octets();
        let mac = (choice & 0x20 == 0).then_some(mac);
        let (solicited, overrides) = (choice & 0x40 != 0, choice & 0x80 != 0);
        let message = match is_question {
            true => Ndp::Solicitation { target, source_mac: mac },
            false => Ndp::Advertisement { target, target_mac: mac, solicited, overrides },
        };
        let mut bytes = vec![0; ndp::MESSAGE_SIZE];
        let size = message.emit(&mut bytes);
        self.checked(ipv4::ICMPV6, 255, &mut bytes[..size])
    }

    /// A packet of the peer with a correct checksum of its protocol.
    fn checked(self, protocol: u8, hop_limit: u8, payload: &mut [u8]) -> Vec<u8> {
        let (from, to) = (Ip::from(self.peer()), Ip::from(self.own()));
        let pseudo = match protocol {
            ipv4::ICMP => Sum::ZERO,
            _ => Sum::ZERO.pseudo_header(from, to, protocol, payload.len()),
        };
        if protocol == ipv4::TCP {
            // A segment too short for a header has no place for a checksum.
            if let Ok(mut segment) = tcp::Packet::new_checked(&mut *payload) {
                segment.fill_checksum(pseudo);
            }
        } else if let Ok(mut message) = icmp::Packet::new_checked(&mut *payload) {
            message.fill_checksum(pseudo);
        }
        self.packet((self.peer(), self.own()), protocol, hop_limit, payload)
    }

    /// A frame for this host with a valid IP header and the addresses of the packet.
    fn packet(self, (from, to): (IpAddr, IpAddr), protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = (Ip::from(from), Ip::from(to));
        let payload_size = payload.len() as u16;
        let (ether_type, header_size) = match self.v6 {
            false => (ethernet::IPV4, ipv4::HEADER_SIZE),
            true => (ethernet::IPV6, ipv6::HEADER_SIZE),
        };
        let mut frame = vec![0; ethernet::HEADER_SIZE + header_size];
        Ethernet { destination: OWN_MAC, source: PEER_MAC, ether_type }.emit(&mut frame);
        let out = &mut frame[ethernet::HEADER_SIZE..];
        match (source.v4(), destination.v4()) {
            (Some(source), Some(destination)) => {
                let header_size = ipv4::HEADER_SIZE as u8;
                let is_fragment = false;
                Ipv4 { source, destination, protocol, hop_limit, payload_size, header_size, is_fragment }
                    .emit(out);
            }
            _ => {
                let (source, destination) = (source.octets(), destination.octets());
                let header_size = ipv6::HEADER_SIZE as u16;
                let is_fragment = false;
                Ipv6 { source, destination, protocol, hop_limit, payload_size, header_size, is_fragment }
                    .emit(out);
            }
        }
        frame.extend_from_slice(payload);
        frame
    }
}
