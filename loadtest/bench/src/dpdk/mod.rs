//! Past the kernel: a server and the generator on the two ends of a link in shared memory (DPDK's
//! memif).
//!
//! ```text
//!   bench (core 1)                                    bench-server (core 0), one at a time
//!   Fleet over PollBackend  ── our TCP ──┐       ┌──► gateway-dpdk: a worker on a PollBackend
//!   Fleet over Frames ── bare frames ────┴─ memif ┴─► floor-dpdk: each frame sent back, or to all
//!        ▲                                             │
//!        └── busy time, frames ◄── pipes ── TallyServer ◄───┘
//! ```
//!
//! Both ends poll, so their cost is the time in which they had something to do ([`crate::tally`]).

mod floor;
mod frames;
mod wire;

pub use floor::serve as serve_floor;
pub use frames::Frames;

use crate::client::{BATCH, Fleet, Problem};
use crate::servers::gateway;
use crate::tally::tally_server::TallyServer;
use crate::tally::{Resent, Tally};
use ::gateway_config::BackendKind;
use dpdk_backend::backend::PollConfig;
use dpdk_backend::ffi::{Eal, Queue, WorkerThread};
use dpdk_backend::host::{Host, HostBackend, HostConfig};
use dpdk_backend::tcp::{EphemeralPorts, TcpConfig};
use netpoll::{BackendConfig, PoolSize, PoolsConfig};
use std::cell::OnceCell;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whether this build has the rows past the kernel.
pub const IS_HERE: bool = true;
/// The server's address on the link.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The generator's.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const PREFIX_LENGTH: u8 = 16;
/// The port of the gateway's listener.
const LISTENER: u16 = 3101;
/// Neither end ever sleeps: a processor that is given away comes back with a delay, which would be
/// counted as busy time.
const IDLE_SLEEP_MAX: Duration = Duration::ZERO;
/// Receive buffers of each end: four times what the link's ring holds.
const RECEIVE_BUFFERS: u32 = 4096;
/// How long the link may take to come up: a memif client looks for its server every 100 ms or so.
const LINK_WITHIN: Duration = Duration::from_secs(5);

/// The gateway's configuration on the link, in addition to what all rows have; as many receive
/// buffers as the floor has.
const ON_LINK: &str = r#"
backend = "dpdk"
[[listener]]
name = "tcp"
kind = "tcp"
address = "0.0.0.0:3101"
[dpdk]
devices = ["net_memif0"]
addresses = ["10.77.0.2/16"]
[memory]
receive_buffers_per_worker = 4096
"#;

/// A link to be made; its socket is removed with it.
#[derive(Debug)]
pub struct Link(PathBuf);

impl Link {
    /// A link with a fresh socket.
    pub fn new() -> Link {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Link(std::env::temp_dir().join(format!("bench-{}-{number}.sock", std::process::id())))
    }

    /// Where both ends meet.
    pub fn socket(&self) -> &Path {
        &self.0
    }
}

impl Default for Link {
    fn default() -> Link {
        Link::new()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // a server that did not start has made none
    }
}

fn host(program: &'static str, role: &str, socket: &Path, ip: Ipv4Addr) -> HostConfig {
    let device = format!("net_memif0,role={role},id=0,socket={},socket-abstract=no", socket.display());
    HostConfig {
        idle_sleep_max: IDLE_SLEEP_MAX,
        ..HostConfig::on_virtual(program, &device, ip.into(), PREFIX_LENGTH)
    }
}

/// The server's end, before any other thread.
fn serving(socket: &Path, sizes: &BackendConfig) -> io::Result<Host> {
    Host::open(host("bench-server", "server", socket, SERVER), 1, sizes).map_err(io::Error::other)
}

/// Serves the gateway, on the server's end of the link at `socket`, until killed.
///
/// # Errors
/// DPDK's errors, or those of the configuration.
pub fn serve_gateway(socket: &Path) -> io::Result<()> {
    let (settings, sizes) = gateway::planned(BackendKind::Dpdk, ON_LINK)?;
    let host = serving(socket, &sizes)?;
    let _known_to_dpdk = host.enter()?;
    let backend = host.backend(0, &sizes, PollConfig::engine(&sizes))?;
    let tally_server = TallyServer::start()?;
    gateway::serve(settings, backend, |backend: &mut HostBackend| {
        let counters = backend.stack().counters();
        let resent = Resent { segments: counters.retransmits, probes: counters.tail_loss_probes };
        tally_server.publish(Tally {
            busy: backend.busy(),
            frames: backend.frame_count(),
            resent: Some(resent),
        });
    })
}

/// The generator's end of `link`. DPDK is started once, and the port opened anew for each run.
fn generating(link: &Link, sizes: &BackendConfig) -> Result<Host, Problem> {
    thread_local! {
        /// This thread is known to DPDK from its first link on.
        static KNOWN: OnceCell<WorkerThread> = const { OnceCell::new() };
    }
    let config = host("bench", "client", link.socket(), CLIENT);
    let receive_buffers = sizes.pools.receive.count;
    let mut started = config.clone();
    started.devices.virtual_devices.clear();
    let arguments = started.arguments(1, receive_buffers);
    let eal = Eal::start(&arguments).map_err(|error| Problem::of("the generator", error))?;
    let host = Host::over(eal, config, 1, sizes).map_err(|error| Problem::of("the generator", error))?;
    KNOWN.with(|known| match known.get() {
        Some(_) => Ok(host),
        None => known.set(host.enter()?).map_or(Err(Problem("entered twice".into())), |()| Ok(host)),
    })
}

fn wait_for(queue: &Queue) -> Result<(), Problem> {
    let since = Instant::now();
    while !queue.link_is_up() {
        if since.elapsed() > LINK_WITHIN {
            return Err(Problem("the link to the server does not come up".into()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Sizes of the generator: what a connection has sent stays in its blocks until it is acknowledged.
fn sizes(count: usize) -> BackendConfig {
    let each = count as u32 + 1024;
    BackendConfig {
        connections_max: count + 8,
        batch_max: BATCH,
        pools: PoolsConfig {
            receive: PoolSize { size: 2048, count: RECEIVE_BUFFERS },
            blocks: vec![
                PoolSize { size: 512, count: each },
                PoolSize { size: 2048, count: each },
                PoolSize { size: 32 << 10, count: 256 },
            ],
            huge_pages: false,
        },
        send_pieces_shared: 4 * count + 1024,
        send_queue_bytes_max: 1 << 20,
        copy_break: 0,
        idle_demote: None,
    }
}

/// `count` connections on our TCP, over `link`, with the server running.
///
/// # Errors
/// DPDK's errors; the link does not come up.
pub fn over_engine(link: &Link, count: usize) -> Result<Fleet<HostBackend>, Problem> {
    let sizes = sizes(count);
    let host = generating(link, &sizes)?;
    let engine = TcpConfig { ephemeral_ports: EphemeralPorts::ALL, ..PollConfig::engine(&sizes) };
    let mut backend = host.backend(0, &sizes, engine)?;
    wait_for(backend.device().inner())?;
    Ok(Fleet::over(backend, vec![CLIENT], count))
}

/// `count` hardware addresses that exchange frames with a bare floor over `link`, with the server
/// running.
///
/// # Errors
/// DPDK's errors; the link does not come up.
pub fn over_frames(link: &Link, count: usize) -> Result<Fleet<Frames>, Problem> {
    let sizes = sizes(count);
    let host = generating(link, &sizes)?;
    let queue = host.queue(0).ok_or_else(|| Problem("the port has no queue".into()))?;
    wait_for(&queue)?;
    Ok(Fleet::over(Frames::new(queue, &sizes.pools, IDLE_SLEEP_MAX)?, vec![], count))
}
