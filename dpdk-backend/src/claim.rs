//! One process for each interface: a claim on the names behind virtual devices, taken before DPDK
//! starts.
//!
//! DPDK lets two processes open one TAP interface: the kernel then gives each of them some of the
//! frames, and the first process that ends takes the link down. A claim is a socket in the abstract
//! namespace (unix(7)). It belongs to the network namespace, as interfaces do, and ends with its
//! process in every case. It holds among this project's programs. The interface of another program
//! is found because it exists.

mod netlink;

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// The reason that an interface can not be claimed.
#[derive(Debug)]
pub enum ClaimError {
    /// Another process of this project has it.
    Taken(String),
    /// It exists, and no process of this project has it.
    Exists(String),
    /// The system refuses the claim.
    System(String, io::Error),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::Taken(name) => write!(
                f,
                "another gateway, or load generator, has {name}: both would get some of its frames; stop that one, or write \
                 another name"
            ),
            ClaimError::Exists(name) => write!(
                f,
                "the interface {name} is there already: another program has it, or it was left behind; write another iface, or \
                 take it away (ip link delete {name})"
            ),
            ClaimError::System(name, error) => write!(f, "{name} can't be claimed: {error}"),
        }
    }
}

impl std::error::Error for ClaimError {}

/// The claims of this process, kept until it ends: a driver keeps its interface longer than its
/// port.
static CLAIMS: Mutex<Vec<(String, UnixListener)>> = Mutex::new(Vec::new());

/// Claims for this process what these devices use: interfaces, and sockets that a memif server
/// makes. What the process has already is not claimed again.
///
/// # Errors
/// [`ClaimError::Taken`] for the first that another process has. [`ClaimError::System`].
pub fn take(devices: &[String]) -> Result<(), ClaimError> {
    let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    for name in devices.iter().filter_map(|device| claimed(device)) {
        if !claims.iter().any(|(had, _)| *had == name) {
            let socket = claim(&name)?;
            claims.push((name, socket));
        }
    }
    Ok(())
}

fn claim(name: &str) -> Result<UnixListener, ClaimError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ClaimError::Taken(name.to_owned()),
        _ => ClaimError::System(name.to_owned(), error),
    };
    // A socket's name is short. Long paths differ at their ends.
    let whole = format!("gateway-dpdk/{name}");
    let tail = whole.len().saturating_sub(100);
    let address = SocketAddr::from_abstract_name(&whole.as_bytes()[tail..]).map_err(failed)?;
    UnixListener::bind_addr(&address).map_err(failed)
}

/// The value of a device's argument.
fn argument<'a>(device: &'a str, wanted: &str) -> Option<&'a str> {
    let pairs = device.split(',').skip(1).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == wanted).map(|(_, value)| value).next()
}

/// The interface or socket of a device that two processes must not share.
fn claimed(device: &str) -> Option<String> {
    if device.starts_with("net_memif") {
        let serves = argument(device, "role").is_some_and(|role| role == "server" || role == "master");
        return serves.then(|| argument(device, "socket").unwrap_or("/run/memif.sock").to_owned());
    }
    let has_interface = ["net_tap", "net_tun", "net_af_packet", "net_af_xdp"];
    let by_name = has_interface.iter().any(|driver| device.starts_with(driver));
    argument(device, "iface").filter(|_| by_name).map(str::to_owned)
}

/// Finds a TAP interface that exists before DPDK makes it. One that was made persistent with
/// several queues (`ip tuntap add mode tap multi_queue`) is accepted.
///
/// # Errors
/// [`ClaimError::Exists`]; [`ClaimError::System`].
pub fn check_interfaces(devices: &[String]) -> Result<(), ClaimError> {
    let makes_interface = |device: &&String| device.starts_with("net_tap") || device.starts_with("net_tun");
    for name in devices.iter().filter(makes_interface).filter_map(|device| argument(device, "iface")) {
        match netlink::interface(name) {
            Ok(Some(found)) if !found.is_shared_tun => return Err(ClaimError::Exists(name.to_owned())),
            Ok(_) => {}
            Err(error) => return Err(ClaimError::System(name.to_owned(), error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_had_once_and_again_when_it_was_given_back() {
        let name = format!("claim{}", std::process::id());
        // Stands for the claim of another process.
        let first = claim(&name).unwrap();
        let devices = [format!("net_tap0,iface={name}"), "net_null0".to_owned()];
        let error = take(&devices).unwrap_err();
        assert!(matches!(error, ClaimError::Taken(_)), "{error}");
        drop(first);
        take(&devices).unwrap();
        take(&devices).unwrap();
        assert!(claim(&name).is_err(), "it is had now");
    }

    #[test]
    fn interfaces_and_servers_sockets_are_claimed() {
        let name = |device: &str| claimed(device);
        assert_eq!(name("net_tap0,iface=gateway0,mac=fixed").as_deref(), Some("gateway0"));
        assert_eq!(name("net_af_packet0,qpairs=2,iface=veth1").as_deref(), Some("veth1"));
        assert_eq!(name("net_memif0,role=server,socket=/run/x.sock").as_deref(), Some("/run/x.sock"));
        assert_eq!(name("net_memif0,role=client,socket=/run/x.sock"), None);
        assert_eq!((name("net_null0"), name("0000:03:00.0")), (None, None));
        let long = format!("net_memif0,role=server,socket=/{}", "x".repeat(300));
        take(&[long]).unwrap();
    }

    #[test]
    fn an_interface_that_is_there_is_refused_by_name() {
        let devices = |name: &str| [format!("net_tap0,iface={name}")];
        assert!(matches!(check_interfaces(&devices("lo")), Err(ClaimError::Exists(name)) if name == "lo"));
        assert!(check_interfaces(&devices("not-there")).is_ok());
        assert!(check_interfaces(&["net_af_packet0,iface=lo".to_owned()]).is_ok(), "it stands on one");
    }
}
