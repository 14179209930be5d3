//! ICMP and ICMPv6: echoes are answered in the buffer that asked; errors are handed to TCP if they are about it.
//!
//! RFC 5927: whoever can guess a tuple can send an error about it. So an error counts only with a sequence number that is
//! in flight, never ends an established connection, and never lowers the MTU below the least that a link may have.

use super::interface::Interface;
use crate::counters::Counters;
use crate::time::Now;
use crate::wire::checksum::{self, Sum};
use crate::wire::flow::Tuple;
use crate::wire::icmp::{self, Message, kind};
use crate::wire::{Ip, Mac, array, be16, be32, ethernet, ipv4, ipv6, ndp};
use netpoll::Buffer;

/// Bytes of the offending packet that are quoted (RFC 792: the header and 8 bytes; here so much as a small frame holds).
const QUOTE_SIZE_MAX: usize = 48;

/// An error about a segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// Of the quoted segment, seen from us.
    pub(crate) tuple: Tuple,
    /// Its sequence number.
    pub(crate) sequence: u32,
    pub(crate) message: Message,
}

/// A message that came in: whose frame, and where its parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IcmpPacket {
    pub(crate) source: Ip,
    pub(crate) destination: Ip,
    pub(crate) mac: Mac,
    /// Where the ICMP header begins in the frame, and how many bytes there are from there.
    pub(crate) at: usize,
    pub(crate) size: usize,
    pub(crate) hop_limit: u8,
}

impl Interface {
    /// A message came in. Returns the error that TCP has to know of, if it is one.
    pub(crate) fn handle_icmp(
        &mut self,
        counters: &mut Counters,
        now: Now,
        packet: &IcmpPacket,
        frame: Buffer,
    ) -> Option<IcmpError> {
        let message = frame.as_slice().get(packet.at..packet.at + packet.size)?;
        let is_v4 = packet.source.is_v4();
        let pseudo = match is_v4 {
            true => Sum::ZERO,
            false => Sum::ZERO.pseudo_header(packet.source, packet.destination, ipv4::ICMPV6, packet.size),
        };
        let parsed = if is_v4 { icmp::parse_v4(message) } else { icmp::parse_v6(message) };
        let parsed = match parsed {
            Ok(parsed) if checksum::is_correct(pseudo, message) => parsed,
            _ => {
                counters.drop_icmp += 1;
                return None;
            }
        };
        match parsed {
            Message::EchoRequest => {
                self.answer_echo(counters, now, packet, frame);
                None
            }
            Message::PacketTooBig { .. } | Message::Unreachable { .. } => {
                counters.icmp_received += 1;
                let quote = &message[icmp::HEADER_SIZE..];
                let found = if is_v4 { quoted_v4(quote) } else { quoted_v6(quote) };
                found.map(|(tuple, sequence)| IcmpError { tuple, sequence, message: parsed })
            }
            Message::Other { kind } if !is_v4 && ndp::is_discovery(kind) => {
                self.handle_ndp(counters, now, packet, message);
                None
            }
            Message::EchoReply | Message::Ignored | Message::Other { .. } => {
                counters.icmp_ignored += 1;
                None
            }
        }
    }

    /// RFC 1122, 3.2.2.6, and RFC 4443, 4.2: the same data back. Never to a group.
    fn answer_echo(&mut self, counters: &mut Counters, now: Now, packet: &IcmpPacket, mut frame: Buffer) {
        let Some(_) = self.local_index(packet.destination) else { return };
        if !self.icmp_limit.take(now) {
            counters.icmp_limited += 1;
            return;
        }
        let is_v4 = packet.source.is_v4();
        // A header with options would have to be answered with options; nobody needs that.
        let plain = ethernet::HEADER_SIZE + if is_v4 { ipv4::HEADER_SIZE } else { ipv6::HEADER_SIZE };
        if packet.at != plain {
            counters.icmp_ignored += 1;
            return;
        }
        frame.truncate(packet.at + packet.size);
        let bytes = frame.as_mut_slice();
        let protocol = if is_v4 { ipv4::ICMP } else { ipv4::ICMPV6 };
        self.write_ip(bytes, packet.mac, packet.destination, packet.source, protocol, packet.size);
        let (request, reply) = match is_v4 {
            true => (kind::ECHO_REQUEST, kind::ECHO_REPLY),
            false => (kind::V6_ECHO_REQUEST, kind::V6_ECHO_REPLY),
        };
        bytes[packet.at] = reply;
        // Source and destination swapped leave the pseudo-header's sum as it was.
        let field = be16(bytes, packet.at + 2);
        let field = checksum::update(field, u16::from(request) << 8, u16::from(reply) << 8);
        bytes[packet.at + 2..packet.at + 4].copy_from_slice(&field.to_be_bytes());
        counters.icmp_echoes += 1;
        self.reply_turned(counters, frame.freeze());
    }

    /// Protocol unreachable (RFC 1122, 3.2.2.1), or an unknown next header (RFC 4443, 3.4).
    pub(crate) fn refuse_protocol(
        &mut self,
        counters: &mut Counters,
        now: Now,
        packet: &IcmpPacket,
        quote: &[u8],
    ) {
        counters.drop_protocol += 1;
        if !self.icmp_limit.take(now) {
            counters.icmp_limited += 1;
            return;
        }
        let is_v4 = packet.source.is_v4();
        let quote = &quote[..quote.len().min(QUOTE_SIZE_MAX)];
        let size = icmp::HEADER_SIZE + quote.len();
        self.reply(counters, |interface, out| {
            let protocol = if is_v4 { ipv4::ICMP } else { ipv4::ICMPV6 };
            let at = interface.write_ip(out, packet.mac, packet.destination, packet.source, protocol, size);
            let (kind, code) = if is_v4 { (kind::UNREACHABLE, 2) } else { (kind::V6_PARAMETER, 1) };
            out[at..at + 8].copy_from_slice(&[kind, code, 0, 0, 0, 0, 0, if is_v4 { 0 } else { 6 }]);
            out[at + icmp::HEADER_SIZE..at + size].copy_from_slice(quote);
            let pseudo = match is_v4 {
                true => Sum::ZERO,
                false => Sum::ZERO.pseudo_header(packet.destination, packet.source, protocol, size),
            };
            let sum = pseudo.bytes(&out[at..at + size]).finish();
            out[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
            at + size
        });
    }
}

/// Tuple and sequence number of a quoted IPv4 segment of ours. The quote may be cut anywhere behind 8 bytes of TCP.
fn quoted_v4(quote: &[u8]) -> Option<(Tuple, u32)> {
    let fixed: [u8; ipv4::HEADER_SIZE] = array(quote, 0)?;
    let header_size = usize::from(fixed[0] & 0xf) * 4;
    if fixed[0] >> 4 != 4 || header_size < ipv4::HEADER_SIZE || fixed[9] != ipv4::TCP {
        return None;
    }
    let (local, remote) = (Ip::from_v4(array(&fixed, 12)?), Ip::from_v4(array(&fixed, 16)?));
    quoted_tcp(quote.get(header_size..)?, local, remote)
}

fn quoted_v6(quote: &[u8]) -> Option<(Tuple, u32)> {
    let fixed: [u8; ipv6::HEADER_SIZE] = array(quote, 0)?;
    if fixed[0] >> 4 != 6 || fixed[6] != ipv4::TCP {
        return None;
    }
    let (local, remote) = (Ip::from_v6(array(&fixed, 8)?), Ip::from_v6(array(&fixed, 24)?));
    quoted_tcp(quote.get(ipv6::HEADER_SIZE..)?, local, remote)
}

fn quoted_tcp(segment: &[u8], local: Ip, remote: Ip) -> Option<(Tuple, u32)> {
    let first: [u8; 8] = array(segment, 0)?;
    let tuple = Tuple { remote, local, remote_port: be16(&first, 2), local_port: be16(&first, 0) };
    Some((tuple, be32(&first, 4)))
}
