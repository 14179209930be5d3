//! Interface and TCP together: frames in, frames out, events for the owner.

mod send;

use crate::counters::Counters;
use crate::device::{BURST, Device, Received};
use crate::iface::{IcmpPacket, Interface, InterfaceConfig};
use crate::tcp::{ConnectFailure, Context, Limits, Line, Report, Segment, Tcp, TcpConfig};
use crate::time::Now;
use crate::wire::checksum::{self, Sum};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::flow::Tuple;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::Ipv6;
use crate::wire::{Ip, Mac, WireError, tcp};
use netpoll::{
    Buffer, BufferPools, Completion, ConnectionId, LentMemory, PoolsConfig, SharedBuffer, Timestamp,
};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// An event for the owner: a completion of netpoll.
pub type Event = Completion;

/// The configuration of a stack.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The host on its link.
    pub interface: InterfaceConfig,
    /// The engine.
    pub tcp: TcpConfig,
    /// Buffers. A receive buffer holds a whole frame.
    pub pools: PoolsConfig,
    /// Receive buffers that the owner never gets, so that acknowledgements are received while it
    /// holds all others.
    pub receive_reserve: u32,
}

/// A validated IP packet, and its place in the frame.
#[derive(Clone, Copy, Debug)]
struct Packet {
    source: Ip,
    destination: Ip,
    mac: Mac,
    protocol: u8,
    hop_limit: u8,
    /// Offsets of the IP header and of the upper layer in the frame.
    ip_at: usize,
    at: usize,
    size: usize,
    is_verified: bool,
}

/// One worker's host: see the crate's documentation.
#[derive(Debug)]
pub struct Stack {
    net: Interface,
    tcp: Tcp,
    pools: BufferPools,
    counters: Counters,
    reserve: u32,
    /// The TCP segments of a burst. Empty between two bursts.
    burst: Vec<(Segment, Buffer)>,
}

impl Stack {
    /// Reserves everything that `config` names. `secret` comes from the system's random source and
    /// is never published.
    ///
    /// # Errors
    /// Those of `mmap(2)`. `InvalidInput` for contradictory pools, more than 255 addresses, or
    /// receive buffers smaller than a frame.
    pub fn new(config: &StackConfig, secret: [u64; 2], now: Timestamp) -> io::Result<Stack> {
        Stack::over(config, None, secret, now)
    }

    /// The same with receive buffers in the device's `memory`, if it has any. What that memory
    /// always keeps is reserved, too.
    ///
    /// # Errors
    /// Those of [`Stack::new`].
    pub fn over(
        config: &StackConfig,
        memory: Option<LentMemory>,
        secret: [u64; 2],
        now: Timestamp,
    ) -> io::Result<Stack> {
        let frame_size = usize::from(config.interface.mtu) + ethernet::HEADER_SIZE;
        let receive_size = memory.as_ref().map_or(config.pools.receive.size, LentMemory::size);
        if config.interface.addresses.len() > 255 || (receive_size as usize) < frame_size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a receive buffer holds a whole frame, and an interface has 255 addresses at most",
            ));
        }
        let reserve = config.receive_reserve + memory.as_ref().map_or(0, LentMemory::reserve);
        let pools = match memory {
            Some(memory) => BufferPools::over(&config.pools, memory),
            None => BufferPools::new(&config.pools),
        };
        let mut pools = pools?;
        pools.reserve_receive(config.receive_reserve);
        let headers_size = (ipv4::HEADER_SIZE + tcp::HEADER_SIZE) as u32;
        let payload =
            (u32::from(config.interface.mtu) - headers_size).min(u32::from(config.tcp.connection.mss_max));
        Ok(Stack {
            net: Interface::new(&config.interface, secret[0] ^ secret[1].rotate_left(17), Now::new(now)),
            tcp: Tcp::new(config.tcp.clone(), secret, payload),
            pools,
            counters: Counters::default(),
            reserve,
            burst: Vec::with_capacity(BURST),
        })
    }

    fn context(&mut self, now: Timestamp) -> (&mut Tcp, Context<'_>) {
        let context = Context {
            net: &mut self.net,
            pools: &mut self.pools,
            counters: &mut self.counters,
            now: Now::new(now),
        };
        (&mut self.tcp, context)
    }

    // --- frames in ---

    /// Handles one received frame.
    pub fn handle_frame(&mut self, now: Timestamp, frame: Received) {
        self.refresh_budget(1);
        if let Some((segment, buffer)) = self.classify(now, frame) {
            self.handle_segment(now, &segment, buffer);
        }
    }

    /// Handles received frames, and leaves the vector empty. All are parsed and hashed, then their
    /// cache lines are touched, then they are processed: the cache misses of a burst overlap.
    pub fn handle_burst(&mut self, now: Timestamp, frames: &mut Vec<Received>) {
        self.refresh_budget(frames.len());
        let mut burst = std::mem::take(&mut self.burst);
        while !frames.is_empty() {
            let count = frames.len().min(BURST);
            burst.extend(frames.drain(..count).filter_map(|frame| self.classify(now, frame)));
            let mut touched = 0_u32;
            for (segment, _) in &burst {
                touched ^= self.tcp.touch(segment.hash);
            }
            std::hint::black_box(touched);
            for (segment, buffer) in burst.drain(..) {
                self.handle_segment(now, &segment, buffer);
            }
        }
        self.burst = burst;
    }

    /// Whether frames may be handled: all events that one frame can cause have room.
    pub fn has_room(&self) -> bool {
        self.tcp.has_report_room()
    }

    /// Updates the budget of receive buffers: those that are free, and the `in_hand` frames that
    /// are about to be handled.
    fn refresh_budget(&mut self, in_hand: usize) {
        let free = self.pools.receive_level().free + in_hand as u32;
        self.tcp.set_budget(free.saturating_sub(self.reserve));
    }

    fn handle_segment(&mut self, now: Timestamp, segment: &Segment, buffer: Buffer) {
        let (tcp, mut context) = self.context(now);
        tcp.handle(&mut context, segment, buffer);
    }

    /// Handles everything but TCP, and returns the parsed segment of a TCP frame.
    fn classify(&mut self, now: Timestamp, frame: Received) -> Option<(Segment, Buffer)> {
        self.counters.frames_received += 1;
        let bytes = frame.buffer.as_slice();
        let Ok(header) = Ethernet::parse(bytes) else {
            self.counters.drop_short_frame += 1;
            return None;
        };
        let is_for_us = header.destination == self.net.mac || header.destination.is_multicast();
        if !is_for_us || header.source.is_multicast() {
            self.counters.drop_other_mac += 1;
            return None;
        }
        let rest = &bytes[ethernet::HEADER_SIZE..];
        let packet = match header.ether_type {
            ethernet::ARP => {
                self.net.handle_arp(&mut self.counters, Now::new(now), rest);
                return None;
            }
            ethernet::IPV4 => parse_v4(rest),
            ethernet::IPV6 => parse_v6(rest),
            _ => {
                self.counters.drop_ether_type += 1;
                return None;
            }
        };
        match packet {
            Ok(packet) => {
                let packet = Packet { mac: header.source, is_verified: frame.checksums_verified, ..packet };
                self.demultiplex(now, packet, frame.buffer)
            }
            Err(error) => {
                let counters = &mut self.counters;
                *match error {
                    WireError::BadChecksum => &mut counters.drop_ip_checksum,
                    WireError::Fragment => &mut counters.drop_fragment,
                    WireError::Unsupported => &mut counters.drop_extension,
                    WireError::Truncated => &mut counters.drop_short_frame,
                    WireError::BadLength | WireError::BadVersion => &mut counters.drop_ip_header,
                } += 1;
                None
            }
        }
    }

    fn demultiplex(&mut self, now: Timestamp, packet: Packet, frame: Buffer) -> Option<(Segment, Buffer)> {
        let local = self.net.local_index(packet.destination);
        let is_group = !packet.destination.is_v4() && self.net.listens_to_group(packet.destination);
        let is_discovery = packet.protocol == ipv4::ICMPV6 && !packet.destination.is_v4();
        if local.is_none() && !(is_group && is_discovery) {
            self.counters.drop_ip_destination += 1;
            return None;
        }
        let is_probe = packet.source == Ip::UNSPECIFIED && is_discovery;
        if !is_probe && self.net.is_martian(packet.source) {
            self.counters.drop_martian += 1;
            return None;
        }
        match (packet.protocol, local) {
            (ipv4::TCP, Some(local_index)) => {
                let segment = self.parse_tcp(&packet, local_index, frame.as_slice())?;
                Some((segment, frame))
            }
            (ipv4::ICMP, _) if packet.source.is_v4() => {
                self.handle_icmp(now, &packet, frame);
                None
            }
            (ipv4::ICMPV6, _) if !packet.source.is_v4() => {
                self.handle_icmp(now, &packet, frame);
                None
            }
            _ => {
                let quote = frame.as_slice().get(packet.ip_at..).unwrap_or_default();
                self.net.refuse_protocol(&mut self.counters, Now::new(now), &packet.icmp(), quote);
                None
            }
        }
    }

    fn parse_tcp(&mut self, packet: &Packet, local_index: u8, frame: &[u8]) -> Option<Segment> {
        let bytes = frame.get(packet.at..packet.at + packet.size)?;
        let pseudo = Sum::ZERO.pseudo_header(packet.source, packet.destination, ipv4::TCP, packet.size);
        if !packet.is_verified && !checksum::is_correct(pseudo, bytes) {
            self.counters.drop_tcp_checksum += 1;
            return None;
        }
        let Ok(header) = tcp::Tcp::parse(bytes) else {
            self.counters.drop_tcp_header += 1;
            return None;
        };
        if header.source_port == 0 || header.destination_port == 0 {
            self.counters.drop_tcp_header += 1;
            return None;
        }
        let tuple = Tuple {
            remote: packet.source,
            local: packet.destination,
            remote_port: header.source_port,
            local_port: header.destination_port,
        };
        let (hash, touched) = self.tcp.hash(&tuple);
        std::hint::black_box(touched);
        let header_size = usize::from(header.header_size);
        Some(Segment {
            tuple,
            hash,
            local_index,
            mac: packet.mac,
            header,
            payload_at: (packet.at + header_size) as u32,
            payload_size: (packet.size - header_size) as u32,
        })
    }

    fn handle_icmp(&mut self, now: Timestamp, packet: &Packet, frame: Buffer) {
        let error = self.net.handle_icmp(&mut self.counters, Now::new(now), &packet.icmp(), frame);
        if let Some(error) = error {
            let (tcp, mut context) = self.context(now);
            tcp.handle_error(&mut context, &error);
        }
    }

    // --- frames out ---

    /// Fires timers, accepts waiting peers, and gives the device what is due to be sent.
    pub fn poll<D: Device>(&mut self, now: Timestamp, device: &mut D) {
        self.poll_received_until(now, now, device);
    }

    /// The same where only frames received up to `received_until` have been handled: only timers
    /// due by then fire. A frame received since may be the acknowledgement that a timer waits for.
    pub fn poll_received_until<D: Device>(
        &mut self,
        now: Timestamp,
        received_until: Timestamp,
        device: &mut D,
    ) {
        self.refresh_budget(0);
        self.net.poll_addresses(&mut self.counters, Now::new(now));
        let (tcp, mut context) = self.context(received_until);
        tcp.expire(&mut context);
        let (tcp, mut context) = self.context(now);
        tcp.deliver_again(&mut context);
        tcp.accept_waiting(&mut context);
        let has_room = self.net.flush_replies(&mut self.counters, device, now);
        if has_room {
            let (tcp, mut context) = self.context(now);
            tcp.output_all(&mut context, &mut Line { device, now });
            self.net.flush_replies(&mut self.counters, device, now);
        }
        device.transmit_burst(now);
    }

    /// Whether a poll would send something now.
    pub fn has_output(&self) -> bool {
        self.net.has_replies() || self.tcp.has_output()
    }

    /// The time until the next timer, never later than it is due. `None` when no timer runs.
    pub fn next_timer(&self, now: Timestamp) -> Option<Duration> {
        let present = Now::new(now);
        let due =
            [self.tcp.next_due_ms(present), self.net.next_probe_ms(present)].into_iter().flatten().min()?;
        // Deadlines are whole milliseconds of the clock, and the current one has begun.
        let into = now.as_nanos() % 1_000_000;
        Some(Duration::from_nanos((u64::from(due) * 1_000_000).saturating_sub(into)))
    }

    // --- the owner ---

    /// The next event: opened connections first, then payloads, then peers' FINs and closed
    /// connections.
    pub fn next_event(&mut self) -> Option<Event> {
        Some(match self.tcp.next_report()? {
            Report::Accepted { connection, listener, peer } => Event::Accepted { connection, listener, peer },
            Report::Connected(connection) => Event::Connected { connection },
            Report::Sent(connection) => Event::Sent { connection },
            Report::Received(connection, buffer) => Event::Received { connection, buffer },
            Report::PeerFinished(connection) => Event::PeerFinished { connection },
            Report::Closed(connection, reason) => Event::Closed { connection, reason },
        })
    }

    /// Whether there are events.
    pub fn has_events(&self) -> bool {
        self.tcp.has_reports()
    }

    /// Listens at `address`. Port 0 takes a free one. Returns the listener's number and port.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`, and `QuotaExceeded` beyond 255 listeners.
    pub fn listen(
        &mut self,
        address: SocketAddr,
        backlog: usize,
        limits: ListenLimits,
    ) -> io::Result<(u8, u16)> {
        let ip = Ip::from(address.ip());
        let is_any = address.ip().is_unspecified();
        if !is_any && self.net.local_index(ip).is_none() && self.net.has_checked_addresses() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let limits = Limits {
            user_timeout_ms: limits.user_timeout_ms,
            flight_bytes_max: limits.flight_bytes_max,
            window_max: limits.window_max,
        };
        self.tcp.listen(ip, address.port(), backlog, limits).ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }

    /// Closes all listeners for good. Later connection requests are refused.
    pub fn close_listeners(&mut self) {
        self.tcp.close_listeners();
    }

    /// Stops or resumes accepting. Peers wait meanwhile.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.tcp.set_accepting(accepting);
    }

    /// Begins to connect. The SYN leaves at the next poll.
    ///
    /// # Errors
    /// `None` when a table is full, else `AddrNotAvailable` or `AddrInUse`.
    pub fn connect(
        &mut self,
        now: Timestamp,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, Option<io::Error>> {
        let local = local.map(|local| (Ip::from(local.ip()), local.port()));
        let (tcp, mut context) = self.context(now);
        match tcp.connect(&mut context, local, (Ip::from(remote.ip()), remote.port())) {
            Ok(index) => Ok(tcp.id(index)),
            Err(ConnectFailure::TableFull) => Err(None),
            Err(ConnectFailure::NoAddress) => Err(Some(io::ErrorKind::AddrNotAvailable.into())),
            Err(ConnectFailure::NoPort) => Err(Some(io::ErrorKind::AddrInUse.into())),
        }
    }

    /// Takes a payload back. It is delivered again when a block of `size` bytes is free: see
    /// [`netpoll::Backend::unread`].
    ///
    /// # Errors
    /// The payload.
    pub fn unread(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        payload: Buffer,
        size: usize,
    ) -> Result<(), Buffer> {
        let (tcp, mut context) = self.context(now);
        tcp.unread(&mut context, connection, payload, size)
    }

    /// Whether the connection has returned payloads that were not delivered again yet.
    pub fn has_unread(&self, connection: ConnectionId) -> bool {
        self.tcp.has_unread(connection)
    }

    /// Stops or resumes receiving from a connection: see [`netpoll::Backend::set_receiving`].
    pub fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        self.tcp.set_receiving(connection, receiving);
    }

    /// Sends what is queued, then `last`, then FIN. What the peer still sends is discarded.
    pub fn finish(&mut self, now: Timestamp, connection: ConnectionId, last: Option<SharedBuffer>) {
        let (tcp, mut context) = self.context(now);
        tcp.finish(&mut context, connection, last);
    }

    /// Ends the connection for its owner. `Closed` follows.
    pub fn close(&mut self, now: Timestamp, connection: ConnectionId) {
        let (tcp, mut context) = self.context(now);
        tcp.close(&mut context, connection);
    }

    /// Payload bytes that the connection keeps: queued, or in flight until they are acknowledged.
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.tcp.queued_bytes(connection)
    }

    /// Connections of the owner, including those with an end that was not reported yet.
    pub fn connection_count(&self) -> usize {
        self.tcp.connection_count()
    }

    /// Counts of closed connections that are not complete, half-open ones, and records in
    /// TIME-WAIT.
    pub fn levels(&self) -> [usize; 3] {
        self.tcp.levels()
    }

    /// Returns the memory of emptied tables and pools to the system. For an owner without
    /// connections for a while. The flow table, orphans' blocks and TIME-WAIT records stay: their
    /// size is configured and does not follow the number of connections.
    pub fn trim(&mut self) {
        self.tcp.trim();
        self.pools.trim();
    }

    /// The buffers.
    pub fn pools(&mut self) -> &mut BufferPools {
        &mut self.pools
    }

    /// Its counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Makes a neighbor known, without a request.
    pub fn set_neighbor(&mut self, ip: std::net::IpAddr, mac: Mac, now: Timestamp) {
        self.net.set_neighbor(Ip::from(ip), mac, Now::new(now), &mut self.counters);
    }

    /// Whether nothing is left of any connection but records in TIME-WAIT, and every buffer is
    /// returned.
    pub fn is_empty(&mut self) -> bool {
        self.tcp.is_empty() && self.pools.is_full()
    }

    #[doc(hidden)]
    pub fn debug(&self) -> String {
        self.tcp.debug()
    }

    /// Checks the invariants between the tables.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn invariants(&self) {
        self.tcp.invariants();
    }
}

/// Limits of a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenLimits {
    /// How long sent bytes may stay unacknowledged, in milliseconds; 0: while retransmissions
    /// continue.
    pub user_timeout_ms: u32,
    /// Bytes in flight at most.
    pub flight_bytes_max: u32,
    /// Receive window at most, in bytes.
    pub window_max: u32,
}

impl ListenLimits {
    /// The engine's own limits.
    pub fn of(config: &TcpConfig) -> ListenLimits {
        ListenLimits {
            user_timeout_ms: config.connection.user_timeout_ms,
            flight_bytes_max: config.connection.flight_bytes_max,
            window_max: config.connection.window_max,
        }
    }
}

impl Packet {
    fn icmp(&self) -> IcmpPacket {
        IcmpPacket {
            source: self.source,
            destination: self.destination,
            mac: self.mac,
            at: self.at,
            size: self.size,
            hop_limit: self.hop_limit,
        }
    }
}

fn parse_v4(packet: &[u8]) -> Result<Packet, WireError> {
    let header = Ipv4::parse(packet)?;
    if header.is_fragment {
        return Err(WireError::Fragment);
    }
    Ok(Packet {
        source: Ip::from_v4(header.source),
        destination: Ip::from_v4(header.destination),
        mac: Mac::default(),
        protocol: header.protocol,
        hop_limit: header.hop_limit,
        ip_at: ethernet::HEADER_SIZE,
        at: ethernet::HEADER_SIZE + usize::from(header.header_size),
        size: usize::from(header.payload_size),
        is_verified: false,
    })
}

fn parse_v6(packet: &[u8]) -> Result<Packet, WireError> {
    let header = Ipv6::parse(packet)?;
    if header.is_fragment {
        return Err(WireError::Fragment);
    }
    let (source, destination) = (Ip::from_v6(header.source), Ip::from_v6(header.destination));
    // RFC 4291, 2.5.5.2: mapped addresses never appear on the wire. Here they would be taken for
    // IPv4.
    if source.is_v4() || destination.is_v4() {
        return Err(WireError::BadVersion);
    }
    Ok(Packet {
        source,
        destination,
        mac: Mac::default(),
        protocol: header.protocol,
        hop_limit: header.hop_limit,
        ip_at: ethernet::HEADER_SIZE,
        at: ethernet::HEADER_SIZE + usize::from(header.header_size),
        size: usize::from(header.payload_size),
        is_verified: false,
    })
}
