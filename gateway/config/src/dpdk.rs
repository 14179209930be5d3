//! `[dpdk]`: a card in poll mode, and the host that the gateway is on its link.
//!
//! Checked in every build, so that a file has the same verdict everywhere; used by a binary with the feature `dpdk`.

use super::build::Builder;
use super::dpdk_devices;
use super::{BackendKind, Values};
use gateway_core::settings::ListenerSettings;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What the sum of the pools does not count: DPDK's own tables, pools of drivers, what is lost between pages. In bytes.
const MEMORY_BESIDES: u64 = 48 << 20;
/// Header of a buffer in its pool (64), its descriptor (128), private space (8), headroom (128), padding. In bytes.
const BUFFER_BESIDES: u64 = 448;
/// Buffers that threads keep to themselves, a pool.
const CACHED: u64 = 192;
/// Receive buffers that a stack keeps for itself.
const RESERVED: u64 = 64;
/// What a captured frame takes besides its bytes: when it came, and how long it was.
const CAPTURED_BESIDES: u64 = 16;
/// Frames of a queue on their way to the card, besides its descriptors.
const PENDING: u64 = 128;
/// Ethernet's header and its check sum, in bytes.
const FRAME_BESIDES: u32 = 18;

/// Arguments of DPDK's that have a key, and the key.
const ARGUMENTS_WITH_KEYS: [(&str, &str); 12] = [
    ("-m", "dpdk.memory_mb"),
    ("--socket-mem", "dpdk.memory_mb"),
    ("--no-huge", "dpdk.huge_pages = false"),
    ("--in-memory", "dpdk.huge_pages = true, which says so"),
    ("--huge-unlink", "dpdk.huge_pages = true, which leaves no files"),
    ("-a", "dpdk.devices"),
    ("--allow", "dpdk.devices"),
    ("--vdev", "dpdk.devices"),
    ("--no-pci", "dpdk.devices without PCI addresses, which says so"),
    ("-l", "io.pin_workers, for the workers are not DPDK's threads"),
    ("-c", "io.pin_workers, for the workers are not DPDK's threads"),
    ("--lcores", "io.pin_workers, for the workers are not DPDK's threads"),
];

/// What is left to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardWork {
    /// Checksums, and cutting what is large into segments.
    All,
    /// Checksums.
    Checksums,
    /// Nothing.
    None,
}

/// An own address with its link's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the prefix.
    pub prefix_length: u8,
}

impl OwnAddress {
    /// `10.77.0.2/24`.
    fn parse(text: &str) -> Option<OwnAddress> {
        let (ip, length) = text.split_once('/')?;
        let (ip, prefix_length): (IpAddr, u8) = (ip.parse().ok()?, length.parse().ok()?);
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        let usable = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !mapped;
        (usable && (1..=most).contains(&prefix_length)).then_some(OwnAddress { ip, prefix_length })
    }

    /// Whether `ip` is nobody's on this address's link: its first address, which is the network's, or its last, which is everybody's
    /// (RFC 1122, 3.2.1.3). Links of one or two hosts have neither (RFC 3021).
    fn is_of_all(&self, ip: IpAddr) -> bool {
        let (IpAddr::V4(_), IpAddr::V4(other)) = (self.ip, ip) else { return false };
        let host = u32::MAX.checked_shr(u32::from(self.prefix_length)).unwrap_or(0);
        let bits = u32::from(other) & host;
        self.prefix_length < 31 && self.reaches(ip) && (bits == 0 || bits == host)
    }

    /// Whether `other` is on this address's link.
    fn reaches(&self, other: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix_length);
        match (self.ip, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u32::from(a) ^ u32::from(b)).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(b)).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_length)
    }
}

/// `[dpdk]`.
#[derive(Clone, Debug)]
pub struct DpdkConfig {
    /// Virtual devices with their arguments, and PCI addresses.
    pub devices: Vec<String>,
    /// The port to serve on.
    pub port: String,
    /// The host's addresses.
    pub addresses: Vec<OwnAddress>,
    /// The router for other IPv4 links.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The router for other IPv6 links.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The hardware address; `None`: the card's.
    pub mac: Option<[u8; 6]>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether packet buffers are in huge pages.
    pub huge_pages: bool,
    /// MiB that DPDK takes; `None`: what the pools need.
    pub memory_mb: Option<u64>,
    /// Receive descriptors of a queue.
    pub receive_descriptors: u16,
    /// Transmit descriptors of a queue.
    pub transmit_descriptors: u16,
    /// What is left to the card.
    pub offloads: CardWork,
    /// Whether an address is used only after nobody has claimed it.
    pub detect_duplicates: bool,
    /// How long an idle worker sleeps at most; zero: it never does.
    pub idle_sleep_max: Duration,
    /// Further arguments.
    pub eal_args: Vec<String>,
    /// Frames of each queue that are kept to be looked at, the last ones; 0: none.
    pub capture_frames: usize,
    /// Bytes of each that are kept.
    pub capture_frame_bytes: usize,
}

impl DpdkConfig {
    /// Bytes of a receive buffer.
    pub fn receive_buffer_size(&self) -> u32 {
        (u32::from(self.mtu) + FRAME_BESIDES).next_multiple_of(64)
    }

    /// Bytes of packet buffers of one worker that holds `receive_buffers`: to receive, to send.
    pub fn packet_buffers(&self, receive_buffers: u32) -> [u64; 2] {
        let receive = u64::from(self.receive_buffer_size());
        let count = u64::from(receive_buffers) + u64::from(self.receive_descriptors) + RESERVED + CACHED;
        let sending = u64::from(self.transmit_descriptors) + PENDING + CACHED;
        [count * (receive + BUFFER_BESIDES), sending * (receive.max(2048) + BUFFER_BESIDES)]
    }

    /// Bytes of one worker's rolling capture: its ring, and a copy of it while somebody reads it.
    pub fn capture_bytes(&self) -> u64 {
        2 * self.capture_frames as u64 * (self.capture_frame_bytes as u64 + CAPTURED_BESIDES)
    }

    /// MiB that DPDK is given for `workers` workers.
    pub fn memory_mb(&self, workers: usize, receive_buffers: u32) -> u64 {
        let pools: u64 = self.packet_buffers(receive_buffers).iter().sum();
        let needed = (pools * workers as u64 + MEMORY_BESIDES).div_ceil(1 << 20).next_multiple_of(2);
        self.memory_mb.unwrap_or(needed)
    }
}

/// `0000:03:00.0`, with or without its domain and arguments.
pub fn is_pci(device: &str) -> bool {
    let address = name_of(device);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((before, function)) = address.split_once('.') else { return false };
    let parts: Vec<&str> = before.split(':').collect();
    (2..=3).contains(&parts.len()) && parts.iter().all(|part| digits(part)) && digits(function)
}

/// A device's name, without its arguments.
fn name_of(device: &str) -> &str {
    device.split(',').next().unwrap_or_default()
}

/// `02:00:00:00:00:01`, of one host and not of a group.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2))
        .collect::<Option<_>>()?;
    let mac: [u8; 6] = parts.try_into().ok()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

impl Builder<'_> {
    /// `None` where another backend is configured.
    pub(super) fn dpdk(&mut self, listeners: &[ListenerSettings]) -> Option<DpdkConfig> {
        let wanted = self.values.text("io.backend") == BackendKind::Dpdk.label();
        if !wanted {
            if !self.values.texts("dpdk.devices").is_empty() {
                self.warnings.push("[dpdk] is not used: io.backend is not \"dpdk\"".into());
            }
            return None;
        }
        let addresses = self.own_addresses();
        self.listeners_on(&addresses, listeners);
        let devices = self.devices();
        let config = DpdkConfig {
            port: self.dpdk_port(&devices),
            gateway_v4: self.router("dpdk.gateway_v4", "10.77.0.1", &addresses, |ip| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            }),
            gateway_v6: self.router("dpdk.gateway_v6", "fe80::1", &addresses, |ip| match ip {
                IpAddr::V6(ip) => Some(ip),
                IpAddr::V4(_) => None,
            }),
            mac: self.mac(),
            eal_args: self.eal_args(),
            devices,
            addresses,
            ..plain(self.values)
        };
        if !config.huge_pages && config.devices.iter().any(|device| is_pci(device)) {
            self.complain(
                "dpdk.huge_pages",
                "a card reads and writes memory that stays where it is: write true for a PCI device",
            );
        }
        Some(config)
    }

    fn devices(&mut self) -> Vec<String> {
        let devices = self.values.texts("dpdk.devices");
        if devices.is_empty() {
            self.complain(
                "dpdk.devices",
                "needs a device: a PCI address such as \"0000:03:00.0\", or a virtual one such as \"net_tap0,iface=gateway0\"; \
                 `gateway dpdk-check` lists cards",
            );
        }
        let named = |device: &String| !name_of(device).is_empty() && !device.starts_with('-');
        if !devices.iter().all(named) {
            self.complain(
                "dpdk.devices",
                "expected names of devices, such as \"0000:03:00.0\" or \"net_tap0,iface=gateway0\"",
            );
            return devices;
        }
        for device in devices.iter().filter(|device| !is_pci(device)) {
            if let Err(why) = dpdk_devices::check(device) {
                self.complain("dpdk.devices", why);
            }
        }
        devices
    }

    fn dpdk_port(&mut self, devices: &[String]) -> String {
        let first = devices.first().map_or("", |device| name_of(device));
        let port = self.values.text("dpdk.port");
        let is_known = devices.iter().any(|device| name_of(device) == port);
        if !port.is_empty() && !is_known && !devices.is_empty() {
            let names: Vec<&str> = devices.iter().map(|device| name_of(device)).collect();
            self.complain(
                "dpdk.port",
                format!("no such device in dpdk.devices; there are {}", names.join(", ")),
            );
        }
        let port = if port.is_empty() { first.to_owned() } else { port };
        // DPDK names ports of the first domain in full.
        if is_pci(&port) && port.matches(':').count() == 1 { format!("0000:{port}") } else { port }
    }

    fn own_addresses(&mut self) -> Vec<OwnAddress> {
        let texts = self.values.texts("dpdk.addresses");
        if texts.is_empty() {
            self.complain(
                "dpdk.addresses",
                "needs an address of its own with the length of its link's prefix, such as \"10.77.0.2/24\"; the kernel's \
                 addresses are not the port's",
            );
        }
        let mut addresses: Vec<OwnAddress> = Vec::with_capacity(texts.len());
        for text in texts {
            match OwnAddress::parse(&text) {
                Some(address) if address.is_of_all(address.ip) || address.ip == IpAddr::V4(Ipv4Addr::BROADCAST) => self.complain(
                    "dpdk.addresses",
                    format!("{text} is the first or the last address of its link, which is no host's: write another"),
                ),
                Some(address) if addresses.iter().any(|other| other.ip == address.ip) => {
                    self.complain("dpdk.addresses", format!("{} is there twice: leave one out", address.ip));
                }
                Some(address) => addresses.push(address),
                None => self.complain(
                    "dpdk.addresses",
                    format!("{text} is none: expected an address and the length of its prefix, such as \"10.77.0.2/24\""),
                ),
            }
        }
        addresses
    }

    fn listeners_on(&mut self, addresses: &[OwnAddress], listeners: &[ListenerSettings]) {
        // Of an address that could not be read the family is not known.
        let all_known = self.values.texts("dpdk.addresses").len() == addresses.len();
        for listener in listeners {
            let ip = listener.socket.address.ip();
            let path = format!("listener.{}.address", listener.name);
            let is_spoken =
                !all_known || addresses.iter().any(|address| address.ip.is_ipv4() == ip.is_ipv4());
            if ip.is_unspecified() && !is_spoken && !addresses.is_empty() && !self.values.is_missing(&path) {
                let (family, any) = if ip.is_ipv4() { ("IPv4", "[::]") } else { ("IPv6", "0.0.0.0") };
                let advice = format!(
                    "dpdk.addresses has no {family} address, so nobody reaches {ip}: write {any}, or add such an address"
                );
                self.complain(&path, advice);
            }
            let own = addresses.iter().any(|address| address.ip == ip);
            if !own && !ip.is_unspecified() && !addresses.is_empty() && !self.values.is_missing(&path) {
                let all: Vec<String> = addresses.iter().map(|address| address.ip.to_string()).collect();
                let any = if ip.is_ipv4() { "0.0.0.0" } else { "[::]" };
                let advice = format!(
                    "with io.backend = \"dpdk\" the host is {}: write one of these, or {any} for all",
                    all.join(" and ")
                );
                self.complain(&path, advice);
            }
        }
    }

    fn router<T>(
        &mut self,
        path: &str,
        example: &str,
        addresses: &[OwnAddress],
        version: impl Fn(IpAddr) -> Option<T>,
    ) -> Option<T> {
        let text = self.values.text(path);
        if text.is_empty() {
            return None;
        }
        let Some(ip) = text.parse().ok().filter(|ip| version(*ip).is_some()) else {
            self.complain(path, format!("expected an address, such as \"{example}\""));
            return None;
        };
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let nobody = |address: &OwnAddress| address.is_of_all(ip);
        if addresses.iter().any(|address| address.ip == ip) {
            self.complain(path, "is an address of the gateway's own: write the router's");
        } else if ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() || addresses.iter().any(nobody)
        {
            self.complain(path, "is no host's address: write the router's");
        } else if !is_link_local && !addresses.iter().any(|address| address.reaches(ip)) {
            self.complain(
                path,
                "is on no link of dpdk.addresses: a router is a neighbour; mend one of the two",
            );
        }
        version(ip)
    }

    fn mac(&mut self) -> Option<[u8; 6]> {
        let text = self.values.text("dpdk.mac");
        if text.is_empty() {
            return None;
        }
        let mac = parse_mac(&text);
        if mac.is_none() {
            self.complain("dpdk.mac", "expected the address of one host, such as \"02:00:00:00:00:01\", or nothing for the card's own");
        }
        mac
    }

    fn eal_args(&mut self) -> Vec<String> {
        let arguments = self.values.texts("dpdk.eal_args");
        for argument in &arguments {
            let name = argument.split(['=', ' ']).next().unwrap_or_default();
            if let Some((_, key)) = ARGUMENTS_WITH_KEYS.iter().find(|(one, _)| *one == name) {
                self.complain("dpdk.eal_args", format!("{name} has a key of its own: write {key}"));
            }
        }
        arguments
    }
}

/// What needs no check beyond its kind.
fn plain(values: &Values) -> DpdkConfig {
    let number = |name: &str| values.size(&format!("dpdk.{name}"));
    DpdkConfig {
        devices: Vec::new(),
        port: String::new(),
        addresses: Vec::new(),
        gateway_v4: None,
        gateway_v6: None,
        mac: None,
        mtu: number("mtu") as u16,
        huge_pages: values.flag("dpdk.huge_pages"),
        memory_mb: Some(number("memory_mb") as u64).filter(|mib| *mib > 0),
        receive_descriptors: number("receive_descriptors") as u16,
        transmit_descriptors: number("transmit_descriptors") as u16,
        offloads: match values.text("dpdk.offloads").as_str() {
            "checksums" => CardWork::Checksums,
            "none" => CardWork::None,
            _ => CardWork::All,
        },
        detect_duplicates: values.flag("dpdk.detect_duplicates"),
        idle_sleep_max: Duration::from_micros(number("idle_sleep_max_us") as u64),
        eal_args: Vec::new(),
        capture_frames: number("capture_frames"),
        capture_frame_bytes: number("capture_frame_bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        for pci in ["0000:03:00.0", "03:00.1", "0000:03:00.0,mprq_en=1"] {
            assert!(is_pci(pci), "{pci}");
        }
        for other in ["net_tap0,iface=a.b", "net_memif0,socket=/run/a:b.sock", "", "lo"] {
            assert!(!is_pci(other), "{other}");
        }
    }

    #[test]
    fn the_first_and_the_last_address_of_a_link_are_no_hosts() {
        let all = |link: &str, ip: &str| OwnAddress::parse(link).unwrap().is_of_all(ip.parse().unwrap());
        assert!(all("10.77.0.255/24", "10.77.0.255") && all("10.77.0.0/24", "10.77.0.0"));
        assert!(!all("10.77.0.255/16", "10.77.0.255") && all("10.77.0.2/16", "10.77.255.255"));
        assert!(!all("10.77.0.2/31", "10.77.0.3") && !all("10.77.0.2/32", "10.77.0.2"));
        assert!(!all("fd77::/64", "fd77::"));
    }

    #[test]
    fn addresses_and_links() {
        let address = OwnAddress::parse("10.77.0.2/24").unwrap();
        assert!(address.reaches("10.77.0.1".parse().unwrap()));
        assert!(
            !address.reaches("10.77.1.1".parse().unwrap()) && !address.reaches("fd00::1".parse().unwrap())
        );
        assert!(OwnAddress::parse("fd77::2/64").unwrap().reaches("fd77::1".parse().unwrap()));
        for wrong in [
            "10.77.0.2",
            "10.77.0.2/0",
            "10.77.0.2/33",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.1/4",
            "x/8",
            "::ffff:10.0.0.2/96",
        ] {
            assert_eq!(OwnAddress::parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse_mac("02:00:00:00:00:0f"), Some([2, 0, 0, 0, 0, 15]));
        for wrong in ["01:00:00:00:00:01", "00:00:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00", "x"] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }
}
