//! Workers on a card in poll mode: DPDK is started, the port opened, and each worker gets one of its queues.

use crate::config::{CardWork, DpdkConfig};
use dpdk_backend::backend::{PollBackend, PollConfig, SystemClock};
use dpdk_backend::ffi::{Eal, Offloads, PortConfig, PortFacts, Queue, WorkerThread};
use dpdk_backend::iface::{AddressConfig, InterfaceConfig};
use dpdk_backend::wire::Mac;
use netpoll::BackendConfig;
use std::io;
use std::sync::{Mutex, PoisonError};

/// The backend of such a worker.
pub(super) type DpdkBackend = PollBackend<Queue, SystemClock>;

/// A port whose queues wait for their workers.
#[derive(Debug)]
pub struct DpdkPort {
    eal: Eal,
    config: DpdkConfig,
    facts: PortFacts,
    queues: Mutex<Vec<Option<Queue>>>,
}

impl DpdkPort {
    /// Starts DPDK and opens the port, with a queue for each of `workers`. No other thread may run yet: those that are started
    /// later don't get the devices' signals.
    ///
    /// # Errors
    /// What DPDK says, and what to do about it.
    pub fn open(config: &DpdkConfig, workers: usize, backend: &BackendConfig) -> io::Result<DpdkPort> {
        let arguments = config.arguments(workers, backend.pools.receive.count);
        DpdkPort::over(Eal::start(&arguments).map_err(io::Error::other)?, config, workers, backend)
    }

    /// The same with a DPDK that runs already and has the device.
    ///
    /// # Errors
    /// What DPDK says to opening the port.
    pub fn over(
        eal: Eal,
        config: &DpdkConfig,
        workers: usize,
        backend: &BackendConfig,
    ) -> io::Result<DpdkPort> {
        let mut port = PortConfig {
            queues: workers as u16,
            receive_descriptors: config.receive_descriptors,
            transmit_descriptors: config.transmit_descriptors,
            receive_buffers: backend.pools.receive.count,
            offloads: match config.offloads {
                CardWork::All => Offloads::All,
                CardWork::Checksums => Offloads::Checksums,
                CardWork::None => Offloads::None,
            },
            ..PortConfig::new(&config.port, config.mtu)
        };
        random(&mut port.rss_key)?;
        let (queues, mut facts) = port.open(eal).map_err(io::Error::other)?;
        facts.mac = config.mac.map_or(facts.mac, Mac);
        let queues = Mutex::new(queues.into_iter().map(Some).collect());
        Ok(DpdkPort { eal, config: config.clone(), facts, queues })
    }

    /// Makes the calling thread one that polls.
    ///
    /// # Errors
    /// When DPDK knows as many threads as it can.
    pub(super) fn enter(&self) -> io::Result<WorkerThread> {
        self.eal.enter().map_err(io::Error::other)
    }

    /// The backend of worker `index`; once each.
    ///
    /// # Errors
    /// Those of [`PollBackend::new`].
    pub(super) fn backend(&self, index: usize, sizes: &BackendConfig) -> io::Result<DpdkBackend> {
        let taken =
            self.queues.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index).and_then(Option::take);
        let queue = taken.ok_or_else(|| io::Error::other(format!("no queue is left for worker {index}")))?;
        let mut secret = [0; 16];
        random(&mut secret)?;
        let (first, last) = secret.split_at(8);
        let secret = [first, last].map(|half| half.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let config = PollConfig::new(sizes, self.interface(), secret);
        PollBackend::new(&config, queue, SystemClock::sleeping_at_most(self.config.idle_sleep_max))
    }

    fn interface(&self) -> InterfaceConfig {
        let config = &self.config;
        let addresses = config.addresses.iter();
        let address =
            |one: &crate::config::OwnAddress| AddressConfig { ip: one.ip, prefix_length: one.prefix_length };
        InterfaceConfig {
            mtu: config.mtu,
            addresses: addresses.map(address).collect(),
            gateway_v4: config.gateway_v4,
            gateway_v6: config.gateway_v6,
            detect_duplicates: config.detect_duplicates,
            ..InterfaceConfig::new(self.facts.mac, [0, 0, 0, 0].into(), 0)
        }
    }

    /// What the workers run on, in words: `net_tap0 (net_tap, 02:…), checksums by the card, link 10 Gbit/s, DPDK 22.11.11`.
    pub(super) fn describe(&self) -> String {
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
        format!("a queue of {} ({driver}, {mac}, {work}, {link}, {})", self.config.port, Eal::version())
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    let count = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
    if count == bytes.len() { Ok(()) } else { Err(io::Error::other("no random numbers")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    #[test]
    fn the_plan_knows_what_the_pools_take() {
        let file = "[io]\nbackend = \"dpdk\"\n[dpdk]\ndevices = [\"net_null0\"]\naddresses = [\"10.0.0.2/24\"]\nmtu = 9000\n\
                    [[listener]]\nname = \"tcp\"\naddress = \"10.0.0.2:3101\"";
        let sources = Sources { file: Some(("x.toml".into(), file.into())), ..Sources::default() };
        let config = Config::load(&sources, &|_| Err(io::ErrorKind::NotFound.into())).unwrap().dpdk.unwrap();
        for mtu in [1280, 1500, 9000] {
            let config = DpdkConfig { mtu, ..config.clone() };
            let port = PortConfig {
                receive_descriptors: config.receive_descriptors,
                transmit_descriptors: config.transmit_descriptors,
                receive_buffers: 3000,
                ..PortConfig::new("", mtu)
            };
            let [receive, transmit] = port.queue_memory();
            let planned = config.packet_buffers(3000);
            assert!(
                receive as u64 <= planned[0] && planned[0] < receive as u64 * 11 / 10,
                "{receive} {planned:?}"
            );
            assert!(
                transmit as u64 <= planned[1] && planned[1] < transmit as u64 * 11 / 10,
                "{transmit} {planned:?}"
            );
        }
    }
}
