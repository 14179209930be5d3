//! One request to the kernel's routing socket: the kind of the interface with this name
//! (rtnetlink(7)).
//!
//! The answer is about the network namespace of the calling thread. `/sys/class/net` shows the
//! namespace in which `/sys` was mounted, which differs behind `unshare --net` or `ip netns exec`
//! with a bound `/sys`.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;

// linux/rtnetlink.h, linux/netlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
/// The flags in a type: NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_FLAGS: u16 = 0xc000;
/// Bytes of `struct nlmsghdr`, and of `struct ifinfomsg` behind it.
const HEADER: usize = 16;
const LINK: usize = 16;
/// Bytes of the longest name of an interface, including its terminator.
const IFNAMSIZ: usize = 16;

/// An interface that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// A TAP or TUN interface that outlives its processes and takes several queues.
    pub(super) is_shared_tun: bool,
}

/// The interface of this name in the thread's network namespace, if there is one.
///
/// # Errors
/// Those of the socket, and of the kernel's answer.
pub(super) fn interface(name: &str) -> io::Result<Option<Interface>> {
    if name.is_empty() || name.len() >= IFNAMSIZ {
        return Ok(None); // no interface can have it
    }
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &question(name), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = vec![0; 32 << 10];
    let (size, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    parse(&answer[..size])
}

/// RTM_GETLINK with a name instead of a number.
fn question(name: &str) -> Vec<u8> {
    let attribute_size = 4 + name.len() + 1;
    let size = HEADER + LINK + attribute_size.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend((size as u32).to_ne_bytes());
    bytes.extend(RTM_GETLINK.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.resize(HEADER + LINK, 0); // sequence, port, and any family, type, number and flags
    bytes.extend((attribute_size as u16).to_ne_bytes());
    bytes.extend(IFLA_IFNAME.to_ne_bytes());
    bytes.extend(name.as_bytes());
    bytes.resize(size, 0);
    bytes
}

fn parse(answer: &[u8]) -> io::Result<Option<Interface>> {
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    match kind {
        Some(NLMSG_ERROR) => {
            let code = word(HEADER).map_or(0, i32::from_ne_bytes);
            match Errno::from_raw_os_error(code.saturating_neg()) {
                Errno::NODEV => Ok(None),
                error => Err(error.into()),
            }
        }
        Some(RTM_NEWLINK) => {
            let attributes = answer.get(HEADER + LINK..).unwrap_or_default();
            let data = find(attributes, IFLA_LINKINFO).and_then(|info| find(info, IFLA_INFO_DATA));
            let is_set =
                |wanted| data.and_then(|data| find(data, wanted)).is_some_and(|one| one.first() == Some(&1));
            Ok(Some(Interface { is_shared_tun: is_set(IFLA_TUN_PERSIST) && is_set(IFLA_TUN_MULTI_QUEUE) }))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The value of the first attribute of a type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let size = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & !TYPE_FLAGS;
        let value = attributes.get(4..size)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(size.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there_and_another_is_not() {
        assert_eq!(interface("lo").unwrap(), Some(Interface { is_shared_tun: false }));
        assert_eq!(interface("no-such-if").unwrap(), None);
        assert_eq!(interface("").unwrap(), None);
        assert_eq!(interface("a-name-that-is-too-long").unwrap(), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_or_unknown_is_none() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0; 64]).is_err());
        assert_eq!(find(&[5, 0, 3, 0, 7, 0, 0, 0, 4, 0, 9, 0], 9), Some(&[][..]));
        assert_eq!(find(&[5, 0, 3, 0, 7], 3), Some(&[7][..]));
        assert_eq!(find(&[9, 0, 3, 0, 7], 3), None, "longer than what is there");
        assert_eq!(find(&[1, 0, 3, 0], 3), None, "shorter than its own head");
        assert_eq!(find(&[0, 0, 3, 0], 4), None, "it ends");
    }
}
