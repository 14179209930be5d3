//! Headers of frames that leave, written for each transmission.

use super::interface::Interface;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::flow::Tuple;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{Ip, Mac, ip, tcp};

/// Bytes of the largest header: Ethernet, IPv6, TCP with all its options.
pub(crate) const HEADER_SIZE_MAX: usize = ethernet::HEADER_SIZE + ipv6::HEADER_SIZE + tcp::HEADER_SIZE_MAX;

/// Sizes of a frame's headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers {
    pub(crate) ip_size: u8,
    pub(crate) tcp_size: u8,
    pub(crate) size: usize,
}

/// A TCP segment without its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpFrame<'a> {
    pub(crate) mac: Mac,
    pub(crate) tuple: Tuple,
    pub(crate) header: &'a tcp::Tcp,
    pub(crate) payload_size: usize,
    /// The folded sum of the payload. `None` when the device fills the checksum in.
    pub(crate) payload_sum: Option<u16>,
}

impl Interface {
    /// Writes Ethernet and IP headers. Returns the offset of the upper layer.
    pub(crate) fn write_ip(
        &self,
        out: &mut [u8],
        mac: Mac,
        from: Ip,
        to: Ip,
        protocol: u8,
        size: usize,
    ) -> usize {
        let v4 = from.v4().zip(to.v4());
        let ether_type = if v4.is_some() { ethernet::IPV4 } else { ethernet::IPV6 };
        Ethernet { destination: mac, source: self.mac, ether_type }.emit(out);
        let out = &mut out[ethernet::HEADER_SIZE..];
        if let Some((source, destination)) = v4 {
            let header = Ipv4 {
                source,
                destination,
                protocol,
                hop_limit: self.hop_limit,
                payload_size: size as u16,
                header_size: ipv4::HEADER_SIZE as u8,
                is_fragment: false,
            };
            header.emit(out);
            return ethernet::HEADER_SIZE + ipv4::HEADER_SIZE;
        }
        // RFC 4861, 7.1: the hop limit shows that discovery is local.
        let hop_limit = if protocol == ipv4::ICMPV6 { 255 } else { self.hop_limit };
        let header = Ipv6 {
            source: from.octets(),
            destination: to.octets(),
            protocol,
            hop_limit,
            payload_size: size as u16,
            header_size: ipv6::HEADER_SIZE as u16,
            is_fragment: false,
        };
        header.emit(out);
        ethernet::HEADER_SIZE + ipv6::HEADER_SIZE
    }

    /// Writes all headers of a TCP segment. The checksum is complete when the payload's sum is
    /// known.
    pub(crate) fn write_tcp(&self, out: &mut [u8], frame: &TcpFrame<'_>) -> Headers {
        let at = ethernet::HEADER_SIZE + ip::header_size(frame.tuple.local);
        let tcp_size = frame.header.emit(&mut out[at..]);
        let segment_size = tcp_size + frame.payload_size;
        let (from, to) = (frame.tuple.local, frame.tuple.remote);
        self.write_ip(out, frame.mac, from, to, ipv4::TCP, segment_size);
        let pseudo = Sum::ZERO.pseudo_header(from, to, ipv4::TCP, segment_size);
        let checksum = match frame.payload_sum {
            Some(payload) => pseudo.bytes(&out[at..at + tcp_size]).part(payload, false).finish(),
            None => pseudo.fold(),
        };
        if let Ok(mut segment) = tcp::Packet::new_checked(&mut out[at..]) {
            segment.set_checksum(checksum);
        }
        Headers { ip_size: (at - ethernet::HEADER_SIZE) as u8, tcp_size: tcp_size as u8, size: at + tcp_size }
    }
}
