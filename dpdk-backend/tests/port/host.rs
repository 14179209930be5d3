//! A host on a TAP device: DPDK once per process, a port per test.

use crate::namespace;
use dpdk_backend::backend::{PollBackend, PollConfig, SystemClock};
use dpdk_backend::device::Device;
use dpdk_backend::ffi::{Eal, Offloads, PortConfig, PortFacts, Queue};
use dpdk_backend::iface::{AddressConfig, InterfaceConfig};
use dpdk_backend::tcp::TcpConfig;
use netpoll::BackendConfig;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) type Host = PollBackend<Queue, SystemClock>;

/// One test at a time: they share names of devices, and two processors.
pub(crate) type Turn = MutexGuard<'static, ()>;

static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn wait_for_turn() -> Turn {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    namespace::enter();
    eal();
    turn
}

pub(crate) fn eal() -> Eal {
    let prefix = format!("--file-prefix=gateway-test-{}", std::process::id());
    let fixed = ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--log-level=*:error"];
    let arguments: Vec<String> = fixed.into_iter().map(str::to_owned).chain([prefix]).collect();
    Eal::start(&arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// A TAP device, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    eal: Eal,
    device: String,
    pub(crate) interface: &'static str,
}

impl Tap {
    pub(crate) fn new(interface: &'static str) -> Tap {
        let eal = eal();
        let device = format!("net_tap_{interface}");
        eal.attach(&device, &format!("iface={interface}")).unwrap_or_else(|error| panic!("{error}"));
        Tap { eal, device, interface }
    }

    pub(crate) fn open(
        &self,
        queues: u16,
        receive_buffers: u32,
        offloads: Offloads,
    ) -> (Vec<Queue>, PortFacts) {
        let config = PortConfig { queues, receive_buffers, offloads, ..PortConfig::new(&self.device, 1500) };
        config.open(self.eal).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.eal.detach(&self.device).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A host with these addresses on a queue.
pub(crate) fn host(
    config: &BackendConfig,
    queue: Queue,
    facts: &PortFacts,
    addresses: &[IpAddr],
    seed: u64,
) -> Host {
    host_on(config, queue, facts, addresses, seed, |_| {})
}

/// The same on any device, with options of the engine changed by `adjust`.
pub(crate) fn host_on<D: Device>(
    config: &BackendConfig,
    device: D,
    facts: &PortFacts,
    addresses: &[IpAddr],
    seed: u64,
    adjust: impl FnOnce(&mut TcpConfig),
) -> PollBackend<D, SystemClock> {
    let mut interface = InterfaceConfig::new(facts.mac, addresses[0], 24);
    interface.addresses = addresses
        .iter()
        .map(|ip| AddressConfig { ip: *ip, prefix_length: if ip.is_ipv4() { 24 } else { 64 } })
        .collect();
    let mut config = PollConfig::new(config, interface, [seed, !seed]);
    // Where a test leaves a window of one segment, each segment would wait for it: 40 ms of real
    // time.
    config.tcp.timeouts.delayed_ack_ms = 2;
    adjust(&mut config.tcp);
    let clock = SystemClock::sleeping_at_most(Duration::from_micros(50));
    PollBackend::new(&config, device, clock).expect("pools")
}
