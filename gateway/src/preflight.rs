//! What may keep a good configuration from starting here and now: `gateway check` warns of it.
//!
//! Warnings and not problems, for all of it may be as it should be: the port is held by the very gateway that will be
//! restarted with this file, and the folder is made by whoever installs the next one.

use crate::config::{Config, JournalConfig};
use rustix::fs::{Access, access};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// What an operator should look at before a start.
pub fn warnings(config: &Config) -> Vec<String> {
    let listeners =
        config.listeners.iter().map(|one| (format!("listener.{}.address", one.name), one.socket.address));
    let ports = listeners.chain([("control.address".to_owned(), config.control.address)]);
    let mut warnings: Vec<String> = ports.filter_map(|(key, address)| port(&key, address)).collect();
    warnings.extend(config.journal.as_ref().and_then(journal));
    warnings
}

/// Tries whether a port can be had; it is given back at once.
fn port(key: &str, address: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(address).err().filter(|_| address.port() != 0)?;
    let port = address.port();
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{key} = \"{address}\" is in use, by a gateway that runs already or by something else: \
             `ss -ltnp 'sport = :{port}'` names it; stop it before the start, or write another port"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "{key} = \"{address}\" is no address of this machine: `ip -brief address` lists them; 0.0.0.0 is all of them"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{key} = \"{address}\": this user may not listen on port {port}; write one above 1023, or grant CAP_NET_BIND_SERVICE"
        ),
        _ => format!("{key} = \"{address}\" can't be listened on here: {error}"),
    })
}

fn journal(config: &JournalConfig) -> Option<String> {
    let directory = config.directory.as_path();
    let shown = directory.display();
    let make = "make it for the gateway's user by `install -d -o USER";
    if directory.is_dir() {
        let error = access(directory, Access::WRITE_OK | Access::EXEC_OK).err()?;
        return Some(format!(
            "journal.directory = \"{shown}\" can't be written by this user: {error}; give it to the gateway's user by \
             `chown USER {shown}`, or run this check as that user"
        ));
    }
    if directory.exists() {
        return Some(format!("journal.directory = \"{shown}\" is no folder; write the name of one"));
    }
    // The gateway makes it, if it may.
    let above = directory.ancestors().skip(1).find(|above| above.exists());
    let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let can = above.is_dir() && access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    Some(if can {
        format!("journal.directory = \"{shown}\" does not exist; the start makes it, or {make} {shown}`")
    } else {
        format!(
            "journal.directory = \"{shown}\" does not exist, and this user can't make it in {}: nothing would be journaled; {make} {shown}`",
            above.display()
        )
    })
}
