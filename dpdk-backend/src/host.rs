//! A program's host on a port: starts DPDK, opens the port, and gives each worker one of its queues
//! with a stack over it.
//!
//! ```text
//!   HostConfig ── open, once a process ──► Host
//!   Host ── enter, backend (on each worker's thread) ──► PollBackend
//! ```
//!
//! The gateway and the load generator share it. Each reads its own settings.

use crate::backend::{PollBackend, PollConfig, SystemClock};
use crate::claim::{self, ClaimError};
use crate::device::{Capture, CaptureRing, Device};
use crate::ffi::{Eal, LinkWatch, Offloads, PortConfig, PortError, PortFacts, Queue, WorkerThread};
use crate::iface::{AddressConfig, AddressWatch, InterfaceConfig};
use crate::tcp::TcpConfig;
use crate::wire::Mac;
use netpoll::BackendConfig;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The backend of a worker on a port.
pub type HostBackend = PollBackend<Capture<Queue>, SystemClock>;

/// DPDK's memory besides the pools, in bytes: its own tables, pools of drivers, and losses between
/// pages.
const MEMORY_BESIDES: usize = 48 << 20;

/// The devices that DPDK is started with.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// Cards: PCI addresses.
    pub cards: Vec<String>,
    /// Virtual devices, with their arguments.
    pub virtual_devices: Vec<String>,
    /// The port, by the name of its device.
    pub port: String,
    /// Further arguments of DPDK's environment layer.
    pub eal_args: Vec<String>,
}

/// The host on the port's link.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The host's addresses; 255 at most.
    pub addresses: Vec<AddressConfig>,
    /// The router for other IPv4 links.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The router for other IPv6 links.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The hardware address; `None`: the port's.
    pub mac: Option<Mac>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether an address is used only after duplicate address detection. Takes a second.
    pub detect_duplicates: bool,
}

/// DPDK's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostMemory {
    /// Whether packet buffers are in huge pages.
    pub huge_pages: bool,
    /// MiB that DPDK takes; `None`: what the pools need.
    pub memory_mb: Option<u64>,
}

/// The queues of the port, one pair a worker.
#[derive(Clone, Copy, Debug)]
pub struct QueueConfig {
    /// Receive descriptors of a queue.
    pub receive_descriptors: u16,
    /// Transmit descriptors of a queue.
    pub transmit_descriptors: u16,
    /// The work that is left to the card.
    pub offloads: Offloads,
}

/// A program's settings for its port and the host on it.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The program's name. With the process id it separates DPDK's files of several programs.
    pub program: &'static str,
    /// What DPDK is started with.
    pub devices: Devices,
    /// The host on its link.
    pub link: LinkConfig,
    /// DPDK's memory.
    pub memory: HostMemory,
    /// The port's queues.
    pub queues: QueueConfig,
    /// The longest sleep of an idle worker; zero: it never sleeps.
    pub idle_sleep_max: Duration,
    /// The rolling capture of frames; `None`: no capture.
    pub capture: Option<CaptureSize>,
}

/// Sizes of a rolling capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureSize {
    /// Frames of each queue that are kept.
    pub frames: usize,
    /// Bytes of each frame that are kept.
    pub frame_bytes: usize,
}

impl HostConfig {
    /// A host with one address on a virtual device such as `net_memif0,role=client`, in plain
    /// pages.
    pub fn on_virtual(program: &'static str, device: &str, ip: IpAddr, prefix_length: u8) -> HostConfig {
        HostConfig {
            program,
            devices: Devices {
                virtual_devices: vec![device.to_owned()],
                port: device.split(',').next().unwrap_or_default().to_owned(),
                ..Devices::default()
            },
            link: LinkConfig {
                addresses: vec![AddressConfig { ip, prefix_length }],
                gateway_v4: None,
                gateway_v6: None,
                mac: None,
                mtu: 1500,
                detect_duplicates: false,
            },
            memory: HostMemory::default(),
            queues: QueueConfig {
                receive_descriptors: 1024,
                transmit_descriptors: 1024,
                offloads: Offloads::All,
            },
            idle_sleep_max: Duration::from_micros(500),
            capture: None,
        }
    }

    /// MiB that DPDK is given for this many workers and receive buffers of each worker's owner.
    pub fn memory_mb(&self, workers: usize, receive_buffers: u32) -> u64 {
        let pools: usize = self.port(workers, receive_buffers).queue_memory().iter().sum();
        let needed = (pools * workers + MEMORY_BESIDES).div_ceil(1 << 20).next_multiple_of(2) as u64;
        self.memory.memory_mb.unwrap_or(needed)
    }

    /// The arguments that DPDK is started with.
    pub fn arguments(&self, workers: usize, receive_buffers: u32) -> Vec<String> {
        let mode = if self.memory.huge_pages { "--in-memory" } else { "--no-huge" };
        let mut arguments: Vec<String> = [mode, "--no-telemetry", "-m"].map(str::to_owned).into();
        arguments.push(self.memory_mb(workers, receive_buffers).to_string());
        if !self.devices.eal_args.iter().any(|one| one.starts_with("--file-prefix")) {
            arguments.push(format!("--file-prefix={}-{}", self.program, std::process::id()));
        }
        if !self.devices.eal_args.iter().any(|one| one.starts_with("--log-level")) {
            arguments.push("--log-level=*:error".into());
        }
        if self.devices.cards.is_empty() {
            arguments.push("--no-pci".into());
        }
        arguments.extend(self.devices.cards.iter().map(|card| format!("--allow={card}")));
        arguments.extend(self.devices.virtual_devices.iter().map(|device| format!("--vdev={device}")));
        arguments.extend(self.devices.eal_args.iter().cloned());
        arguments
    }

    /// Opens the port. A virtual device that had a port in this process before, closed since, is
    /// added again.
    fn open(&self, eal: Eal, port: &PortConfig) -> Result<(Vec<Queue>, PortFacts, LinkWatch), HostError> {
        let device = self.devices.virtual_devices.iter().find_map(|device| {
            let (name, arguments) = device.split_once(',').unwrap_or((device, ""));
            (name == self.devices.port).then_some((name, arguments))
        });
        if let Some((name, arguments)) = device.filter(|_| !port.is_there(eal)) {
            // The driver keeps the device of a closed port. Where it does not, there is nothing to
            // remove.
            let _ = eal.detach(name);
            eal.attach(name, arguments).map_err(HostError::Eal)?;
        }
        port.open_watched(eal).map_err(HostError::Port)
    }

    fn port(&self, workers: usize, receive_buffers: u32) -> PortConfig {
        PortConfig {
            queues: workers as u16,
            receive_descriptors: self.queues.receive_descriptors,
            transmit_descriptors: self.queues.transmit_descriptors,
            receive_buffers,
            offloads: self.queues.offloads,
            ..PortConfig::new(&self.devices.port, self.link.mtu)
        }
    }
}

/// The reason that there is no host.
#[derive(Debug)]
pub enum HostError {
    /// Another process has the interface or socket of a device.
    Claim(ClaimError),
    /// DPDK does not start.
    Eal(crate::ffi::EalError),
    /// The port can not be used.
    Port(PortError),
    /// The system has no random numbers, or no memory.
    System(io::Error),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::Claim(error) => error.fmt(f),
            HostError::Eal(error) => error.fmt(f),
            HostError::Port(error) => error.fmt(f),
            HostError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HostError {}

/// An open port, with the queues that their workers have not taken yet.
#[derive(Debug)]
pub struct Host {
    eal: Eal,
    config: HostConfig,
    facts: PortFacts,
    queues: Mutex<Vec<Option<Queue>>>,
    captures: Vec<CaptureRing>,
    link: LinkWatch,
    addresses: Arc<AddressWatch>,
}

/// The state of a port and its host, for threads other than the workers'.
#[derive(Clone, Debug)]
pub struct HostWatch {
    link: LinkWatch,
    addresses: Arc<AddressWatch>,
    ips: Vec<IpAddr>,
    waits_for_peer: bool,
}

impl HostWatch {
    /// Whether the link is up.
    pub fn is_link_up(&self) -> bool {
        self.link.is_up()
    }

    /// Whether duplicate address detection is still running for one of the host's addresses.
    pub fn is_checking_addresses(&self) -> bool {
        self.addresses.is_checking()
    }

    /// The host's addresses that another host uses.
    pub fn taken_addresses(&self) -> Vec<IpAddr> {
        self.addresses.taken().filter_map(|place| self.ips.get(place).copied()).collect()
    }

    /// Whether the link comes up only when another process opens its other end. Until that has
    /// happened once, a link that is down is no fault.
    pub fn waits_for_peer(&self) -> bool {
        self.waits_for_peer
    }
}

impl Host {
    /// Starts DPDK and opens the port, with a queue for each of `workers`. No other thread may run
    /// yet: threads that are started later do not receive the devices' signals.
    ///
    /// # Errors
    /// Those of DPDK, with what to do about them.
    pub fn open(config: HostConfig, workers: usize, backend: &BackendConfig) -> Result<Host, HostError> {
        let arguments = config.arguments(workers, backend.pools.receive.count);
        claim::take(&config.devices.virtual_devices).map_err(HostError::Claim)?;
        // After a start, an interface that exists may be this process's own.
        if !Eal::was_started() {
            claim::check_interfaces(&config.devices.virtual_devices).map_err(HostError::Claim)?;
        }
        let eal = Eal::start(&arguments).map_err(HostError::Eal)?;
        Host::over(eal, config, workers, backend)
    }

    /// The same with a DPDK that runs already.
    ///
    /// # Errors
    /// Those of opening the port.
    pub fn over(
        eal: Eal,
        config: HostConfig,
        workers: usize,
        backend: &BackendConfig,
    ) -> Result<Host, HostError> {
        let mut port = config.port(workers, backend.pools.receive.count);
        random(&mut port.rss_key).map_err(HostError::System)?;
        let (queues, mut facts, link) = config.open(eal, &port)?;
        facts.mac = config.link.mac.unwrap_or(facts.mac);
        let queues = Mutex::new(queues.into_iter().map(Some).collect());
        let ring = |size: CaptureSize| CaptureRing::new(size.frames, size.frame_bytes);
        let captures =
            config.capture.map_or_else(Vec::new, |size| (0..workers).map(|_| ring(size)).collect());
        let addresses = Arc::default();
        Ok(Host { eal, config, facts, queues, captures, link, addresses })
    }

    /// A view for other threads while the workers serve. It outlives the host.
    pub fn watch(&self) -> HostWatch {
        let device =
            self.config.devices.virtual_devices.iter().find(|one| one.starts_with(&self.config.devices.port));
        let serves = |device: &String| {
            let is_memif = device.starts_with("net_memif") && device.contains("role=server");
            is_memif || device.starts_with("net_vhost") || device.contains("server=1")
        };
        HostWatch {
            link: self.link.clone(),
            addresses: Arc::clone(&self.addresses),
            ips: self.config.link.addresses.iter().map(|address| address.ip).collect(),
            waits_for_peer: device.is_some_and(serves),
        }
    }

    /// Makes the calling thread a polling thread of DPDK.
    ///
    /// # Errors
    /// When DPDK knows as many threads as it can.
    pub fn enter(&self) -> io::Result<WorkerThread> {
        self.eal.enter().map_err(io::Error::other)
    }

    /// Takes queue `index`, for callers that move frames without a stack. Each queue can be taken
    /// once.
    pub fn queue(&self, index: usize) -> Option<Queue> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index)?.take()
    }

    /// The rolling captures of the backends of [`Host::backend`], by worker. Empty without capture.
    /// They outlive the host.
    pub fn captures(&self) -> &[CaptureRing] {
        &self.captures
    }

    /// The backend of worker `index`, with an engine such as [`PollConfig::engine`] returns for the
    /// same sizes. Can be called once for each worker.
    ///
    /// # Errors
    /// Those of [`PollBackend::new`].
    pub fn backend(&self, index: usize, sizes: &BackendConfig, engine: TcpConfig) -> io::Result<HostBackend> {
        // The backend's clock starts with it.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let ring = self.captures.get(index).cloned();
        self.backend_over(index, sizes, engine, |queue| Capture::new(queue, ring, started))
    }

    /// The same with the layer that `layer` puts around the queue, in place of a capture.
    ///
    /// # Errors
    /// Those of [`PollBackend::new`].
    pub fn backend_over<D: Device>(
        &self,
        index: usize,
        sizes: &BackendConfig,
        engine: TcpConfig,
        layer: impl FnOnce(Queue) -> D,
    ) -> io::Result<PollBackend<D, SystemClock>> {
        let queue = self
            .queue(index)
            .ok_or_else(|| io::Error::other(format!("no queue is left for worker {index}")))?;
        let mut secret = [0; 16];
        random(&mut secret)?;
        let (first, last) = secret.split_at(8);
        let secret = [first, last].map(|half| half.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let config = PollConfig { backend: sizes.clone(), interface: self.interface(), tcp: engine, secret };
        PollBackend::new(&config, layer(queue), SystemClock::sleeping_at_most(self.config.idle_sleep_max))
    }

    fn interface(&self) -> InterfaceConfig {
        let link = &self.config.link;
        InterfaceConfig {
            mtu: link.mtu,
            addresses: link.addresses.clone(),
            gateway_v4: link.gateway_v4,
            gateway_v6: link.gateway_v6,
            detect_duplicates: link.detect_duplicates,
            watch: Some(Arc::clone(&self.addresses)),
            ..InterfaceConfig::new(self.facts.mac, [0, 0, 0, 0].into(), 0)
        }
    }

    /// The port in words: `net_tap0 (net_tap, 02:…), checksums by the card, link 10 Gbit/s, DPDK
    /// 22.11.11`.
    pub fn describe(&self) -> String {
        let PortFacts { driver, mac, capabilities, receive_checksums, link_speed, .. } = &self.facts;
        let work =
            match (capabilities.transmit_checksums, *receive_checksums, capabilities.segmentation_max > 0) {
                (true, true, true) => "checksums and segments by the card",
                (true, true, false) => "checksums by the card",
                (true, false, _) => "checksums of what leaves by the card",
                (false, true, _) => "checksums of what comes by the card",
                (false, false, _) => "checksums in software",
            };
        let mac = mac.0.map(|byte| format!("{byte:02x}")).join(":");
        let link = match link_speed {
            None => "link down".to_owned(),
            Some(speed) if (1..400_000).contains(speed) => format!("link {speed} Mbit/s"),
            Some(_) => "link up".to_owned(),
        };
        let interface = self.facts.interface.as_ref();
        let interface = interface.map_or_else(String::new, |name| format!(", interface {name}"));
        let port = &self.config.devices.port;
        format!("a queue of {port} ({driver}{interface}, {mac}, {work}, {link}, {})", Eal::version())
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    let count = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
    if count == bytes.len() { Ok(()) } else { Err(io::Error::other("no random numbers")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpdk_gets_what_the_program_says() {
        let mut config = HostConfig::on_virtual("gateway", "net_null0", [10, 0, 0, 2].into(), 24);
        config.devices.cards.push("0000:03:00.0".into());
        config.devices.eal_args.push("--iova-mode=va".into());
        config.memory = HostMemory { huge_pages: true, memory_mb: Some(64) };
        let prefix = format!("--file-prefix=gateway-{}", std::process::id());
        let expected = [
            "--in-memory",
            "--no-telemetry",
            "-m",
            "64",
            &prefix,
            "--log-level=*:error",
            "--allow=0000:03:00.0",
            "--vdev=net_null0",
            "--iova-mode=va",
        ];
        assert_eq!(config.arguments(2, 1024), expected);
        let mut plain = HostConfig { memory: HostMemory::default(), ..config };
        plain.devices.cards.clear();
        let arguments = plain.arguments(1, 1024);
        assert_eq!(arguments[0], "--no-huge");
        assert!(arguments.contains(&"--no-pci".to_owned()));
        let sum: usize = plain.port(1, 1024).queue_memory().iter().sum();
        assert!(arguments[3].parse::<usize>().unwrap() << 20 >= sum + MEMORY_BESIDES);
    }
}
