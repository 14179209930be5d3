//! `gateway dpdk-check` on machines made of files, and the exact texts about `[dpdk]`.

use gateway::dpdk::{Machine, State, check, report};
use gateway_config::{BackendKind, Config, DpdkConfig, Plan, Reserves, Sources, SystemLimits};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const CARD: &str = "0000:03:00.0";

/// A folder that looks like a machine, gone with this.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let root = std::env::temp_dir().join(format!("gateway-dpdk-{name}-{}", std::process::id()));
        let files = Files(root);
        files.file("proc/self/status", "Name:\tgateway\nCapEff:\t000001ffffffffff\n");
        files.file("proc/sys/vm/nr_hugepages", "0\n");
        files.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n");
        files
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn card(&self, vendor: &str, driver: Option<&str>) {
        self.file(&format!("sys/bus/pci/devices/{CARD}/class"), "0x020000\n");
        self.file(&format!("sys/bus/pci/devices/{CARD}/vendor"), vendor);
        if let Some(driver) = driver {
            self.link(
                &format!("sys/bus/pci/devices/{CARD}/driver"),
                &format!("../../../bus/pci/drivers/{driver}"),
            );
        }
    }

    fn said(&self, config: &DpdkConfig) -> (String, bool) {
        let machine = Machine { root: self.0.clone(), cores: 2 };
        report(&check(&machine, Ok("DPDK 22.11.11".into()), Some((config, 56, 2))))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(dpdk: &str) -> Result<Config, String> {
    let file = format!(
        "[io]\nbackend = \"dpdk\"\n[dpdk]\n{dpdk}\n[[listener]]\nname = \"tcp\"\naddress = \"0.0.0.0:1\"\n"
    );
    let sources = Sources { file: Some(("gateway.toml".into(), file)), ..Sources::default() };
    Config::load(&sources, &|_| Err(std::io::ErrorKind::NotFound.into()))
        .map_err(|problems| problems.to_string())
}

fn config(dpdk: &str) -> DpdkConfig {
    let text = format!("addresses = [\"10.77.0.2/24\"]\n{dpdk}");
    load(&text).unwrap_or_else(|problems| panic!("{problems}")).dpdk.unwrap()
}

#[test]
fn a_card_of_the_kernels_without_huge_pages_and_iommu() {
    let files = Files::new("kernel");
    files.card("0x8086\n", Some("ixgbe"));
    let (text, is_complete) = files.said(&config("devices = [\"03:00.0\"]"));
    let expected = [
        "  ok       program      built with DPDK 22.11.11",
        "  MISSING  huge pages   0 MiB are free, 56 MiB are needed",
        "           do this:     echo 28 > /proc/sys/vm/nr_hugepages",
        "                        echo vm.nr_hugepages=28 > /etc/sysctl.d/80-gateway.conf   # after a restart, too",
        "  ok       memory lock  allowed",
        "  MISSING  card         0000:03:00.0: is the kernel's (ixgbe); logins over it are cut off when it is bound",
        "           do this:     modprobe vfio-pci",
        "                        echo vfio-pci > /sys/bus/pci/devices/0000:03:00.0/driver_override",
        "                        echo 0000:03:00.0 > /sys/bus/pci/devices/0000:03:00.0/driver/unbind",
        "                        echo 0000:03:00.0 > /sys/bus/pci/drivers_probe",
        "  MISSING  IOMMU        none is on, which vfio-pci needs",
        "           do this:     intel_iommu=on iommu=pt on the kernel's command line (AMD: iommu=pt), and VT-d or AMD-Vi in the firmware",
        "                        modprobe vfio enable_unsafe_noiommu_mode=1   # or without one, where the machine is trusted",
        "",
        "3 things are missing",
        "",
    ];
    assert_eq!(text, expected.join("\n"));
    assert!(!is_complete);
}

#[test]
fn a_card_that_is_ready() {
    let files = Files::new("ready");
    files.card("0x8086\n", Some("vfio-pci"));
    files.link(&format!("sys/bus/pci/devices/{CARD}/iommu_group"), "../../../kernel/iommu_groups/7");
    files.file("dev/vfio/7", "");
    files.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "30\n");
    let (text, is_complete) = files.said(&config("devices = [\"0000:03:00.0\"]"));
    assert!(is_complete, "{text}");
    assert!(text.contains("60 MiB are free, 56 MiB are needed") && text.contains("on, group 7"), "{text}");
}

#[test]
fn virtual_devices_need_what_they_stand_on() {
    let files = Files::new("virtual");
    let plain = |device: &str| config(&format!("devices = [\"{device}\"]\nhuge_pages = false"));
    let (text, is_complete) = files.said(&plain("net_tap0,iface=gateway0"));
    assert!(
        !is_complete && text.contains("/dev/net/tun is missing") && text.contains("modprobe tun"),
        "{text}"
    );
    files.file("dev/net/tun", "");
    let (text, is_complete) = files.said(&plain("net_tap0,iface=gateway0"));
    assert!(is_complete, "{text}");
    files.file("proc/self/status", "CapEff:\t0000000000000000\n");
    let (text, _) = files.said(&plain("net_tap0,iface=gateway0"));
    assert!(text.contains("takes CAP_NET_ADMIN"), "{text}");
    let (text, _) = files.said(&plain("net_af_packet0,iface=eth7"));
    assert!(text.contains("there is no interface eth7"), "{text}");
    files.file("proc/net/dev", "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth7: 12 1\n");
    let (text, is_complete) = files.said(&plain("net_af_packet0,iface=eth7"));
    assert!(is_complete && text.contains("eth7 is there"), "{text}");
    let (text, _) = files.said(&plain("net_memif0,socket=/run/gateway/memif.sock"));
    assert!(text.contains("mkdir -p /run/gateway"), "{text}");
}

#[test]
fn without_a_configuration_the_machine_is_looked_at() {
    let files = Files::new("bare");
    files.card("0x15b3\n", None);
    let machine = Machine { root: files.0.clone(), cores: 2 };
    let findings = check(&machine, Err("built without".into()), None);
    assert_eq!(findings[0].state, State::Missing);
    assert!(
        findings
            .iter()
            .any(|finding| finding.text.contains("vendor 0x15b3") && finding.text.contains("no driver"))
    );
}

#[track_caller]
fn expect(dpdk: &str, expected: &[&str]) {
    assert_eq!(load(dpdk).map(|_| ()).unwrap_err(), expected.join("\n"));
}

#[test]
fn everything_wrong_in_the_section_is_told_with_its_line() {
    expect(
        "devices = [\"net_tap0,iface=gateway0\"]\naddresses = [\"10.77.0.2\", \"fd77::2/64\"]\nport = \"net_tap1\"\n\
         gateway_v4 = \"10.78.0.1\"\ngateway_v6 = \"10.77.0.1\"\nmac = \"03:00:00:00:00:01\"\nmtu = 100\neal_args = [\"-m\", \"64\"]",
        &[
            "gateway.toml:5: dpdk.addresses = [\"10.77.0.2\", \"fd77::2/64\"]: 10.77.0.2 is none: expected an address and the length of its \
             prefix, such as \"10.77.0.2/24\"",
            "gateway.toml:6: dpdk.port = \"net_tap1\": no such device in dpdk.devices; there are net_tap0",
            "gateway.toml:7: dpdk.gateway_v4 = \"10.78.0.1\": is on no link of dpdk.addresses: a router is a neighbour; mend one of the two",
            "gateway.toml:8: dpdk.gateway_v6 = \"10.77.0.1\": expected an address, such as \"fe80::1\"",
            "gateway.toml:9: dpdk.mac = \"03:00:00:00:00:01\": expected the address of one host, such as \"02:00:00:00:00:01\", or nothing \
             for the card's own",
            "gateway.toml:10: dpdk.mtu = 100: expected a whole number from 1280 to 9000",
            "gateway.toml:11: dpdk.eal_args = [\"-m\", \"64\"]: -m has a key of its own: write dpdk.memory_mb",
        ],
    );
}

#[test]
fn listeners_are_on_the_gateways_own_addresses() {
    let config = load(
        "devices = [\"net_null0\"]\naddresses = [\"10.77.0.2/24\"]\n\
                       [[listener]]\nname = \"lost\"\naddress = \"127.0.0.1:7\"",
    );
    assert_eq!(
        config.map(|_| ()).unwrap_err(),
        "gateway.toml:8: listener.lost.address = \"127.0.0.1:7\": with io.backend = \"dpdk\" the host is 10.77.0.2: write one of these, \
         or 0.0.0.0 for all"
    );
}

#[test]
fn a_listener_needs_an_address_of_its_family() {
    let config = load("devices = [\"net_null0\"]\naddresses = [\"fd77::2/64\"]");
    assert_eq!(
        config.map(|_| ()).unwrap_err(),
        "gateway.toml:8: listener.tcp.address = \"0.0.0.0:1\": dpdk.addresses has no IPv4 address, so no client reaches 0.0.0.0: write [::], \
         or add such an address"
    );
}

#[test]
fn addresses_that_no_host_can_have_are_refused() {
    let wrong = |addresses: &str| {
        load(&format!("devices = [\"net_null0\"]\naddresses = {addresses}")).map(|_| ()).unwrap_err()
    };
    for all in ["[\"10.77.0.255/24\"]", "[\"10.77.0.0/24\"]", "[\"255.255.255.255/32\"]"] {
        assert!(wrong(all).contains("which is no host's: write another"), "{all}: {}", wrong(all));
    }
    let twice = wrong("[\"10.77.0.2/24\", \"10.77.0.2/16\"]");
    assert!(twice.contains("10.77.0.2 is there twice: leave one out"), "{twice}");
}

#[test]
fn a_router_is_another_host() {
    let wrong = |router: &str| {
        let text =
            format!("devices = [\"net_null0\"]\naddresses = [\"10.77.0.2/24\"]\ngateway_v4 = \"{router}\"");
        load(&text).map(|_| ()).unwrap_err()
    };
    assert!(wrong("10.77.0.2").contains("is an address of the gateway's own: write the router's"));
    assert!(wrong("10.77.0.255").contains("is no host's address: write the router's"));
    assert!(
        load("devices = [\"net_null0\"]\naddresses = [\"10.77.0.2/24\"]\ngateway_v4 = \"10.77.0.1\"").is_ok()
    );
}

#[test]
fn names_of_devices_and_arguments_are_those_that_dpdk_knows() {
    let wrong = |device: &str| {
        load(&format!("devices = [\"{device}\"]\naddresses = [\"10.77.0.2/24\"]")).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        wrong("net_tapp0,iface=gateway0"),
        "gateway.toml:4: dpdk.devices = [\"net_tapp0,iface=gateway0\"]: net_tapp0 is no device of DPDK's: is net_tap0 meant?"
    );
    assert!(wrong("net_tap,iface=gateway0").contains("write net_tap0"));
    assert!(wrong("net_tap0,ifaces=gateway0").contains("has no argument ifaces, is iface meant?"));
}

/// What configs/gateway.dpdk.toml says a card needs is what dpdk-check would say.
#[test]
fn the_profile_says_how_many_huge_pages_a_card_needs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/gateway.dpdk.toml");
    let text = fs::read_to_string(path).unwrap();
    let sources = Sources { file: Some(("gateway.dpdk.toml".into(), text.clone())), ..Sources::default() };
    let config = Config::load(&sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
    let plan = Plan::new(&config, &SystemLimits::read(), BackendKind::Dpdk, Reserves::NONE).unwrap();
    let dpdk = plan.dpdk.as_ref().unwrap();
    let pages = dpdk.memory_mb(plan.workers, plan.backend_config.pools.receive.count) / 2;
    assert!(text.contains(&format!("for this file {pages}:")), "{pages} pages of 2 MiB");
    assert!(text.contains(&format!("echo {pages} > /proc/sys/vm/nr_hugepages")));
}
