//! The generator as a host of its own on a link: clients on our TCP/IP engine, over a queue of
//! DPDK's.

use super::with_kernel::WithKernel;
use crate::client::Protocol;
use crate::error::RunError;
use crate::plan::{BackendKind, LinkPlan, RunPlan};
use crate::worker::{Assignment, Worker, WorkerResult, backend_config};
use dpdk_backend::backend::{PollBackend, PollConfig, SystemClock};
use dpdk_backend::device::SynFlood;
use dpdk_backend::ffi::{PortError, Queue};
use dpdk_backend::host::{Host, HostConfig, HostError};
use dpdk_backend::iface::AddressConfig;
use dpdk_backend::tcp::{EphemeralPorts, TcpConfig};
use netpoll::epoll::EpollBackend;
use netpoll::{BackendConfig, PoolSize};
use std::time::{Duration, Instant};

/// How long the link may take to come up: a memif client looks for its server every 100 ms or so.
const LINK_PATIENCE: Duration = Duration::from_secs(5);
/// The advice when the other end of the link does not answer.
const SERVER_FIRST: &str = "start the gateway first, with the other end of the link in [dpdk] devices: role=server, and the same id, \
                            socket and socket-abstract";
/// How long the last closes may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// The largest blocks whose number follows the connections, in bytes: sent bytes stay in them until
/// they are acknowledged.
const BLOCK_SIZE_OF_WAVES: u32 = 16 << 10;
/// At most so many bytes of such blocks of one size.
const BLOCKS_BYTES_MAX: u32 = 128 << 20;

/// Opens the host of `plan`; `None` where another backend was chosen.
///
/// # Errors
/// DPDK's error, with advice.
pub(super) fn open(plan: &RunPlan) -> Result<Option<Host>, RunError> {
    let (BackendKind::Dpdk, Some(link)) = (plan.machinery.backend, &plan.machinery.link) else {
        return Ok(None);
    };
    let duties = plan.duties();
    let [duty] = duties.as_slice() else {
        return Err(RunError::new(
            format!("{} workers on one queue", duties.len()),
            "with --backend dpdk there is one worker: leave --workers, --slow-connections and --churn-rate out",
        ));
    };
    let config = sizes(&backend_config(plan, duty));
    Host::open(host(plan, link), duties.len(), &config).map(Some).map_err(|error| explain(&error, link))
}

fn host(plan: &RunPlan, link: &LinkPlan) -> HostConfig {
    let sources = plan.endpoints.sources.iter();
    let address = |ip: &_| AddressConfig { ip: *ip, prefix_length: link.prefix_length };
    let mut config = HostConfig {
        idle_sleep_max: link.idle_sleep_max,
        ..HostConfig::on_virtual("loadtest", &link.device, plan.endpoints.server.ip(), link.prefix_length)
    };
    config.link.addresses = sources.map(address).collect();
    config.memory.huge_pages = link.huge_pages;
    config.devices.eal_args.clone_from(&link.eal_args);
    config
}

fn explain(error: &HostError, link: &LinkPlan) -> RunError {
    let device = &link.device;
    let advice = match error {
        HostError::Eal(_) if link.huge_pages => {
            "reserve huge pages (echo 512 > /proc/sys/vm/nr_hugepages), or leave --dpdk-huge-pages out; DPDK's own messages are above"
        }
        // A memif client that finds no socket does not start.
        HostError::Port(PortError::Step("starting", ..)) => SERVER_FIRST,
        HostError::Port(PortError::Memory(_)) => "free memory; DPDK's own messages are above",
        _ => {
            "give --dpdk-device as DPDK understands it, such as net_memif0,role=client,id=0,socket=/run/gateway/memif.sock,\
             socket-abstract=no"
        }
    };
    RunError::new(format!("no host on {device}: {error}"), advice)
}

/// Sizes of a worker's backend where sent bytes stay in its own blocks until they are acknowledged,
/// and not in a socket.
fn sizes(config: &BackendConfig) -> BackendConfig {
    let mut config = config.clone();
    let connections = config.connections_max.min(1 << 16) as u32;
    for block in config.pools.blocks.iter_mut().filter(|block| block.size <= BLOCK_SIZE_OF_WAVES) {
        block.count = block.count.max(connections.min(BLOCKS_BYTES_MAX / block.size));
    }
    config
}

/// The engine of a host that only connects, and that may close all connections at once.
fn engine(config: &BackendConfig) -> TcpConfig {
    let mut engine = PollConfig::engine(config);
    // Beyond them a close is a reset, and resets are limited per second: the server would keep the
    // rest.
    engine.tables.orphans_max = config.connections_max.max(64);
    engine.tables.active_max = config.connections_max + engine.tables.orphans_max;
    TcpConfig { ephemeral_ports: EphemeralPorts::ALL, ..engine }
}

/// Works on the host's queue until the end.
///
/// # Errors
/// The system's errors from making or using the backend; the link does not come up.
pub(super) fn work<P: Protocol>(protocol: P, to: Assignment) -> Result<WorkerResult, RunError> {
    let host = to.context.host.clone();
    let host = host
        .ok_or_else(|| RunError::new("no port was opened", "that is a bug in loadtest; please report it"))?;
    let broken = |error: std::io::Error| {
        RunError::new(
            format!("cannot make a backend on DPDK: {error}"),
            "lower --connections, or free memory",
        )
    };
    let _known_to_dpdk = host.enter().map_err(broken)?;
    let config = sizes(&backend_config(&to.plan, &to.duty));
    let (flood, seed) = (to.context.flood.clone(), u64::from(to.plan.run));
    let layer = |queue| SynFlood::new(queue, flood, seed);
    let mut link = host.backend_over(0, &config, engine(&config), layer).map_err(broken)?;
    wait_for_link(&mut link, &to)?;
    let connections = to.plan.machinery.http_connections as usize + 1;
    let mut pools = config.pools.clone();
    pools.receive = PoolSize { size: 4096, count: 256 };
    pools.blocks.iter_mut().for_each(|block| block.count = block.count.min(16));
    let kernel = BackendConfig { connections_max: connections, batch_max: 64, pools, ..config };
    let kernel = EpollBackend::new(&kernel).map_err(broken)?;
    let server = to.plan.endpoints.server.ip();
    let failed = |error| RunError::new(format!("a worker's backend failed: {error}"), "see dmesg; try again");
    let (result, both) =
        Worker::new(WithKernel::new(link, kernel, server), protocol, to).run().map_err(failed)?;
    both.into_link().linger(GOODBYE_MAX).map_err(failed)?;
    Ok(result)
}

fn wait_for_link(
    link: &mut PollBackend<SynFlood<Queue>, SystemClock>,
    to: &Assignment,
) -> Result<(), RunError> {
    let since = Instant::now();
    while !link.device().inner().link_is_up() {
        if since.elapsed() > LINK_PATIENCE {
            let device = to.plan.machinery.link.as_ref().map_or("", |link| link.device.as_str());
            return Err(RunError::new(format!("the link of {device} does not come up"), SERVER_FIRST));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
