//! What the machine must allow, computed before anything is opened: descriptors and ports, each as
//! a sum.

use crate::error::RunError;
use crate::plan::{BackendKind, Path, RunPlan};
use netpoll::epoll::EpollBackend;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::{IpAddr, Ipv4Addr};

/// Descriptors that are not connections: standard streams, reports, /proc, one ring or epoll and
/// one waker a worker.
const DESCRIPTORS_BESIDE: u64 = 48;

/// Places in a ring's table that are neither connections nor HTTP connections.
const RING_BESIDE: u64 = 2;

/// How many of a pair's ports are used at most, in percent. `connect()` looks for a free port first
/// among those of one parity, beginning at a hashed place: with more than half of them taken it
/// walks through hundreds and at last thousands of them, each with a lock and a lookup, and a ramp
/// that began at 20 000 a second ends at a few hundred. Reconnects leave ports in TIME_WAIT in
/// addition.
const PORTS_USED_PERCENT: u32 = 30;

/// Connections of one ring as a share of its descriptors, in percent: `SO_REUSEPORT` spreads by
/// hash, not evenly, so a server's rings need spare room.
const RING_FILL_PERCENT: u32 = 94;

/// Rings that together hold `connections` direct descriptors, RLIMIT_NOFILE each.
pub fn rings(connections: u32) -> u32 {
    let limit = u32::try_from(raise_descriptors()).unwrap_or(u32::MAX).min(1 << 20);
    let each = (limit / 100 * RING_FILL_PERCENT).saturating_sub(64).max(1);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    connections.div_ceil(each).max(cores.min(connections))
}

/// Raises the soft limit of descriptors to the hard one and returns it.
pub fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Refuses a plan that `limit` descriptors cannot hold; the message is the sum.
///
/// # Errors
/// The sum, and what to change.
pub(crate) fn check_descriptors(plan: &RunPlan, limit: u64) -> Result<(), RunError> {
    let connections = u64::from(plan.connections_here());
    let duties = plan.duties();
    let largest = duties.iter().map(|duty| u64::from(duty.count())).max().unwrap_or(0);
    let too_few = |table: &str, beside: u64| {
        let needed = largest + beside;
        if needed <= limit {
            return Ok(());
        }
        let workers = connections.div_ceil(limit.saturating_sub(beside).max(1));
        Err(RunError::new(
            format!(
                "too few descriptors: {largest} connections of one worker + {beside} others = {needed}, {table} holds \
                 RLIMIT_NOFILE = {limit}"
            ),
            format!("use --workers {workers} or more"),
        ))
    };
    match plan.machinery.backend {
        BackendKind::Epoll => {
            let (http, beside) = beside_epoll(plan);
            if connections + http + beside <= limit {
                return Ok(());
            }
            if EpollBackend::probe_own_descriptors().is_ok() {
                return too_few("a worker's table", u64::from(plan.machinery.http_connections) + beside);
            }
            let needed = connections + http + beside;
            let room = limit.saturating_sub(http + beside);
            Err(RunError::new(
                format!(
                    "too few descriptors for epoll: {connections} connections + {http} HTTP + {beside} others = \
                     {needed}, RLIMIT_NOFILE is {limit}"
                ),
                format!(
                    "lower --connections to {room}, raise the limit (ulimit -Hn, LimitNOFILE=), run several \
                     generators, or use --backend io_uring with more --workers ({limit} descriptors a ring)"
                ),
            ))
        }
        // Connections are in user space.
        BackendKind::Dpdk => Ok(()),
        // The table also has places for HTTP connections, a reconnect and an accept.
        BackendKind::IoUring => too_few("a ring", u64::from(plan.machinery.http_connections) + RING_BESIDE),
    }
}

/// Whether workers on epoll need descriptors of their own: one table of `limit` is too small for
/// all of `plan`.
pub(crate) fn one_table_is_too_small(plan: &RunPlan, limit: u64) -> bool {
    let (http, beside) = beside_epoll(plan);
    u64::from(plan.connections_here()) + http + beside > limit
}

/// Descriptors of HTTP connections, and those that are neither these nor measured connections,
/// where all workers share a table.
fn beside_epoll(plan: &RunPlan) -> (u64, u64) {
    let pushes = plan.flows.iter().any(|flow| matches!(flow.path, Path::Http(_)));
    let workers = plan.duties().len() as u64;
    let http = if pushes { u64::from(plan.machinery.http_connections) * workers } else { 0 };
    (http, DESCRIPTORS_BESIDE + 2 * workers)
}

/// Ports of one pair of addresses (`ip_local_port_range`).
pub(crate) fn ports_per_pair() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_ascii_whitespace().filter_map(|end| end.parse::<u32>().ok());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => 28_232,
    }
}

/// The local addresses to connect from: as asked for, or as many loopback addresses as the ports
/// need.
///
/// # Errors
/// Too few ports for the connections, with the sum; or a list that is invalid.
pub(crate) fn sources(
    asked: Option<&str>,
    server: IpAddr,
    connections: u32,
) -> Result<Vec<IpAddr>, RunError> {
    let ports = ports_per_pair();
    let needed = connections.div_ceil((ports * PORTS_USED_PERCENT / 100).max(1)).max(1);
    let list = match asked {
        None if needed <= 1 || !server.is_loopback() => Vec::new(),
        None => loopback(needed),
        Some(text) => parse_sources(text)?,
    };
    let pairs = list.len().max(1) as u64;
    let room = pairs * u64::from(ports);
    if u64::from(connections) > room {
        return Err(RunError::new(
            format!(
                "too few ports: {connections} connections, but {pairs} source address(es) × {ports} ports \
                 (ip_local_port_range) = {room}"
            ),
            format!("use --source-addresses {needed}, or widen net.ipv4.ip_local_port_range"),
        ));
    }
    Ok(list)
}

fn parse_sources(text: &str) -> Result<Vec<IpAddr>, RunError> {
    if let Ok(count) = text.parse::<u32>() {
        return Ok(loopback(count));
    }
    let addresses: Result<Vec<IpAddr>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    addresses.map_err(|error| {
        RunError::new(
            format!("--source-addresses {text}: {error}"),
            "give a number of loopback addresses, such as 40, or a list such as 10.0.0.2,10.0.0.3",
        )
    })
}

/// 127.0.0.2 and up.
fn loopback(count: u32) -> Vec<IpAddr> {
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    (0..count.min(1 << 20)).map(|number| IpAddr::V4(Ipv4Addr::from(first + number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_follow_the_ports() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(sources(None, local, 1000).unwrap().is_empty());
        let many = sources(None, local, 1_000_000).unwrap();
        let used = 1_000_000.0 / (many.len() as f64 * f64::from(ports_per_pair()));
        assert!((0.2..=0.3).contains(&used), "more than 30 % of a pair's ports make connect() slow: {used}");
        assert_eq!(many[0].to_string(), "127.0.0.2");
        assert_eq!(sources(Some("127.0.0.9, 127.0.0.8"), local, 1).unwrap().len(), 2);
        assert!(sources(Some("nonsense"), local, 1).is_err());
        let error = sources(Some("1"), local, 1_000_000).unwrap_err().to_string();
        assert!(error.contains("= ") && error.contains("--source-addresses"), "{error}");
    }
}
