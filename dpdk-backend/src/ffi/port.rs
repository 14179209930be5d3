//! A running port: its facts, its link, and its end with its last queue.

use super::eal::error_text;
use super::pool::{Pool, ReceivePool};
use crate::device::Capabilities;
use crate::wire::Mac;
use dpdk_sys as sys;
use rustix::net::{AddressFamily, SocketType};
use std::ffi::CStr;
use std::fmt;
use std::sync::{Arc, Weak};

/// The facts of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Name of its driver.
    pub driver: String,
    /// The address of the host behind it.
    pub mac: Mac,
    /// The number of its queues.
    pub queues: u16,
    /// What it supports.
    pub capabilities: Capabilities,
    /// Whether it verifies checksums of received frames.
    pub receive_checksums: bool,
    /// Whether it spreads flows by a hash.
    pub spreads: bool,
    /// Mbit/s, if the driver reports it; `None` while the link is down.
    pub link_speed: Option<u32>,
    /// The kernel's interface behind it, if there is one.
    pub interface: Option<String>,
}

/// The link of a port, for any thread.
#[derive(Clone, Debug)]
pub struct LinkWatch {
    pub(super) port: Weak<Port>,
}

impl LinkWatch {
    /// Whether the link is up; false after the port is closed.
    pub fn is_up(&self) -> bool {
        // The port is held meanwhile: its number may be reused after it is closed.
        let Some(port) = self.port.upgrade() else { return false };
        link_speed(port.number, "").is_some()
    }
}

/// The reason that a port can not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortError {
    /// There is no such port; these exist.
    Missing(String, Vec<String>),
    /// It has fewer queues than requested.
    Queues(String, u16, u16),
    /// Its frames have other sizes.
    Mtu(String, u16, u16, u16),
    /// There is no memory for this many buffers.
    Memory(String),
    /// A step of its configuration failed.
    Step(&'static str, String, String),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::Missing(name, found) if found.is_empty() => write!(
                f,
                "DPDK has no port {name}, nor any other: name the device in dpdk.devices, and have a card bound to vfio-pci \
                 (`gateway dpdk-check` says how)"
            ),
            PortError::Missing(name, found) => {
                write!(
                    f,
                    "DPDK has no port {name}; there are {}: write one of them as dpdk.port",
                    found.join(", ")
                )
            }
            PortError::Queues(name, wanted, most) => {
                write!(
                    f,
                    "{name} has {most} queues and each worker needs one: write io.workers = {most} instead of {wanted}"
                )
            }
            PortError::Mtu(name, wanted, min, max) => {
                write!(
                    f,
                    "{name} takes an MTU from {min} to {max}: write dpdk.mtu in that range, not {wanted}"
                )
            }
            PortError::Memory(why) => write!(
                f,
                "no packet buffers ({why}): give DPDK more memory with dpdk.memory_mb, or lower memory.receive_buffers_per_worker, \
                 dpdk.receive_descriptors or io.workers"
            ),
            PortError::Step(step, name, why) => {
                write!(f, "{step} of {name} fails: {why}; DPDK's own messages are above")
            }
        }
    }
}

impl std::error::Error for PortError {}

/// A running port.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) started: bool,
    /// The pools that the card uses until the port is closed.
    pub(super) pools: Vec<(Arc<ReceivePool>, Arc<Pool>)>,
}

impl Drop for Port {
    fn drop(&mut self) {
        if self.started {
            // SAFETY: nothing polls it: all queues, which held it, are gone.
            unsafe { sys::rte_eth_dev_stop(self.number) };
        }
        // SAFETY: as above; the pools are still there.
        unsafe { sys::rte_eth_dev_close(self.number) };
        self.pools.clear();
    }
}

/// The driver's information about a port.
pub(super) fn info(number: u16, device: &str) -> Result<sys::shim_port_info, PortError> {
    let mut info = sys::shim_port_info::default();
    // SAFETY: the whole structure is written.
    let result = unsafe { sys::shim_port_info(number, &raw mut info) };
    let failed = || PortError::Step("asking for facts", device.to_owned(), error_text(result));
    if result == 0 { Ok(info) } else { Err(failed()) }
}

/// Mbit/s, if the driver reports it; `None` while the link is down.
pub(super) fn link_speed(number: u16, device: &str) -> Option<u32> {
    info(number, device).ok().filter(|info| info.link_up != 0).map(|info| info.link_speed)
}

/// The names of all ports.
pub(super) fn names() -> Vec<String> {
    let name = |number: u16| {
        let mut text = [0; 64];
        // SAFETY: the longest name of a port has 64 bytes, its end included.
        let result = unsafe { sys::rte_eth_dev_get_name_by_port(number, text.as_mut_ptr()) };
        // SAFETY: a C string was written, or nothing into zeros.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) };
        (result == 0).then(|| text.to_string_lossy().into_owned())
    };
    (0..32).filter_map(name).collect()
}

/// The name of the kernel's interface with this number, in the network namespace of this thread
/// (netdevice(7)); 0 is none. `/sys/class/net` would show the namespace in which it was mounted.
pub(super) fn interface_name(number: u32) -> Option<String> {
    let number = Some(number).filter(|number| *number > 0)?;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::index_to_name(socket, number).ok()
}
