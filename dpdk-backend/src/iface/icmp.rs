//! ICMP and ICMPv6: echo requests are answered in their own buffer, and errors about a segment are
//! passed to TCP.
//!
//! RFC 5927: an attacker that guesses a tuple can send an error about it. An error is therefore
//! accepted only with a sequence number that is in flight. It never ends an established connection,
//! and never lowers the MTU below the smallest one of a link.

use super::interface::Interface;
use crate::counters::Counters;
use crate::time::Now;
use crate::wire::checksum::{self, Sum};
use crate::wire::flow::Tuple;
use crate::wire::icmp::{self, Message, kind};
use crate::wire::{Ip, Mac, ethernet, ip, ipv4, ipv6, ndp, tcp};
use netpoll::Buffer;

/// Bytes of the offending packet that are quoted (RFC 792: the header and 8 bytes; here what a
/// small frame holds).
const QUOTE_SIZE_MAX: usize = 48;
/// Type and code: protocol unreachable (RFC 792).
const UNREACHABLE_PROTOCOL: (u8, u8) = (kind::UNREACHABLE, 2);
/// Type and code: unrecognized next header (RFC 4443, 3.4), and the offset of that field.
const UNKNOWN_NEXT_HEADER: (u8, u8) = (kind::V6_PARAMETER, 1);
const NEXT_HEADER_POINTER: u32 = 6;

/// An error about a segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// The tuple of the quoted segment, from this host's view.
    pub(crate) tuple: Tuple,
    /// Its sequence number.
    pub(crate) sequence: u32,
    pub(crate) message: Message,
}

/// The place of a received message in its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IcmpPacket {
    pub(crate) source: Ip,
    pub(crate) destination: Ip,
    pub(crate) mac: Mac,
    /// The offset of the ICMP header in the frame, and the bytes from there.
    pub(crate) at: usize,
    pub(crate) size: usize,
    pub(crate) hop_limit: u8,
}

impl Interface {
    /// Handles a message. Returns the error, if it is about a segment of ours.
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

    /// RFC 1122, 3.2.2.6, and RFC 4443, 4.2: returns the same data. Never answers a group.
    fn answer_echo(&mut self, counters: &mut Counters, now: Now, packet: &IcmpPacket, mut frame: Buffer) {
        let Some(_) = self.local_index(packet.destination) else { return };
        if !self.icmp_limit.take(now) {
            counters.icmp_limited += 1;
            return;
        }
        let is_v4 = packet.source.is_v4();
        // A header with options would need an answer with options, which is not supported.
        if packet.at != ethernet::HEADER_SIZE + ip::header_size(packet.source) {
            counters.icmp_ignored += 1;
            return;
        }
        frame.truncate(packet.at + packet.size);
        let bytes = frame.as_mut_slice();
        let protocol = if is_v4 { ipv4::ICMP } else { ipv4::ICMPV6 };
        self.write_ip(bytes, packet.mac, packet.destination, packet.source, protocol, packet.size);
        // Swapping source and destination does not change the pseudo-header's sum.
        let Ok(mut message) = icmp::Packet::new_checked(&mut bytes[packet.at..]) else { return };
        message.replace_kind(if is_v4 { kind::ECHO_REPLY } else { kind::V6_ECHO_REPLY });
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
            let (kind, pointer, pseudo) = match is_v4 {
                true => (UNREACHABLE_PROTOCOL, 0, Sum::ZERO),
                false => {
                    let sum = Sum::ZERO.pseudo_header(packet.destination, packet.source, protocol, size);
                    (UNKNOWN_NEXT_HEADER, NEXT_HEADER_POINTER, sum)
                }
            };
            if let Ok(mut message) = icmp::Packet::new_checked(&mut out[at..at + size]) {
                message.write_error(kind, pointer, quote);
                message.fill_checksum(pseudo);
            }
            at + size
        });
    }
}

/// Tuple and sequence number of a quoted IPv4 segment of ours. The quote may be cut anywhere after
/// 8 bytes of TCP.
fn quoted_v4(quote: &[u8]) -> Option<(Tuple, u32)> {
    let packet = ipv4::Packet::new_checked(quote).ok().filter(|packet| packet.protocol() == ipv4::TCP)?;
    quoted_tcp(packet.payload(), Ip::from_v4(packet.source()), Ip::from_v4(packet.destination()))
}

fn quoted_v6(quote: &[u8]) -> Option<(Tuple, u32)> {
    let packet = ipv6::Packet::new_checked(quote).ok().filter(|packet| packet.next_header() == ipv4::TCP)?;
    quoted_tcp(packet.payload(), Ip::from_v6(packet.source()), Ip::from_v6(packet.destination()))
}

fn quoted_tcp(segment: &[u8], local: Ip, remote: Ip) -> Option<(Tuple, u32)> {
    let quote = tcp::Quote::parse(segment).ok()?;
    let tuple = Tuple { remote, local, remote_port: quote.destination_port, local_port: quote.source_port };
    Some((tuple, quote.sequence))
}
