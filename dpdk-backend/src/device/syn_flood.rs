//! An attacker on the line: connection requests from unused addresses, in addition to the host's
//! own frames. For load generators, and for tests that measure the effect of a flood on other
//! connections.
//!
//! The target is taken from the host's own traffic: the Ethernet destination, the address and the
//! port of the first TCP segment that it sends. Sources are drawn from 100.64.0.0/10 (RFC 6598),
//! with random ports and sequence numbers. The answers go to the host's hardware address, because
//! the target answers the frame. The host's stack drops them as packets for another host.

use super::seam::{Capabilities, Device, DeviceFull, Frame, Received};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Flags, HEADER_SIZE_MAX, Options, Tcp};
use crate::wire::{Ip, Mac};
use netpoll::{BufferPools, LentMemory, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Requests of one burst at most, so that the host's own frames are not delayed.
const BURST: u64 = 32;
/// The first source, and the number of sources.
const SOURCE_FIRST: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const SOURCES: u32 = 1 << 22;
/// Frames of every flood: Ethernet, IPv4, TCP with an MSS.
const FRAME_SIZE_MAX: usize = ethernet::HEADER_SIZE + ipv4::HEADER_SIZE + HEADER_SIZE_MAX;

/// The control of a flood from another thread, and its counter.
#[derive(Debug, Default)]
pub struct FloodSwitch {
    per_second: AtomicU32,
    sent: AtomicU64,
}

impl FloodSwitch {
    /// As many requests as the device takes.
    pub const UNLIMITED: u32 = u32::MAX;

    /// Requests a second from now on; 0: none.
    pub fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Relaxed);
    }

    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

/// The target of a flood, and the hardware address that it comes from.
#[derive(Clone, Copy, Debug)]
struct Target {
    link: Ethernet,
    ip: [u8; 4],
    port: u16,
}

/// A device that sends a flood in addition to its own frames.
#[derive(Debug)]
pub struct SynFlood<D> {
    inner: D,
    switch: Arc<FloodSwitch>,
    target: Option<Target>,
    random: u64,
    /// The start of the current rate, the rate, and the requests sent since.
    since: Option<(Timestamp, u32, u64)>,
}

impl<D> SynFlood<D> {
    /// Over `inner`, with choices from `seed`.
    pub fn new(inner: D, switch: Arc<FloodSwitch>, seed: u64) -> SynFlood<D> {
        SynFlood { inner, switch, target: None, random: seed, since: None }
    }

    /// The device itself.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Requests that are due at `now`.
    fn due(&mut self, now: Timestamp) -> u64 {
        let rate = self.switch.per_second.load(Relaxed);
        if rate == 0 {
            self.since = None;
            return 0;
        }
        if rate == FloodSwitch::UNLIMITED {
            return BURST;
        }
        let (since, with, left) = self.since.filter(|(_, with, _)| *with == rate).unwrap_or((now, rate, 0));
        self.since = Some((since, with, left));
        let wanted = u128::from(now.since(since).as_nanos() as u64) * u128::from(rate) / 1_000_000_000;
        (wanted as u64).saturating_sub(left).min(BURST)
    }

    fn request(&mut self, target: &Target, out: &mut [u8; FRAME_SIZE_MAX]) -> usize {
        let (first, second) = (self.draw(), self.draw());
        let source = (SOURCE_FIRST + (first as u32 & (SOURCES - 1))).to_be_bytes();
        let header = Tcp {
            source_port: (first >> 32) as u16 | 1024,
            destination_port: target.port,
            sequence: second as u32,
            acknowledgement: 0,
            flags: Flags::SYN,
            window: u16::MAX,
            header_size: 0,
            options: Options { mss: Some(1460), ..Options::default() },
        };
        target.link.emit(out);
        let (_, packet) = out.split_at_mut(ethernet::HEADER_SIZE);
        let (ip, segment) = packet.split_at_mut(ipv4::HEADER_SIZE);
        let size = header.emit(segment);
        let packet = Ipv4 {
            source,
            destination: target.ip,
            protocol: ipv4::TCP,
            hop_limit: 64,
            payload_size: size as u16,
            header_size: ipv4::HEADER_SIZE as u8,
            is_fragment: false,
        };
        packet.emit(ip);
        let pseudo = Sum::ZERO.pseudo_header(Ip::from_v4(source), Ip::from_v4(target.ip), ipv4::TCP, size);
        if let Ok(mut segment) = tcp::Packet::new_checked(&mut segment[..size]) {
            segment.fill_checksum(pseudo);
        }
        ethernet::HEADER_SIZE + ipv4::HEADER_SIZE + size
    }
}

/// The target of a frame, if it is a TCP segment over IPv4.
fn target_of(frame: &Frame<'_>) -> Option<Target> {
    let link = Ethernet::parse(frame.header).ok()?;
    let packet = frame.header.get(ethernet::HEADER_SIZE..).filter(|_| link.ether_type == ethernet::IPV4)?;
    // The headers are in one piece, the payload may not be: the packet's own length is not looked
    // at.
    let packet = ipv4::Packet::new_checked(packet).ok()?;
    let is_tcp = packet.protocol() == ipv4::TCP && link.destination != Mac::BROADCAST;
    let port = tcp::Quote::parse(packet.payload()).ok()?.destination_port;
    is_tcp.then_some(Target { link, ip: packet.destination(), port })
}

impl<D: Device> Device for SynFlood<D> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive_memory(&mut self) -> Option<LentMemory> {
        self.inner.receive_memory()
    }

    fn receive_burst(&mut self, now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        self.inner.receive_burst(now, pools, frames);
    }

    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        if self.target.is_none() {
            self.target = target_of(frame);
        }
        self.inner.transmit(now, frame)
    }

    fn transmit_burst(&mut self, now: Timestamp) {
        self.inner.transmit_burst(now);
        let due = self.due(now);
        let Some(target) = self.target.filter(|_| due > 0) else { return };
        let mut sent = 0;
        for _ in 0..due {
            let mut bytes = [0; FRAME_SIZE_MAX];
            let size = self.request(&target, &mut bytes);
            if self.inner.transmit(now, &Frame::whole(&bytes[..size])).is_err() {
                break;
            }
            sent += 1;
        }
        if let Some((_, _, left)) = &mut self.since {
            *left += sent;
        }
        self.switch.sent.fetch_add(sent, Relaxed);
        self.inner.transmit_burst(now);
    }

    fn counters(&mut self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.inner.counters(tell);
    }

    fn next_arrival(&self) -> Option<Timestamp> {
        self.inner.next_arrival()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loopback;
    use super::*;
    use crate::wire::checksum;
    use netpoll::{BackendConfig, BufferPools};
    use std::time::Duration;

    #[test]
    fn requests_are_sound_and_come_at_their_rate() {
        let (line, mut other) = Loopback::pair(256);
        let switch = Arc::new(FloodSwitch::default());
        let mut flood = SynFlood::new(line, switch.clone(), 7);
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let mut frames = Vec::with_capacity(256);
        let mut own = [0; FRAME_SIZE_MAX];
        let target = Target {
            link: Ethernet { destination: Mac([2; 6]), source: Mac([4; 6]), ether_type: ethernet::IPV4 },
            ip: [10, 0, 0, 2],
            port: 3101,
        };
        let size = flood.request(&target, &mut own);
        let start = Timestamp::from_nanos(1_000_000);
        switch.set(1000);
        flood.transmit_burst(start);
        assert_eq!(switch.sent(), 0, "no target is known yet");
        flood.transmit(start, &Frame::whole(&own[..size])).unwrap();
        for step in 1..=100 {
            flood.transmit_burst(start + Duration::from_millis(step));
        }
        assert_eq!(switch.sent(), 100);
        switch.set(0);
        flood.transmit_burst(start + Duration::from_secs(1));
        other.receive_burst(start + Duration::from_secs(1), &mut pools, &mut frames);
        assert_eq!(frames.len(), 101);
        for frame in &frames[1..] {
            let bytes = frame.buffer.as_slice();
            let packet = &bytes[ethernet::HEADER_SIZE..];
            let ip = Ipv4::parse(packet).unwrap();
            assert!(ip.destination == [10, 0, 0, 2] && ip.source[0] == 100 && ip.source[1] & 0xc0 == 64);
            let segment = &packet[ipv4::HEADER_SIZE..][..usize::from(ip.payload_size)];
            let (from, to) = (Ip::from_v4(ip.source), Ip::from_v4(ip.destination));
            assert!(checksum::is_correct(
                Sum::ZERO.pseudo_header(from, to, ipv4::TCP, segment.len()),
                segment
            ));
            let header = Tcp::parse(segment).unwrap();
            assert!(header.flags.has(Flags::SYN) && header.destination_port == 3101);
        }
    }
}
