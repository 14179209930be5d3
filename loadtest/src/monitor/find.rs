//! Finds the processes that listen on a port.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Processes of this machine that listen on `address`, if it is an address of this machine.
pub(crate) fn listening_on(address: SocketAddr) -> Vec<i32> {
    if !is_local(address.ip()) {
        return Vec::new();
    }
    let inodes: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|path| listeners(&fs::read_to_string(path).unwrap_or_default(), address.port()))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let links: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> = pids.filter(|pid| holds(*pid, &links)).collect();
    found.sort_unstable();
    found
}

/// Whether an address belongs to this machine: then binding to it works.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Inodes of the sockets that listen on `port`: state 0A in proc_net_tcp.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let listens = |fields: &Vec<&str>| fields.len() > 9 && fields[1].ends_with(&suffix) && fields[3] == "0A";
    let rows = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(listens).map(|fields| fields[9].to_owned()).collect()
}

fn holds(pid: i32, links: &HashSet<String>) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    // Usually all threads have the same descriptors, and the first is enough; in some servers
    // threads have descriptors of their own.
    let tables = tasks.flatten().take(8).filter_map(|task| fs::read_dir(task.path().join("fd")).ok());
    // A server with many connections has its listeners among its first descriptors.
    let targets = tables.flat_map(|table| table.flatten().take(4096));
    let mut targets = targets.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| links.contains(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_in_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening_on(listener.local_addr().unwrap());
        assert!(found.contains(&std::process::id().cast_signed()), "{found:?}");
    }
}
