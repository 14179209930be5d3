//! `[dpdk]`, from its keys.

use super::backend::BackendKind;
use super::build::Builder;
use super::dpdk::{CardWork, DpdkConfig, OwnAddress, is_pci, name_of};
use super::dpdk_devices;
use super::values::Values;
use gateway_core::settings::ListenerSettings;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

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
                Some(address) if address.is_of_no_host(address.ip) || address.ip == IpAddr::V4(Ipv4Addr::BROADCAST) => self.complain(
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
                    "dpdk.addresses has no {family} address, so no client reaches {ip}: write {any}, or add such an address"
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
        let no_host = |address: &OwnAddress| address.is_of_no_host(ip);
        if addresses.iter().any(|address| address.ip == ip) {
            self.complain(path, "is an address of the gateway's own: write the router's");
        } else if ip.is_multicast()
            || ip.is_unspecified()
            || ip.is_loopback()
            || addresses.iter().any(no_host)
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
    fn a_hardware_address_is_of_one_host() {
        assert_eq!(parse_mac("02:00:00:00:00:0f"), Some([2, 0, 0, 0, 0, 15]));
        for wrong in ["01:00:00:00:00:01", "00:00:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00", "x"] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }
}
