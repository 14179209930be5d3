//! `gateway dpdk-check`: what a start with DPDK would lack, each point with the command that fixes
//! it.
//!
//! Everything is read from `/sys`, `/proc` and `/dev` under a root, so that tests bring a machine
//! of their own.

use gateway_config::DpdkConfig;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Mellanox cards stay with the kernel's driver.
const VENDOR_SHARED: &str = "0x15b3";
/// Drivers that hand a card to a process.
const USER_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Network controllers begin with it.
const CLASS_NETWORK: &str = "0x02";

/// How a point stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it has to be.
    Good,
    /// A start fails, or no client reaches it.
    Missing,
    /// Worth knowing.
    Note,
}

/// A point that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// What it is about.
    pub subject: &'static str,
    /// How it is.
    pub text: String,
    /// Commands that mend it, in order.
    pub remedy: Vec<String>,
}

pub(super) fn good(subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { state: State::Good, subject, text: text.into(), remedy: Vec::new() }
}

fn note(subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { state: State::Note, subject, text: text.into(), remedy: Vec::new() }
}

pub(super) fn missing(subject: &'static str, text: impl Into<String>, remedy: &[String]) -> Finding {
    Finding { state: State::Missing, subject, text: text.into(), remedy: remedy.to_vec() }
}

/// A machine, as its files describe it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `/`, or a test's folder.
    pub root: PathBuf,
    /// Processors.
    pub cores: usize,
}

impl Machine {
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The last part of where a link leads.
    fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        Some(fs::read_link(self.path(path)).ok()?.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether this process's network namespace has an interface; `/sys` may be another one's.
    fn has_interface(&self, name: &str) -> bool {
        let table = self.text("/proc/net/dev").unwrap_or_default();
        table.lines().any(|line| line.trim_start().split_once(':').is_some_and(|(one, _)| one == name))
    }

    fn capability(&self, bit: u32) -> bool {
        let status = self.text("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
        set >> bit & 1 == 1
    }

    /// Free huge pages of all sizes, in MiB.
    fn free_huge_mb(&self) -> u64 {
        let Ok(sizes) = fs::read_dir(self.path("/sys/kernel/mm/hugepages")) else { return 0 };
        let free = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 =
                fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(kib * free / 1024)
        };
        sizes.filter_map(|entry| free(entry.ok()?)).sum()
    }

    /// PCI addresses of network cards.
    fn cards(&self) -> Vec<String> {
        let Ok(devices) = fs::read_dir(self.path("/sys/bus/pci/devices")) else { return Vec::new() };
        let names = devices.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let mut cards: Vec<String> = names.filter(|name| self.is_network(name)).collect();
        cards.sort();
        cards
    }

    fn is_network(&self, address: &str) -> bool {
        self.text(format!("/sys/bus/pci/devices/{address}/class"))
            .is_some_and(|class| class.starts_with(CLASS_NETWORK))
    }
}

/// CAP_NET_ADMIN, capabilities(7).
const NET_ADMIN: u32 = 12;
/// CAP_IPC_LOCK.
const IPC_LOCK: u32 = 14;
/// CAP_SYS_ADMIN.
const SYS_ADMIN: u32 = 21;

/// Looks at everything. `library` is DPDK's version or why there is none; `config` with the MiB
/// that its pools take and its workers, if a configuration asks for DPDK.
pub fn check(
    machine: &Machine,
    library: Result<String, String>,
    config: Option<(&DpdkConfig, u64, usize)>,
) -> Vec<Finding> {
    let mut findings = vec![match library {
        Ok(version) => good("program", format!("built with {version}")),
        Err(why) => missing(
            "program",
            why,
            &[
                "apt-get install libdpdk-dev clang libclang-dev pkg-config".into(),
                "cargo build --release -p gateway --features dpdk".into(),
            ],
        ),
    }];
    let Some((config, memory_mb, workers)) = config else {
        findings.push(note("config", "no configuration with io.backend = \"dpdk\" was given (--config FILE): only the machine is looked at"));
        findings.push(huge_pages(machine, 0));
        findings.extend(machine.cards().iter().map(|card| describe(machine, card)));
        return findings;
    };
    if config.huge_pages {
        findings.push(huge_pages(machine, memory_mb));
        findings.push(huge_pages_allowed(machine));
    } else {
        findings.push(good("huge pages", "not used (dpdk.huge_pages = false)"));
    }
    for device in &config.devices {
        let (name, arguments) = device.split_once(',').unwrap_or((device, ""));
        let is_card = name.contains(':') && !name.starts_with("net_");
        findings.extend(if is_card { card(machine, name) } else { virtual_device(machine, name, arguments) });
    }
    if workers > machine.cores {
        findings.push(note(
            "cores",
            format!(
                "{workers} workers poll on {} cores: they take them from each other; lower io.workers",
                machine.cores
            ),
        ));
    }
    findings
}

fn huge_pages(machine: &Machine, needed_mb: u64) -> Finding {
    let free = machine.free_huge_mb();
    if free >= needed_mb && free > 0 {
        return good("huge pages", format!("{free} MiB are free, {needed_mb} MiB are needed"));
    }
    let text = format!("{free} MiB are free, {needed_mb} MiB are needed");
    if needed_mb == 0 {
        return note(
            "huge pages",
            format!("{text}; a card needs some, virtual devices can do without (dpdk.huge_pages = false)"),
        );
    }
    let total: u64 =
        machine.text("/proc/sys/vm/nr_hugepages").and_then(|text| text.parse().ok()).unwrap_or(0);
    let pages = total + (needed_mb - free).div_ceil(2);
    let remedy = [
        format!("echo {pages} > /proc/sys/vm/nr_hugepages"),
        format!("echo vm.nr_hugepages={pages} > /etc/sysctl.d/80-gateway.conf   # after a restart, too"),
    ];
    missing("huge pages", text, &remedy)
}

/// Without files, pages come by memfd_create or mmap, which any user may; where they are counted as
/// locked, a limit holds.
fn huge_pages_allowed(machine: &Machine) -> Finding {
    if machine.capability(IPC_LOCK) {
        return good("memory lock", "allowed");
    }
    let limits = machine.text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap_or_default();
    if line.contains("unlimited") {
        return good("memory lock", "unlimited");
    }
    let remedy = ["ulimit -l unlimited   # with systemd: LimitMEMLOCK=infinity".to_owned()];
    missing("memory lock", "cards can't be given more memory than RLIMIT_MEMLOCK allows", &remedy)
}

/// How a card stands, without judging.
fn describe(machine: &Machine, address: &str) -> Finding {
    let folder = format!("/sys/bus/pci/devices/{address}");
    let read = |name: &str| machine.text(format!("{folder}/{name}")).unwrap_or_default();
    let driver = machine.link(format!("{folder}/driver")).unwrap_or_else(|| "no driver".into());
    note("card", format!("{address}: vendor {} device {}, {driver}", read("vendor"), read("device")))
}

/// Checks a card that a process is to have.
fn card(machine: &Machine, name: &str) -> Vec<Finding> {
    let address = if name.matches(':').count() == 1 { format!("0000:{name}") } else { name.to_owned() };
    let folder = format!("/sys/bus/pci/devices/{address}");
    if !machine.exists(&folder) {
        let cards = machine.cards();
        let found =
            if cards.is_empty() { "there is none".into() } else { format!("there are {}", cards.join(", ")) };
        return vec![missing(
            "card",
            format!("{address} is no PCI device of this machine; of network cards {found}"),
            &["lspci -D | grep -i ethernet".into()],
        )];
    }
    let mut findings = Vec::new();
    if machine.text(format!("{folder}/vendor")).as_deref() == Some(VENDOR_SHARED) {
        findings.push(good(
            "card",
            format!("{address}: its driver shares it with the kernel, nothing is to be bound"),
        ));
        return findings;
    }
    let driver = machine.link(format!("{folder}/driver"));
    if driver.as_deref().is_some_and(|driver| USER_DRIVERS.contains(&driver)) {
        findings.push(good("card", format!("{address}: bound to {}", driver.unwrap_or_default())));
    } else {
        let text = match &driver {
            Some(driver) => {
                format!("{address}: is the kernel's ({driver}); logins over it are cut off when it is bound")
            }
            None => format!("{address}: has no driver"),
        };
        let mut remedy =
            vec!["modprobe vfio-pci".to_owned(), format!("echo vfio-pci > {folder}/driver_override")];
        if driver.is_some() {
            remedy.push(format!("echo {address} > {folder}/driver/unbind"));
        }
        remedy.push(format!("echo {address} > /sys/bus/pci/drivers_probe"));
        findings.push(missing("card", text, &remedy));
    }
    findings.push(iommu(machine, &folder));
    findings
}

fn iommu(machine: &Machine, folder: &str) -> Finding {
    let Some(group) = machine.link(format!("{folder}/iommu_group")) else {
        if machine.text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref() == Some("Y") {
            return note("IOMMU", "none: vfio runs without one, so the card can reach all memory");
        }
        let remedy = [
            "intel_iommu=on iommu=pt on the kernel's command line (AMD: iommu=pt), and VT-d or AMD-Vi in the firmware".to_owned(),
            "modprobe vfio enable_unsafe_noiommu_mode=1   # or without one, where the machine is trusted".to_owned(),
        ];
        return missing("IOMMU", "none is on, which vfio-pci needs", &remedy);
    };
    let device = format!("/dev/vfio/{group}");
    let is_open = fs::OpenOptions::new().read(true).write(true).open(machine.path(&device)).is_ok();
    if is_open || !machine.exists(&device) {
        return good("IOMMU", format!("on, group {group}"));
    }
    missing(
        "IOMMU",
        format!("{device} is not ours to open"),
        &[format!("chown $USER {device}   # or start as root")],
    )
}

fn virtual_device(machine: &Machine, name: &str, arguments: &str) -> Vec<Finding> {
    let argument = |wanted: &str| {
        let pairs = arguments.split(',').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == wanted).map(|(_, value)| value).next()
    };
    let driver = name.trim_end_matches(|one: char| one.is_ascii_digit());
    if driver.starts_with("net_tap") {
        let mut findings = vec![match machine.exists("/dev/net/tun") {
            true => good("device", format!("{name}: /dev/net/tun is there")),
            false => missing(
                "device",
                format!("{name}: /dev/net/tun is missing"),
                &["modprobe tun   # in a container: --device /dev/net/tun".into()],
            ),
        }];
        if !machine.capability(NET_ADMIN) && !machine.capability(SYS_ADMIN) {
            let remedy = ["setcap cap_net_admin+ep target/release/gateway   # or start as root; in a container: --cap-add NET_ADMIN".to_owned()];
            findings.push(missing(
                "privilege",
                format!("{name}: making a TAP device takes CAP_NET_ADMIN"),
                &remedy,
            ));
        }
        return findings;
    }
    if let Some(interface) = argument("iface").filter(|_| driver == "net_af_packet" || driver == "net_af_xdp")
    {
        return vec![match machine.has_interface(interface) {
            true => good("device", format!("{name}: the interface {interface} is there")),
            false => missing(
                "device",
                format!("{name}: there is no interface {interface} in this network namespace"),
                &[format!("ip link show   # and write an interface that is there instead of {interface}")],
            ),
        }];
    }
    let needed = match driver {
        "net_virtio_user" => argument("path").map(str::to_owned),
        "net_memif" => argument("socket")
            .and_then(|socket| Path::new(socket).parent().map(|one| one.display().to_string())),
        _ => None,
    };
    match needed.filter(|path| !path.is_empty() && !machine.exists(path)) {
        Some(path) => {
            vec![missing("device", format!("{name}: {path} is not there"), &[remedy_of(driver, &path)])]
        }
        None => vec![good("device", format!("{name}: nothing more is needed"))],
    }
}

fn remedy_of(driver: &str, path: &str) -> String {
    match driver {
        "net_memif" => format!("mkdir -p {path}"),
        "net_virtio_user" if path == "/dev/vhost-net" => "modprobe vhost-net".into(),
        _ => format!("start the other end first: it makes {path}"),
    }
}

/// The findings for a terminal, and whether nothing is missing.
pub fn report(findings: &[Finding]) -> (String, bool) {
    let mut text = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Good => "ok",
            State::Missing => "MISSING",
            State::Note => "note",
        };
        let _ = writeln!(text, "  {state:<8} {:<12} {}", finding.subject, finding.text);
        for (index, command) in finding.remedy.iter().enumerate() {
            let label = if index == 0 { "do this:" } else { "" };
            let _ = writeln!(text, "  {:<8} {label:<12} {command}", "");
        }
    }
    let count = findings.iter().filter(|finding| finding.state == State::Missing).count();
    let _ = match count {
        0 => writeln!(text, "\nnothing is missing"),
        1 => writeln!(text, "\none thing is missing"),
        _ => writeln!(text, "\n{count} things are missing"),
    };
    (text, count == 0)
}
