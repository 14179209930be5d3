//! The kernel's ports of a gateway: one process at a time has them.
//!
//! Workers open each client address several times (`SO_REUSEPORT`), so the kernel would let a
//! second gateway of the same user join in and take half of the clients. Three things keep it out:
//!
//! ```text
//!   start lock of the port      held from the probe of a start until all workers listen
//!   lock of the address         held while the listeners are open: it names a living gateway
//!   bind without REUSEPORT      the kernel's own check, for wildcards, IPv6 and other programs
//! ```
//!
//! Locks are abstract Unix sockets (unix(7)): they belong to the network namespace, as ports do,
//! need no file, and go when the process goes, however it ends. A drain gives them back when the
//! listeners close, so a successor may start then.
//!
//! After `kill -9` a port may stay taken with no process behind it: the kernel takes a dead ring
//! apart, about 36 us for each of its connections, and its listeners go last. Such a port is waited
//! for, `io.bind_wait_ms` at most. A port of a living process is not waited for: `/proc` names the
//! owner (`owner`).

mod owner;

use owner::Owner;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// How often a taken port is tried again.
const TRY_INTERVAL: Duration = Duration::from_millis(25);
/// Interval at which the wait is reported, and `/proc` asked for the owner of the port.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A living owner is believed after this long: a process that was just killed looks alive for some
/// milliseconds.
const OWNER_GRACE: Duration = Duration::from_millis(500);

/// Longest wait of a start for all of its ports together, and the report of that wait.
pub struct Patience<'a> {
    started: Instant,
    wait_max: Duration,
    report: &'a dyn Fn(&str),
}

impl<'a> Patience<'a> {
    /// Waits for at most `wait_max` from now on for ports that no living process has; `report` is
    /// called once a second meanwhile.
    pub fn new(wait_max: Duration, report: &'a dyn Fn(&str)) -> Patience<'a> {
        Patience { started: Instant::now(), wait_max, report }
    }

    /// Time waited so far.
    pub(crate) fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.waited() >= self.wait_max
    }

    /// Reports the port that is waited for, and the time waited so far.
    pub(crate) fn report(&self, what: &str) {
        (self.report)(&format!(
            "{what}; waited for {:.1} s, of {} s at most (io.bind_wait_ms)",
            self.waited().as_secs_f32(),
            self.wait_max.as_secs()
        ));
    }
}

impl fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("wait_max", &self.wait_max).finish_non_exhaustive()
    }
}

/// A port that can't be had.
#[derive(Debug)]
pub struct PortError {
    /// The key and the address.
    what: String,
    address: SocketAddr,
    error: io::Error,
    owner: Option<Owner>,
    waited: Duration,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, address, port) = (&self.what, self.address, self.address.port());
        match (self.error.kind(), &self.owner) {
            (io::ErrorKind::AddrInUse, Some(owner)) => {
                write!(f, "{what} = \"{address}\" is in use by {owner}: stop it, or write another port")
            }
            (io::ErrorKind::AddrInUse, None) if self.waited < REPORT_INTERVAL => write!(
                f,
                "{what} = \"{address}\" is in use, and no process of this user is seen to have it: `ss -ltnp 'sport = :{port}'`, \
                 as root, names it; after a kill the kernel may need up to 40 us a connection to give it back"
            ),
            (io::ErrorKind::AddrInUse, None) => write!(
                f,
                "{what} = \"{address}\" is still in use after {} s, and no process of this user is seen to have it: \
                 `ss -ltnp 'sport = :{port}'`, as root, names it; stop it, write another port, or raise io.bind_wait_ms",
                self.waited.as_secs()
            ),
            (io::ErrorKind::AddrNotAvailable, _) => write!(
                f,
                "{what} = \"{address}\" is no address of this machine: `ip -brief address` lists them; 0.0.0.0 is all of them"
            ),
            (io::ErrorKind::PermissionDenied, _) => write!(
                f,
                "{what} = \"{address}\": this user may not listen on port {port}; write one above 1023, or grant \
                 CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)"
            ),
            _ => write!(f, "{what} = \"{address}\" can't be listened on here: {}", self.error),
        }
    }
}

impl std::error::Error for PortError {}

/// Ports that no other gateway gets while this is held.
#[derive(Debug, Default)]
pub struct Claims {
    starting: Vec<UnixListener>,
    listening: Vec<UnixListener>,
}

impl Claims {
    /// Claims client addresses, each with the key that it is written at; those with port 0 are the
    /// kernel's to choose. In one order on all gateways, so that of two that want the same ports
    /// one gets them.
    ///
    /// # Errors
    /// The first that can't be had.
    pub fn new(
        addresses: impl Iterator<Item = (String, SocketAddr)>,
        patience: &Patience<'_>,
    ) -> Result<Claims, PortError> {
        let mut addresses: Vec<_> = addresses.filter(|(_, address)| address.port() != 0).collect();
        addresses.sort_by_key(|(_, address)| (address.port(), address.ip()));
        let mut claims = Claims::default();
        let mut locked_port = 0;
        for (key, address) in addresses {
            if address.port() != locked_port {
                claims
                    .starting
                    .extend(when_free(&key, address, patience, || lock("starting", &address.port()))?);
                locked_port = address.port();
            }
            claims.listening.extend(when_free(&key, address, patience, || lock("listening", &address))?);
            when_free(&key, address, patience, || probe(address))?;
        }
        Ok(claims)
    }

    /// All workers listen, on `addresses`: from now on the kernel's own check keeps others out of
    /// these ports.
    pub fn listening(&mut self, addresses: &[SocketAddr]) {
        self.starting.clear();
        // Those that the kernel chose; where a name is taken, it is our own.
        self.listening
            .extend(addresses.iter().filter_map(|address| lock("listening", address).ok().flatten()));
    }
}

/// Opens the control port, which is waited for like a client's.
///
/// # Errors
/// Why it can't be had.
pub fn bind_control(address: SocketAddr, patience: &Patience<'_>) -> Result<TcpListener, PortError> {
    when_free("control.address", address, patience, || TcpListener::bind(address))
}

/// Checks whether a start would get this port now, without waiting and without keeping it.
///
/// # Errors
/// Why it would not.
pub fn check(key: &str, address: SocketAddr) -> Result<(), PortError> {
    let error = match probe(address) {
        Err(error) if address.port() != 0 || error.kind() != io::ErrorKind::AddrInUse => error,
        _ => return Ok(()),
    };
    let owner = owner::find(address).filter(|_| error.kind() == io::ErrorKind::AddrInUse);
    Err(PortError { what: key.into(), address, error, owner, waited: Duration::ZERO })
}

/// Repeats `attempt` until the port is free, a living process is found to have it, or patience
/// ends.
fn when_free<T>(
    key: &str,
    address: SocketAddr,
    patience: &Patience<'_>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Result<T, PortError> {
    let mut report_due = Instant::now() + OWNER_GRACE;
    loop {
        let error = match attempt() {
            Ok(got) => return Ok(got),
            Err(error) => error,
        };
        let failed = |error, owner, waited| PortError { what: key.into(), address, error, owner, waited };
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(failed(error, None, Duration::ZERO));
        }
        let now = Instant::now();
        if now >= report_due {
            let owner = owner::find(address);
            if owner.is_some() || patience.is_over() {
                return Err(failed(error, owner, patience.waited()));
            }
            patience.report(&format!(
                "{key} = \"{address}\" is taken, but no living process is seen to listen there: the kernel frees the \
                 connections of one that was killed, or another gateway is starting"
            ));
            report_due = now + REPORT_INTERVAL;
        }
        std::thread::sleep(TRY_INTERVAL);
    }
}

/// Takes a lock: a name that one process of this user at a time can have in this network namespace.
/// `None`: a process of another user has it. That process can't share our ports, so only the lock
/// is lost.
fn lock(what: &str, which: &dyn fmt::Display) -> io::Result<Option<UnixListener>> {
    let name = owner::lock_name(what, which);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && owner::is_squatted(&name) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks that no other process listens on the port. The check does not listen itself, so that it
/// disturbs no concurrent start; options are those of the workers' listeners but for
/// `SO_REUSEPORT`.
fn probe(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    Ok(bind(&socket, &address)?)
}

#[cfg(test)]
mod tests;
