//! A TAP device in a network namespace of the test's own: a gateway in poll mode on one end, the
//! kernel's TCP on the other.

#[path = "../../../dpdk-backend/tests/port/namespace.rs"]
mod namespace;

use dpdk_backend::ffi::Eal;
use dpdk_backend::host::{Host, HostConfig};
use gateway_core::settings::WorkerSettings;
use netpoll::BackendConfig;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));
const DEVICE: &str = "net_tap_gateway";
const INTERFACE: &str = "gateway0";

/// One case at a time: they share the device's name.
static TURN: Mutex<()> = Mutex::new(());

/// The device, gone with this.
pub struct Link {
    eal: Eal,
    _turn: MutexGuard<'static, ()>,
}

impl Link {
    /// Moves the calling thread, which is the clients', to the namespace, and the listeners to the
    /// device's address.
    pub fn new(settings: &mut WorkerSettings) -> Link {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        namespace::enter();
        for listener in &mut settings.listeners {
            listener.socket.address.set_ip(GATEWAY);
        }
        let prefix = format!("--file-prefix=gateway-sessions-{}", std::process::id());
        let fixed = ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--log-level=*:error"];
        let arguments: Vec<String> = fixed.into_iter().map(str::to_owned).chain([prefix]).collect();
        let eal = Eal::start(&arguments).unwrap_or_else(|error| panic!("{error}"));
        eal.attach(DEVICE, &format!("iface={INTERFACE}")).unwrap_or_else(|error| panic!("{error}"));
        Link { eal, _turn: turn }
    }

    /// The port, with a queue a worker.
    pub fn port(&self, workers: usize, backend: &BackendConfig) -> Arc<Host> {
        let mut config = HostConfig {
            idle_sleep_max: Duration::from_micros(200),
            ..HostConfig::on_virtual("gateway-sessions", DEVICE, GATEWAY, 24)
        };
        config.devices.virtual_devices.clear(); // attached already
        config.queues.receive_descriptors = 256;
        config.queues.transmit_descriptors = 256;
        let host = Host::over(self.eal, config, workers, backend);
        Arc::new(host.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Gives the kernel's end its address.
    pub fn reach(&self) {
        namespace::ip(&format!("address add 10.77.0.1/24 dev {INTERFACE}"));
        namespace::ip(&format!("link set {INTERFACE} up"));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.eal.detach(DEVICE).unwrap_or_else(|error| panic!("{error}"));
    }
}
