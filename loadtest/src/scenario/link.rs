//! `--backend dpdk`: the generator's own end of a link, and its addresses there.

use crate::error::RunError;
use crate::plan::{BackendKind, LinkPlan, RunPlan};
use crate::settings::Settings;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The other end of `configs/gateway.dpdk-memif.toml`.
const DEVICE: &str = "net_memif0,role=client,id=0,socket=/run/gateway/memif.sock,socket-abstract=no";
/// The first of the generator's addresses, on the link of the same profile.
const ADDRESS: &str = "10.77.1.1/16";
/// The address that profile listens at; the port is that of the transport.
pub(super) const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The longest sleep of an idle worker, in microseconds: an answer after a quiet time may have to
/// wait so long.
const IDLE_SLEEP_US: u32 = 50;

/// Ports of one source address: all except the first 1024. A host of our own shares them with no
/// other program.
const PORTS: u32 = 64_512;
/// At most so many of them are used, in percent: the rest are in TIME-WAIT, or keep the search for
/// a free one short.
const PORTS_USED_PERCENT: u32 = 70;
/// At most so many addresses per host: an interface has 255, and each frame is looked up among
/// them.
const ADDRESSES_MAX: u32 = 200;

/// The link, with [`crate::plan::BackendKind::Dpdk`].
///
/// # Errors
/// A setting of the link without the backend, or one that is no address.
pub(super) fn plan(settings: &Settings, backend: BackendKind) -> Result<Option<LinkPlan>, RunError> {
    if backend != BackendKind::Dpdk {
        let stray = settings.given().into_iter().find(|name| name.starts_with("dpdk_"));
        return match stray {
            None => Ok(None),
            Some(name) => Err(RunError::new(
                format!("--{} without --backend dpdk", name.replace('_', "-")),
                "leave it out, or give --backend dpdk",
            )),
        };
    }
    let device = settings.dpdk_device.clone().unwrap_or_else(|| DEVICE.to_owned());
    if device.starts_with('-') || !device.starts_with("net_") {
        return Err(RunError::new(
            format!("--dpdk-device {device} is no virtual device"),
            format!("give one of DPDK's with its arguments, such as {DEVICE}"),
        ));
    }
    let (_, prefix_length) = first_address(settings)?;
    Ok(Some(LinkPlan {
        device,
        prefix_length,
        huge_pages: settings.dpdk_huge_pages.unwrap_or(false),
        idle_sleep_max: Duration::from_micros(u64::from(
            settings.dpdk_idle_sleep_us.unwrap_or(IDLE_SLEEP_US).min(1000),
        )),
        eal_args: settings.dpdk_arg.clone().unwrap_or_default(),
    }))
}

/// Reads an address with its prefix length, such as `10.77.1.1/16`.
fn first_address(settings: &Settings) -> Result<(IpAddr, u8), RunError> {
    let text = settings.dpdk_address.as_deref().unwrap_or(ADDRESS);
    let parsed = text.split_once('/').and_then(|(ip, bits)| Some((ip.parse().ok()?, bits.parse().ok()?)));
    parsed
        .filter(|(ip, bits): &(IpAddr, u8)| (1..=if ip.is_ipv4() { 30 } else { 126 }).contains(bits))
        .ok_or_else(|| {
            RunError::new(
                format!("--dpdk-address {text} is none"),
                format!(
                    "give the generator's first address and the bits of the link's prefix, such as {ADDRESS}"
                ),
            )
        })
}

/// The generator's addresses: as many as the ports need, or as asked for, from the first on.
///
/// # Errors
/// Too many, with the sum; or not on one link with the server.
pub(super) fn sources(settings: &Settings, plan: &RunPlan) -> Result<Vec<IpAddr>, RunError> {
    let (first, bits) = first_address(settings)?;
    let connections = plan.connections_total();
    let needed = connections.div_ceil(PORTS * PORTS_USED_PERCENT / 100).max(1);
    let count = match settings.source_addresses.as_deref().map(str::parse::<u32>) {
        None => needed,
        Some(Ok(count)) if count > 0 => count,
        Some(_) => {
            return Err(RunError::new(
                "--source-addresses with --backend dpdk is a number",
                "give how many, and the first of them with --dpdk-address",
            ));
        }
    };
    if count > ADDRESSES_MAX || u64::from(connections) > u64::from(count) * u64::from(PORTS) {
        return Err(RunError::new(
            format!(
                "too few ports: {connections} connections, but {count} source address(es) × {PORTS} ports, and a host has \
                 {ADDRESSES_MAX} addresses at most"
            ),
            format!("lower --connections, or give --source-addresses {}", needed.min(ADDRESSES_MAX)),
        ));
    }
    let all: Vec<IpAddr> = (0..count).map(|number| after(first, number)).collect();
    let server = plan.endpoints.server.ip();
    let apart = all.iter().find(|ip| !on_one_link(**ip, server, bits) || **ip == server);
    match apart {
        None => Ok(all),
        Some(ip) => Err(RunError::new(
            format!("the generator's {ip}/{bits} and the server's {server} are not two hosts of one link"),
            "give --dpdk-address (the first of the generator's) and --server on the same link, and not each other's",
        )),
    }
}

fn after(first: IpAddr, number: u32) -> IpAddr {
    match first {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip).wrapping_add(number))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).wrapping_add(u128::from(number)))),
    }
}

fn on_one_link(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)) >> (32 - u32::from(bits)) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)) >> (128 - u32::from(bits)) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::error::RunError;
    use crate::plan::RunPlan;
    use crate::scenario::Scenario;
    use crate::settings::units::Count;
    use crate::settings::{BackendChoice, Settings};

    fn plan(scenario: &str, settings: &Settings) -> Result<RunPlan, RunError> {
        crate::scenario::plan(&Scenario::built_in(scenario)?, settings)
    }

    fn settings(connections: u32) -> Settings {
        Settings {
            backend: Some(BackendChoice::Dpdk),
            connections: Some(Count(connections)),
            ..Settings::default()
        }
    }

    #[test]
    fn the_defaults_are_the_other_end_of_the_profile() {
        let plan = plan("push", &settings(1000)).unwrap();
        assert_eq!(plan.endpoints.server.to_string(), "10.77.0.2:3101");
        assert_eq!(plan.endpoints.http.unwrap().to_string(), "127.0.0.1:3111");
        assert_eq!(plan.endpoints.sources, ["10.77.1.1".parse::<std::net::IpAddr>().unwrap()]);
        assert!(plan.machinery.link.unwrap().device.starts_with("net_memif0,role=client"));
    }

    #[test]
    fn addresses_follow_the_connections() {
        let million = plan("idle", &settings(1_000_000)).unwrap().endpoints.sources;
        assert_eq!((million.len(), million[22].to_string()), (23, "10.77.1.23".to_owned()));
        let error = |settings: Settings| plan("idle", &settings).unwrap_err().to_string();
        let few = error(Settings { source_addresses: Some("1".into()), ..settings(1_000_000) });
        assert!(few.contains("64512 ports") && few.contains("--source-addresses 23"), "{few}");
        for (address, words) in
            [("10.77.1.1", "is none"), ("10.78.1.1/16", "one link"), ("10.77.0.2/16", "each other's")]
        {
            let said = error(Settings { dpdk_address: Some(address.into()), ..settings(10) });
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_belongs_to_dpdk_is_refused_without_it() {
        let stray = Settings { dpdk_device: Some("net_memif0".into()), ..Settings::default() };
        let said = plan("echo", &stray).unwrap_err().to_string();
        assert!(said.contains("--dpdk-device without --backend dpdk"), "{said}");
        let card = Settings { dpdk_device: Some("0000:03:00.0".into()), ..settings(1) };
        assert!(plan("echo", &card).unwrap_err().to_string().contains("no virtual device"));
    }
}
