//! DPDK's virtual devices: the known drivers, and the arguments that each understands.
//!
//! DPDK takes a name that begins with a driver's (`net_tapp0` is a TAP device), and some drivers
//! pass over arguments that they do not know (`ifaces=gateway0` makes an interface called dtap0).
//! So a typo starts a gateway on another interface.

use super::nearest::nearest;

/// A driver, and its arguments; `None`: not checked.
struct Driver {
    name: &'static str,
    arguments: Option<&'static [&'static str]>,
}

const fn driver(name: &'static str, arguments: &'static [&'static str]) -> Driver {
    Driver { name, arguments: Some(arguments) }
}

const fn unchecked(name: &'static str) -> Driver {
    Driver { name, arguments: None }
}

/// Of DPDK 22.11 to 25.11 (doc/guides/nics).
const DRIVERS: [Driver; 17] = [
    driver("net_tap", &["iface", "mac", "remote", "persist"]),
    driver("net_tun", &["iface", "persist"]),
    driver(
        "net_memif",
        &[
            "role",
            "id",
            "bsize",
            "rsize",
            "socket",
            "socket-abstract",
            "owner-uid",
            "owner-gid",
            "mac",
            "secret",
            "zero-copy",
        ],
    ),
    driver(
        "net_af_packet",
        &["iface", "qpairs", "qdisc_bypass", "blocksz", "framesz", "framecnt", "fanout_mode"],
    ),
    driver(
        "net_af_xdp",
        &[
            "iface",
            "start_queue",
            "queue_count",
            "shared_umem",
            "xdp_prog",
            "busy_budget",
            "force_copy",
            "use_cni",
            "use_pinned_map",
            "dp_path",
        ],
    ),
    driver(
        "net_virtio_user",
        &[
            "path",
            "mac",
            "cq",
            "queue_size",
            "queues",
            "iface",
            "server",
            "mrg_rxbuf",
            "in_order",
            "packed_vq",
            "speed",
            "vectorized",
        ],
    ),
    driver(
        "net_vhost",
        &[
            "iface",
            "queues",
            "client",
            "dequeue-zero-copy",
            "iommu-support",
            "postcopy-support",
            "tso",
            "linear-buffer",
            "ext-buffer",
            "legacy-ol-flags",
        ],
    ),
    driver("net_null", &["size", "copy", "no-rx"]),
    driver("net_ring", &["nodeaction", "internal"]),
    driver(
        "net_pcap",
        &[
            "rx_pcap",
            "tx_pcap",
            "rx_iface",
            "rx_iface_in",
            "tx_iface",
            "iface",
            "phy_mac",
            "infinite_rx",
            "eof",
        ],
    ),
    unchecked("net_bonding"),
    unchecked("net_failsafe"),
    unchecked("net_softnic"),
    unchecked("net_kni"),
    unchecked("net_vdev_netvsc"),
    unchecked("net_mvneta"),
    unchecked("net_mvpp2"),
];

/// Bytes of a socket's path at most (unix(7)), its end included.
const SOCKET_PATH_MAX: usize = 108;

/// An argument's value.
fn argument<'a>(arguments: &'a str, wanted: &str) -> Option<&'a str> {
    let pairs = arguments.split(',').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == wanted).map(|(_, value)| value).next()
}

/// What is wrong with a virtual device, and what to write instead.
///
/// # Errors
/// The text.
pub(super) fn check(device: &str) -> Result<(), String> {
    let (name, arguments) = device.split_once(',').unwrap_or((device, ""));
    let stem = name.trim_end_matches(|one: char| one.is_ascii_digit());
    let Some(driver) = DRIVERS.iter().find(|driver| driver.name == stem) else {
        return Err(unknown_driver(name, stem));
    };
    if stem.len() == name.len() {
        return Err(format!("{name} needs a number, as DPDK's devices have: write {name}0"));
    }
    let Some(known) = driver.arguments else { return Ok(()) };
    for pair in arguments.split(',').filter(|pair| !pair.is_empty()) {
        let key = pair.split('=').next().unwrap_or_default();
        if !known.contains(&key) {
            let meant = nearest(key, known);
            let meant = meant.map_or_else(String::new, |meant| format!(", is {meant} meant?"));
            return Err(format!("{name} has no argument {key}{meant} ({})", known.join(", ")));
        }
    }
    check_values(name, stem, arguments)
}

fn check_values(name: &str, stem: &str, arguments: &str) -> Result<(), String> {
    // IFNAMSIZ, netdevice(7): 16 with its end.
    let interface = argument(arguments, "iface").filter(|_| stem != "net_vhost");
    if let Some(interface) = interface.filter(|interface| interface.is_empty() || interface.len() > 15) {
        return Err(format!(
            "{name}: an interface has a name of 1 to 15 bytes, {interface:?} has {}",
            interface.len()
        ));
    }
    let socket = match stem {
        "net_memif" => argument(arguments, "socket"),
        "net_vhost" => argument(arguments, "iface"),
        "net_virtio_user" => argument(arguments, "path").filter(|path| !path.starts_with("/dev/")),
        _ => None,
    };
    if let Some(socket) = socket.filter(|socket| socket.len() >= SOCKET_PATH_MAX) {
        let most = SOCKET_PATH_MAX - 1;
        return Err(format!(
            "{name}: a socket's path has {most} bytes at most, this one has {}",
            socket.len()
        ));
    }
    if let Some(role) = argument(arguments, "role")
        && !["server", "client", "master", "slave"].contains(&role)
    {
        return Err(format!("{name}: role is server or client, not {role}"));
    }
    Ok(())
}

fn unknown_driver(name: &str, stem: &str) -> String {
    let drivers: Vec<&str> = DRIVERS.iter().map(|driver| driver.name).collect();
    match nearest(stem, &drivers) {
        Some(meant) => {
            let number = &name[stem.len()..];
            let number = if number.is_empty() { "0" } else { number };
            format!("{name} is no device of DPDK's: is {meant}{number} meant?")
        }
        None => {
            format!(
                "{name} is no device of DPDK's: write a PCI address such as 0000:03:00.0, or one of {}, with a number",
                drivers.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpdk_knows_passes() {
        for device in [
            "net_tap0,iface=gateway0",
            "net_tap10,iface=gateway0,mac=fixed",
            "net_memif0,role=server,id=0,socket=/run/gateway/memif.sock,socket-abstract=no",
            "net_virtio_user0,path=/run/ovs/gateway.sock,queues=2,queue_size=1024",
            "net_af_packet0,iface=veth1,qpairs=2",
            "net_null0",
            "net_bonding0,mode=1,member=0000:03:00.0",
        ] {
            assert_eq!(check(device), Ok(()), "{device}");
        }
    }

    #[test]
    fn typos_are_named_with_what_is_meant() {
        let said = |device: &str| check(device).unwrap_err();
        assert_eq!(said("net_tapp0,iface=g"), "net_tapp0 is no device of DPDK's: is net_tap0 meant?");
        assert_eq!(said("net_tap,iface=g"), "net_tap needs a number, as DPDK's devices have: write net_tap0");
        assert!(said("net_tap0,ifaces=g").starts_with("net_tap0 has no argument ifaces, is iface meant?"));
        assert!(said("net_memif0,rol=server").contains("is role meant?"));
        assert!(said("tap0").contains("is net_tap0 meant?"));
        assert!(said("x0").contains("0000:03:00.0"));
        assert!(said("net_memif0,role=sever").contains("server or client"));
        assert!(said("net_tap0,iface=a-name-that-is-too-long").contains("15 bytes"));
        let long = format!("net_memif0,socket=/{}", "x".repeat(107));
        assert!(said(&long).contains("107 bytes at most, this one has 108"));
    }
}
