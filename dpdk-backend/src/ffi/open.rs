//! Opens a port: finds it by name, configures and starts it.

use super::eal::{Eal, error_text};
use super::pool::{Pool, ReceivePool};
use super::port::{LinkWatch, Port, PortError, PortFacts, info, interface_name, link_speed, names};
use super::queue::{PENDING, Queue, QueueParts};
use crate::device::{Capabilities, RECEIVE_RESERVE, siblings};
use crate::wire::{Mac, ethernet};
use dpdk_sys as sys;
use std::ffi::CString;
use std::sync::Arc;

/// Payload of the largest frame that a port is given to cut into segments, in bytes.
const SEGMENTATION_MAX: u32 = 60_000;
/// Bytes of a key for spreading flows: most cards take 40, some 52.
const RSS_KEY_SIZE: usize = 52;
/// A driver with an interface in the kernel that has the port's hardware address: the host behind
/// the port needs another.
const TAP: &str = "net_tap";

/// The work that is left to the card if it supports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// Checksums and segmentation.
    All,
    /// Checksums.
    Checksums,
    /// Nothing.
    None,
}

/// The configuration of a port.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its device, as DPDK names it: `0000:03:00.0`, `net_tap0`.
    pub device: String,
    /// Pairs of queues: one per worker.
    pub queues: u16,
    /// Receive descriptors of a queue. The card may change the number.
    pub receive_descriptors: u16,
    /// Transmit descriptors of a queue.
    pub transmit_descriptors: u16,
    /// Receive buffers of a queue that its owner may hold.
    pub receive_buffers: u32,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// The work that is left to the card.
    pub offloads: Offloads,
    /// The key by which the card spreads flows: random, so that an attacker can not choose a queue.
    pub rss_key: [u8; RSS_KEY_SIZE],
}

/// Bytes of the receive and of the transmit buffers.
fn rooms(mtu: u16) -> (u32, u32) {
    let room = (u32::from(mtu) + ethernet::HEADER_SIZE as u32 + 4).next_multiple_of(64);
    (room, room.max(2048))
}

impl PortConfig {
    /// A port with one queue and 512 descriptors in each direction.
    pub fn new(device: &str, mtu: u16) -> PortConfig {
        PortConfig {
            device: device.to_owned(),
            queues: 1,
            receive_descriptors: 512,
            transmit_descriptors: 512,
            receive_buffers: 1024,
            mtu,
            offloads: Offloads::All,
            rss_key: [0; RSS_KEY_SIZE],
        }
    }

    /// Bytes of DPDK's memory for the buffers of one queue: receive, then transmit.
    pub fn queue_memory(&self) -> [usize; 2] {
        let (receive, transmit) = rooms(self.mtu);
        [
            Pool::bytes(self.held() + u32::from(self.receive_descriptors), receive),
            Pool::bytes(u32::from(self.transmit_descriptors) + 2 * PENDING as u32, transmit),
        ]
    }

    /// Opens the port and starts it. Each queue goes to its worker's thread.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn open(&self, eal: Eal) -> Result<(Vec<Queue>, PortFacts), PortError> {
        self.open_watched(eal).map(|(queues, facts, _)| (queues, facts))
    }

    /// The same, with the port's link for other threads.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn open_watched(&self, eal: Eal) -> Result<(Vec<Queue>, PortFacts, LinkWatch), PortError> {
        let number = self.find()?;
        let mut port = Port { number, started: false, pools: Vec::with_capacity(usize::from(self.queues)) };
        let info = info(number, &self.device)?;
        let facts = self.facts(&info)?;
        self.configure(number, &info, &facts)?;
        let (mut rx, mut tx) = (self.receive_descriptors, self.transmit_descriptors);
        // SAFETY: both numbers are read and written.
        let result = unsafe { sys::shim_port_descriptors(number, &raw mut rx, &raw mut tx) };
        self.check("asking for descriptors", result)?;
        let (receive_room, transmit_room) = rooms(self.mtu);
        let mut memories = Vec::with_capacity(usize::from(self.queues));
        for queue in 0..self.queues {
            let (receive, memory) =
                ReceivePool::new(eal, self.held(), u32::from(rx), receive_room).map_err(PortError::Memory)?;
            let transmit = Pool::new(eal, u32::from(tx) + 2 * PENDING as u32, transmit_room)
                .map_err(PortError::Memory)?;
            // SAFETY: the port is configured for this many queues and not started; the pool lives
            // as long as the port.
            let result = unsafe { sys::shim_queue_setup(number, queue, rx, tx, receive.pool.raw()) };
            port.pools.push((receive, Arc::new(transmit)));
            self.check("making a queue", result)?;
            memories.push(memory);
        }
        // SAFETY: all its queues are set up.
        self.check("starting", unsafe { sys::rte_eth_dev_start(number) })?;
        port.started = true;
        // Neighbors are found by groups (RFC 4861, 7.2.1). A driver that can't filter groups
        // receives all of them anyway.
        // SAFETY: the port runs.
        unsafe { sys::rte_eth_allmulticast_enable(number) };
        let port = Arc::new(port);
        let watch = LinkWatch { port: Arc::downgrade(&port) };
        let siblings = siblings(usize::from(self.queues));
        let queues = memories.into_iter().zip(siblings).enumerate().map(|(index, (memory, sibling))| {
            let (receive, transmit) = &port.pools[index];
            let (receive, transmit) = (Arc::clone(receive), Arc::clone(transmit));
            let (port, capabilities) = (Arc::clone(&port), facts.capabilities);
            Queue::new(QueueParts {
                port,
                number: index as u16,
                receive,
                transmit,
                memory,
                capabilities,
                sibling,
            })
        });
        let facts = PortFacts { link_speed: link_speed(number, &self.device), ..facts };
        Ok((queues.collect(), facts, watch))
    }

    /// Receive buffers of the stack: those that its owner may hold, and its own reserve.
    fn held(&self) -> u32 {
        self.receive_buffers + RECEIVE_RESERVE
    }

    fn check(&self, step: &'static str, result: i32) -> Result<(), PortError> {
        if result == 0 { Ok(()) } else { Err(PortError::Step(step, self.device.clone(), error_text(result))) }
    }

    /// Whether DPDK has such a port.
    pub fn is_there(&self, _eal: Eal) -> bool {
        self.number().is_some()
    }

    fn find(&self) -> Result<u16, PortError> {
        self.number().ok_or_else(|| PortError::Missing(self.device.clone(), names()))
    }

    fn number(&self) -> Option<u16> {
        let mut number = 0;
        let name = CString::new(self.device.as_str()).ok()?;
        // SAFETY: the name is a C string; the number is written.
        let result = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut number) };
        (result == 0).then_some(number)
    }

    fn facts(&self, info: &sys::shim_port_info) -> Result<PortFacts, PortError> {
        if info.queues_max < self.queues {
            return Err(PortError::Queues(self.device.clone(), self.queues, info.queues_max));
        }
        if self.mtu < info.mtu_min || self.mtu > info.mtu_max {
            return Err(PortError::Mtu(self.device.clone(), self.mtu, info.mtu_min, info.mtu_max));
        }
        let driver: String =
            info.driver.iter().take_while(|one| **one != 0).map(|one| *one as u8 as char).collect();
        let checksums = self.offloads != Offloads::None;
        // TAP devices cut segments in software, which gains nothing, and only IPv4. On a second
        // queue they stop sending.
        let can_cut = info.tx_segmentation != 0 && info.tx_checksums != 0 && driver != TAP;
        let cuts = self.offloads == Offloads::All && can_cut;
        let mut mac = Mac(info.mac);
        if driver == TAP {
            mac.0[0] |= 2;
            mac.0[5] ^= 1;
        }
        Ok(PortFacts {
            driver,
            mac,
            queues: self.queues,
            capabilities: Capabilities {
                transmit_checksums: checksums && info.tx_checksums != 0,
                segmentation_max: if cuts { SEGMENTATION_MAX } else { 0 },
            },
            receive_checksums: checksums && info.rx_checksums != 0,
            spreads: self.queues > 1 && info.rss != 0,
            link_speed: None,
            interface: interface_name(info.interface),
        })
    }

    fn configure(&self, number: u16, info: &sys::shim_port_info, facts: &PortFacts) -> Result<(), PortError> {
        let mut key = self.rss_key;
        let key_size = info.rss_key_size.min(RSS_KEY_SIZE as u8);
        let setup = sys::shim_port_setup {
            queues: self.queues,
            mtu: self.mtu,
            rx_checksums: facts.receive_checksums.into(),
            tx_checksums: facts.capabilities.transmit_checksums.into(),
            tx_segments: u8::from(facts.capabilities.segmentation_max > 0),
            tx_segmentation: u8::from(facts.capabilities.segmentation_max > 0),
            rss_key: if facts.spreads { key.as_mut_ptr() } else { std::ptr::null_mut() },
            rss_key_size: if key_size < 40 { 0 } else { key_size },
        };
        // SAFETY: the set-up and its key live during the call, which copies them; the port is not
        // started.
        self.check("configuring", unsafe { sys::shim_port_configure(number, &raw const setup) })?;
        // Drivers without an MTU of their own refuse; then the configuration's holds.
        // SAFETY: the port is configured.
        unsafe { sys::rte_eth_dev_set_mtu(number, self.mtu) };
        Ok(())
    }
}
