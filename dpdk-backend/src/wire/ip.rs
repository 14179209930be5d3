//! Sizes that differ between the versions of IP.

use super::{Ip, ipv4, ipv6, tcp};

/// Bytes of an IP header of the family of `ip`, without options or extensions.
pub const fn header_size(ip: Ip) -> usize {
    if ip.is_v4() { ipv4::HEADER_SIZE } else { ipv6::HEADER_SIZE }
}

/// Bytes of the headers of a segment without options, IP's and TCP's.
pub const fn segment_headers_size(ip: Ip) -> u16 {
    (header_size(ip) + tcp::HEADER_SIZE) as u16
}

/// The smallest MTU of a path that is accepted, in bytes (RFC 1191, 3: Linux's floor; RFC 8200, 5).
pub const fn path_mtu_min(ip: Ip) -> u32 {
    if ip.is_v4() { 552 } else { 1280 }
}

/// The MSS of a peer that announces none (RFC 9293, 3.7.1; IPv6: 1280 less 60).
pub const fn mss_default(ip: Ip) -> u16 {
    if ip.is_v4() { 536 } else { 1220 }
}
