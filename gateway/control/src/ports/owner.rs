//! Which living process has a port, or a lock: asked of `/proc`, as `ss -ltnp` does.
//!
//! A process shows its descriptors to its own user and to root, and only while its first thread
//! lives. So a killed process of which the kernel still frees rings and memory is not found here,
//! and a process that serves is.

use gateway_config::collide;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, netlink, recv,
    send, socket_with, sockopt,
};
use rustix::process::geteuid;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// `TCP_LISTEN` in proc_net_tcp, hexadecimal.
const LISTEN: &str = "0A";
/// What the names of all locks begin with.
const PREFIX: &str = "gateway";

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// One that can be named.
    Process { pid: u32, name: String },
    /// One of another user, by number: its descriptors are not shown to this one.
    OfUser(u32),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Owner::OfUser(uid) => write!(f, "a process of user {uid}"),
        }
    }
}

/// The name of a lock: of this user, for only its processes may share a port.
pub(super) fn lock_name(what: &str, which: &dyn fmt::Display) -> String {
    format!("{PREFIX}/{}/{what}/{which}", geteuid().as_raw())
}

/// The living process that listens on `address`, or holds the lock of an address that collides with
/// it. A process that holds only the start lock of the port may listen elsewhere, and releases the
/// lock soon.
pub(super) fn find(address: SocketAddr) -> Option<Owner> {
    let listeners = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| listeners(Path::new(file)));
    let listeners = listeners.into_iter().flatten().filter(|one| collide(one.address, address));
    let (mut inodes, mut foreign) = (Vec::new(), None);
    let own = geteuid();
    for listener in listeners {
        inodes.push(listener.inode);
        if listener.uid != own.as_raw() && !own.is_root() {
            foreign = Some(Owner::OfUser(listener.uid));
        }
    }
    inodes.extend(locks().into_iter().filter(|(name, _)| guards(name, address)).map(|(_, inode)| inode));
    process_with(&inodes).or(foreign)
}

/// Whether another user's process has a lock's name. The kernel lets no two users share a port, so
/// such a process is no gateway to keep apart from. The kernel is asked for the socket's user.
/// Where it does not say, a connection is tried: a socket that takes none counts as one of ours.
pub(super) fn is_squatted(name: &str) -> bool {
    // Connections that wait in the socket's queue have its name and no inode.
    let mut sockets = locks().into_iter().filter(|(lock, inode)| lock == name && *inode != 0);
    let user = sockets.find_map(|(_, inode)| user_of(u32::try_from(inode).ok()?).ok().flatten());
    let asked = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        sockopt::socket_peercred(&socket).map(|holder| holder.uid.as_raw())
    };
    user.or_else(|| asked().ok()).is_some_and(|user| user != geteuid().as_raw())
}

/// Bytes of a message's header, netlink(7), and of the request and the answer of sock_diag(7) for a
/// Unix socket.
const NETLINK_HEADER: usize = 16;
const UNIX_DIAG: usize = 16;
/// SOCK_DIAG_BY_FAMILY and NLM_F_REQUEST.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
/// UDIAG_SHOW_UID, and the attribute that answers it (Linux 5.3).
const SHOW_USER: u32 = 0x40;
const USER_ATTRIBUTE: u16 = 7;

/// The user of the Unix socket with this inode; `None` where the kernel does not say.
fn user_of(inode: u32) -> rustix::io::Result<Option<u32>> {
    let size = NETLINK_HEADER + 24;
    let mut request = Vec::with_capacity(size);
    request.extend_from_slice(&(size as u32).to_ne_bytes());
    request.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[AddressFamily::UNIX.as_raw() as u8, 0, 0, 0]);
    // Any state; this inode; the user; whichever socket has it now.
    for word in [u32::MAX, inode, SHOW_USER, u32::MAX, u32::MAX] {
        request.extend_from_slice(&word.to_ne_bytes());
    }
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    // The kernel answers before the call returns.
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 512];
    let (size, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    Ok(user_in(&answer[..size]))
}

/// The user in an answer of sock_diag.
fn user_in(answer: &[u8]) -> Option<u32> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if half(4)? != BY_FAMILY {
        return None; // an error
    }
    let mut at = NETLINK_HEADER + UNIX_DIAG;
    loop {
        let (size, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == USER_ATTRIBUTE {
            return Some(u32::from_ne_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?));
        }
        at += size.max(4).next_multiple_of(4);
    }
}

/// Whether the lock of this name keeps others from `address`.
fn guards(name: &str, address: SocketAddr) -> bool {
    let mut parts = name.splitn(4, '/').skip(2);
    parts.next() == Some("listening")
        && parts.next().and_then(|other| other.parse().ok()).is_some_and(|other| collide(other, address))
}

/// A row of proc_net_tcp(5).
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

/// Listeners stand before all connections, of which there may be a million more.
fn listeners(file: &Path) -> Vec<Listener> {
    let Ok(file) = fs::File::open(file) else { return Vec::new() };
    let rows = BufReader::new(file).lines().skip(1).map_while(Result::ok).map_while(|row| listener(&row));
    rows.collect()
}

fn listener(row: &str) -> Option<Listener> {
    let mut fields = row.split_ascii_whitespace().skip(1);
    let address = address(fields.next()?)?;
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    (state == LISTEN).then_some(Listener { address, uid, inode })
}

/// `0100007F:0C1D`: words of 32 bits as the machine has them, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = ip.as_bytes().chunks(8).map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> =
        words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Names and inodes of the locks of this network namespace (proc_net_unix(5); abstract names begin
/// with @).
fn locks() -> Vec<(String, u64)> {
    let Ok(file) = fs::File::open("/proc/net/unix") else { return Vec::new() };
    let mark = format!("@{PREFIX}/");
    let rows = BufReader::new(file).lines().map_while(Result::ok).filter(|row| row.contains(&mark));
    rows.filter_map(|row| {
        let mut fields = row.split_ascii_whitespace().skip(6);
        let inode = fields.next()?.parse().ok()?;
        Some((fields.next()?.strip_prefix('@')?.to_owned(), inode))
    })
    .collect()
}

/// A living process other than this one that has a descriptor of one of these sockets.
fn process_with(inodes: &[u64]) -> Option<Owner> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut others = pids.filter(|pid| *pid != std::process::id());
    others.find_map(|pid| {
        // Another user's process does not show its descriptors, nor does one that has lost its
        // first thread.
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        let has = links.any(|link| link.to_str().is_some_and(|link| wanted.iter().any(|one| one == link)));
        let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        has.then(|| Owner::Process { pid, name: name() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_the_kernel_writes_them() {
        let row = "   0: 0100007F:0C1D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 640 1 000000002076aa9f 100 0 0 10 0";
        let expected = Listener { address: "127.0.0.1:3101".parse().unwrap(), uid: 1000, inode: 640 };
        assert_eq!(listener(row), Some(expected));
        assert_eq!(listener(&row.replace(" 0A ", " 01 ")), None, "a connection");
        assert_eq!(listener("   0: nonsense"), None);
        let v6 = address("00000000000000000000000001000000:0C1D");
        assert_eq!(v6, Some("[::1]:3101".parse().unwrap()));
    }

    #[test]
    fn locks_guard_what_their_ports_collide_with() {
        let of = |address: &str| address.parse::<SocketAddr>().unwrap();
        assert!(!guards("gateway/0/starting/3101", of("127.0.0.1:3101")));
        assert!(guards("gateway/0/listening/0.0.0.0:3101", of("127.0.0.1:3101")));
        assert!(guards("gateway/0/listening/[::]:3101", of("10.0.0.1:3101")));
        assert!(!guards("gateway/0/listening/10.0.0.2:3101", of("10.0.0.1:3101")));
        assert!(!guards("gateway/0/listening/0.0.0.0:3102", of("127.0.0.1:3101")));
        assert!(!guards("gateway/0/other/3101", of("127.0.0.1:3101")));
    }
}
