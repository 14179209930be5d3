//! Workers on a card in poll mode: what `[dpdk]` says, as the host on its port.

use dpdk_backend::ffi::Offloads;
use dpdk_backend::host::{CaptureSize, Devices, Host, HostConfig, HostMemory, LinkConfig, QueueConfig};
use dpdk_backend::iface::AddressConfig;
use dpdk_backend::wire::Mac;
use gateway_config::{CardWork, DpdkConfig, OwnAddress, is_pci};
use netpoll::BackendConfig;
use std::io;

/// Starts DPDK and opens the port, with a queue for each of `workers`.
///
/// # Errors
/// Those of [`Host::open`].
pub(super) fn open(config: &DpdkConfig, workers: usize, backend: &BackendConfig) -> io::Result<Host> {
    Host::open(host(config, workers, backend), workers, backend).map_err(io::Error::other)
}

fn host(config: &DpdkConfig, workers: usize, backend: &BackendConfig) -> HostConfig {
    let (cards, virtual_devices) = config.devices.iter().cloned().partition(|device| is_pci(device));
    let address = |one: &OwnAddress| AddressConfig { ip: one.ip, prefix_length: one.prefix_length };
    HostConfig {
        program: "gateway",
        devices: Devices {
            cards,
            virtual_devices,
            port: config.port.clone(),
            eal_args: config.eal_args.clone(),
        },
        link: LinkConfig {
            addresses: config.addresses.iter().map(address).collect(),
            gateway_v4: config.gateway_v4,
            gateway_v6: config.gateway_v6,
            mac: config.mac.map(Mac),
            mtu: config.mtu,
            detect_duplicates: config.detect_duplicates,
        },
        memory: HostMemory {
            huge_pages: config.huge_pages,
            // As the plan says, which was checked against the machine.
            memory_mb: Some(config.memory_mb(workers, backend.pools.receive.count)),
        },
        queues: QueueConfig {
            receive_descriptors: config.receive_descriptors,
            transmit_descriptors: config.transmit_descriptors,
            offloads: match config.offloads {
                CardWork::All => Offloads::All,
                CardWork::Checksums => Offloads::Checksums,
                CardWork::None => Offloads::None,
            },
        },
        idle_sleep_max: config.idle_sleep_max,
        capture: (config.capture_frames > 0).then_some(CaptureSize {
            frames: config.capture_frames,
            frame_bytes: config.capture_frame_bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpdk_backend::device::CaptureRing;
    use dpdk_backend::ffi::PortConfig;
    use gateway_config::{Config, Sources};

    fn load(file: &str) -> DpdkConfig {
        let sources = Sources { file: Some(("x.toml".into(), file.into())), ..Sources::default() };
        Config::load(&sources, &|_| Err(io::ErrorKind::NotFound.into())).unwrap().dpdk.unwrap()
    }

    #[test]
    fn dpdk_gets_what_the_keys_say() {
        let config = load(
            "[io]\nbackend = \"dpdk\"\n[dpdk]\ndevices = [\"0000:03:00.0\", \"net_null0\"]\nmemory_mb = 64\n\
             addresses = [\"10.0.0.2/24\"]\neal_args = [\"--iova-mode=va\"]\n\
             [[listener]]\nname = \"tcp\"\naddress = \"10.0.0.2:3101\"",
        );
        let arguments = host(&config, 2, &BackendConfig::small(1)).arguments(2, 1024);
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
        assert_eq!(arguments, expected);
        assert_eq!(config.port, "0000:03:00.0");
    }

    #[test]
    fn a_capture_is_planned_with_what_it_takes() {
        let file = "[io]\nbackend = \"dpdk\"\n[dpdk]\ndevices = [\"net_null0\"]\naddresses = [\"10.0.0.2/24\"]\n\
                    capture_frames = 1000\ncapture_frame_bytes = 96\n\
                    [[listener]]\nname = \"tcp\"\naddress = \"10.0.0.2:3101\"";
        let config = load(file);
        let capture = host(&config, 1, &BackendConfig::small(1)).capture;
        assert_eq!(capture, Some(CaptureSize { frames: 1000, frame_bytes: 96 }));
        assert_eq!(config.capture_bytes(), 2 * CaptureRing::memory(1000, 96) as u64);
        let off = DpdkConfig { capture_frames: 0, ..config };
        assert_eq!((host(&off, 1, &BackendConfig::small(1)).capture, off.capture_bytes()), (None, 0));
    }

    #[test]
    fn the_plan_knows_what_the_pools_take() {
        let file = "[io]\nbackend = \"dpdk\"\n[dpdk]\ndevices = [\"net_null0\"]\naddresses = [\"10.0.0.2/24\"]\nmtu = 9000\n\
                    [[listener]]\nname = \"tcp\"\naddress = \"10.0.0.2:3101\"";
        let config = load(file);
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
