//! The stack under a script: its wire, its owner, its clock.

use crate::parse::{Line, Step, When, parse};
use crate::segment::{Written, compare, describe};
use dpdk_backend::device::{Capabilities, Device, DeviceFull, Frame, Received};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::{Keepalive, TcpConfig};
use dpdk_backend::wire::Mac;
use dpdk_backend::wire::arp::{Arp, Operation};
use dpdk_backend::wire::ethernet;
use dpdk_backend::wire::ipv4::{self, Ipv4};
use dpdk_backend::wire::ipv6::Ipv6;
use dpdk_backend::wire::ndp::Ndp;
use dpdk_backend::wire::tcp::{Flags, Tcp};
use dpdk_backend::{Event, ListenLimits, Stack, StackConfig};
use netpoll::{Buffer, BufferPools, ConnectionId, PoolSize, PoolsConfig, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(crate) const START: u64 = 1_000_000_000;
const TOLERANCE: Duration = Duration::from_millis(2);
/// The peer's first sequence number, unless a script says otherwise.
const IRS: u32 = 1_000_000;
pub(crate) const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

#[derive(Default)]
struct Wire {
    out: VecDeque<Vec<u8>>,
    tso: u32,
}

impl Device for Wire {
    fn capabilities(&self) -> Capabilities {
        Capabilities { transmit_checksums: false, segmentation_max: self.tso }
    }

    fn receive_burst(&mut self, _: Timestamp, _: &mut BufferPools, _: &mut Vec<Received>) {}

    fn transmit(&mut self, _: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        let mut bytes = vec![0; frame.size()];
        frame.gather(&mut bytes);
        self.out.push_back(bytes);
        Ok(())
    }

    fn transmit_burst(&mut self, _: Timestamp) {}
}

/// The peer that the script plays: its numbers, and what it knows of the stack's.
pub(crate) struct Peer {
    pub(crate) ports: (u16, u16),
    pub(crate) irs: u32,
    pub(crate) own: u32,
    pub(crate) own_known: bool,
    /// The same toward each port of the peer that a SYN-ACK went to.
    pub(crate) owns: HashMap<u16, u32>,
    pub(crate) stamps: bool,
    pub(crate) last_stamp: u32,
    /// Whether the next IPv6 packet goes to all nodes.
    pub(crate) to_group: bool,
}

pub(crate) struct World {
    pub(crate) stack: Stack,
    wire: Wire,
    pub(crate) now: Timestamp,
    pub(crate) v6: bool,
    pub(crate) limits: ListenLimits,
    pub(crate) frames: VecDeque<(Timestamp, Vec<u8>)>,
    pub(crate) events: VecDeque<String>,
    pub(crate) received: usize,
    pub(crate) held: Option<Vec<Buffer>>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) peer: Peer,
    pub(crate) print: bool,
}

pub(crate) type Outcome = Result<(), String>;

pub(crate) fn run(text: &str, print: bool) -> Outcome {
    let lines = parse(text)?;
    let config = lines.iter().find_map(|line| match &line.step {
        Step::Config(pairs) => Some(pairs.iter().cloned().collect()),
        _ => None,
    });
    let mut world = World::new(&config.unwrap_or_default(), print)?;
    for line in &lines {
        world.step(line).map_err(|problem| format!("{}: {problem}", line.number))?;
        world.stack.invariants();
    }
    world.nothing_left()
}

impl World {
    fn new(config: &HashMap<String, u64>, print: bool) -> Result<World, String> {
        let get = |name: &str, default: u64| config.get(name).copied().unwrap_or(default);
        let v6 = get("v6", 0) == 1;
        let mut interface = InterfaceConfig::new(OWN_MAC, address(1, v6), if v6 { 64 } else { 24 });
        interface.mtu = get("mtu", 1500) as u16;
        interface.detect_duplicates = get("dad", 0) == 1;
        let mut tcp = TcpConfig::new(get("connections", 8) as usize);
        tcp.timestamps = get("timestamps", 1) == 1;
        tcp.sack = get("sack", 1) == 1;
        tcp.connection.window_max = get("window", 65_535) as u32;
        tcp.tables.orphans_max = get("orphans", 8) as usize;
        tcp.tables.half_open_max = get("half_open", 64) as usize;
        tcp.tables.half_open_per_network_max = get("per_network", 64) as u16;
        tcp.connection.user_timeout_ms = get("user_timeout_ms", 0) as u32;
        tcp.timeouts.time_wait_ms = get("time_wait_ms", 60_000) as u32;
        tcp.timeouts.fin_wait_2_ms = get("fin_wait_2_ms", 60_000) as u32;
        tcp.timeouts.orphan_ms = get("orphan_ms", 240_000) as u32;
        tcp.timeouts.out_of_order_ms = get("out_of_order_ms", 60_000) as u32;
        tcp.timeouts.delayed_ack_ms = get("delayed_ack_ms", 40) as u32;
        tcp.timeouts.syn_retries_max = get("syn_retries", 5) as u8;
        tcp.timeouts.retries_max = get("retries", 15) as u8;
        tcp.connection.flight_bytes_max = get("flight", 1 << 20) as u32;
        tcp.rates.resets_per_second = get("reset_rate", 1000) as u32;
        tcp.stores.out_of_order_per_connection_max = get("out_of_order", 64) as u16;
        if let Some(idle_ms) = config.get("keepalive_ms") {
            tcp.timeouts.keepalive = Some(Keepalive {
                idle_ms: *idle_ms as u32,
                interval_ms: get("keepalive_interval_ms", 1000) as u32,
                probes_max: get("keepalive_probes", 3) as u8,
            });
        }
        let pools = PoolsConfig {
            receive: PoolSize { size: 2048, count: 8 + get("buffers", 256) as u32 },
            blocks: vec![PoolSize { size: 512, count: 64 }, PoolSize { size: 65_536, count: 32 }],
            huge_pages: false,
        };
        let limits = ListenLimits::of(&tcp);
        let stack_config = StackConfig { interface, tcp, pools, receive_reserve: 8 };
        let now = Timestamp::from_nanos(START);
        let mut stack = Stack::new(&stack_config, [7, 11], now).map_err(|error| error.to_string())?;
        if get("learn", 1) == 1 {
            stack.set_neighbor(address(2, v6), PEER_MAC, now);
        }
        let wire = Wire { out: VecDeque::new(), tso: get("tso", 0) as u32 };
        Ok(World {
            stack,
            wire,
            now,
            v6,
            limits,
            frames: VecDeque::new(),
            events: VecDeque::new(),
            received: 0,
            held: None,
            connection: None,
            peer: Peer {
                ports: (80, 40_000),
                irs: get("irs", IRS.into()) as u32,
                own: 0,
                own_known: false,
                owns: HashMap::new(),
                stamps: false,
                last_stamp: 0,
                to_group: false,
            },
            print,
        })
    }

    // --- time ---

    fn due(&self, when: When) -> Timestamp {
        match when {
            When::After(seconds) => self.now + Duration::from_secs_f64(seconds),
            When::At(seconds) => Timestamp::from_nanos(START) + Duration::from_secs_f64(seconds),
        }
    }

    /// A turn as a backend takes it: the owner has what was received before answers leave.
    pub(crate) fn poll(&mut self) {
        self.note_events();
        self.stack.poll(self.now, &mut self.wire);
        while let Some(frame) = self.wire.out.pop_front() {
            if self.print {
                println!("{:>9.6} > {}", self.seconds(), self.tell(&frame));
            }
            self.frames.push_back((self.now, frame));
        }
        self.note_events();
    }

    fn note_events(&mut self) {
        while let Some(event) = self.stack.next_event() {
            self.note(event);
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.now.since(Timestamp::from_nanos(START)).as_secs_f64()
    }

    /// Lets time pass up to `until`, or to the first frame when `for_frame`.
    pub(crate) fn pass(&mut self, until: Timestamp, for_frame: bool) {
        self.poll();
        while self.now < until && (self.frames.is_empty() || !for_frame) {
            let next = self.stack.next_timer(self.now).map_or(until, |wait| self.now + wait);
            self.now = next.max(self.now + Duration::from_micros(100)).min(until);
            self.poll();
        }
    }

    fn note(&mut self, event: Event) {
        let text = match event {
            Event::Accepted { connection, .. } => {
                self.connection = Some(connection);
                "accepted".to_owned()
            }
            Event::Connected { .. } => "connected".to_owned(),
            Event::Sent { .. } => "sent".to_owned(),
            Event::Received { buffer, .. } => {
                self.received += buffer.len();
                if let Some(held) = &mut self.held {
                    held.push(buffer);
                }
                return;
            }
            Event::PeerFinished { .. } => return, // the contract suite's subject
            Event::Closed { reason, .. } => {
                // The next SYN is answered with numbers of its own.
                self.peer.own_known = false;
                format!("closed {}", reason.label())
            }
        };
        if self.print {
            println!("{:>9.6}   event {text}", self.seconds());
        }
        self.events.push_back(text);
    }

    // --- lines ---

    fn step(&mut self, line: &Line) -> Outcome {
        let due = self.due(line.when);
        match &line.step {
            Step::Expect(expected) => return self.expect(due, expected),
            Step::ExpectOther(expected) => return self.expect_other(due, expected),
            Step::Config(_) => return Ok(()),
            _ => self.pass(due, false),
        }
        match &line.step {
            Step::Counter(name, value) => return self.check_counter(name, *value),
            Step::Event(words) => return self.check_event(words),
            Step::NoEvent if self.events.is_empty() && self.received == 0 => return Ok(()),
            Step::NoEvent => return Err(format!("{:?}, {} received", self.events, self.received)),
            _ => self.nothing_left()?,
        }
        self.act(&line.step)?;
        self.poll();
        Ok(())
    }

    fn act(&mut self, step: &Step) -> Outcome {
        let id = self.connection;
        let connection = || id.ok_or("no connection");
        match step {
            Step::Listen => self.listen(),
            Step::Handshake { actively, words } => return self.handshake(*actively, words),
            Step::Connect => self.connect(),
            Step::Send(size) => self.send(connection()?, *size)?,
            Step::Finish => self.stack.finish(self.now, connection()?, None),
            Step::Close => self.stack.close(self.now, connection()?),
            Step::Accept(on) => self.stack.set_accepting(*on),
            Step::Unlisten => self.stack.close_listeners(),
            Step::Hold(on) => self.held = on.then(Vec::new),
            Step::Inject(written) => self.inject(written)?,
            Step::InjectOther(words) => self.inject_other(words)?,
            Step::Icmp(words) => self.icmp(words)?,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn listen(&mut self) {
        let any = SocketAddr::new(address(1, self.v6), 80);
        self.stack.listen(any, 16, self.limits).expect("a free port");
        self.peer.ports = (80, 40_000);
    }

    pub(crate) fn connect(&mut self) {
        let (local, remote) = (address(1, self.v6), address(2, self.v6));
        self.peer.ports = (5000, 80);
        let result =
            self.stack.connect(self.now, Some(SocketAddr::new(local, 5000)), SocketAddr::new(remote, 80));
        self.connection = Some(result.expect("connecting starts"));
    }

    fn send(&mut self, id: ConnectionId, mut size: usize) -> Outcome {
        while size > 0 {
            let part = size.min(65_536);
            let mut buffer = self.stack.pools().take(part).ok_or("no block")?;
            buffer.set_len(part);
            self.stack.send(self.now, id, buffer.freeze()).map_err(|error| format!("{error:?}"))?;
            size -= part;
        }
        Ok(())
    }

    fn check_counter(&self, name: &str, value: u64) -> Outcome {
        let found = self.stack.counters().iter().find(|(other, _)| *other == name);
        match found {
            Some((_, count)) if count == value => Ok(()),
            Some((_, count)) => Err(format!("{name} is {count}")),
            None => Err(format!("no counter {name}")),
        }
    }

    pub(crate) fn check_event(&mut self, words: &[String]) -> Outcome {
        if words[0] == "received" {
            let received = std::mem::take(&mut self.received);
            return match words[1] == received.to_string() {
                true => Ok(()),
                false => Err(format!("{received} were received")),
            };
        }
        match self.events.pop_front() {
            Some(event) if event == words.join(" ") => Ok(()),
            other => Err(format!("{other:?} instead of {words:?}")),
        }
    }

    fn nothing_left(&self) -> Outcome {
        match self.frames.front() {
            None => Ok(()),
            Some((at, frame)) => {
                let at = at.since(Timestamp::from_nanos(START)).as_secs_f64();
                Err(format!("no frame expected, at {at:.4}: {}", self.tell(frame)))
            }
        }
    }

    // --- what is expected ---

    fn next_frame(&mut self, due: Timestamp) -> Result<Vec<u8>, String> {
        self.pass(due + TOLERANCE, true);
        let (at, frame) = self.frames.pop_front().ok_or("nothing came")?;
        let late = at.since(due) > TOLERANCE || due.since(at) > TOLERANCE;
        // The script's clock continues from the time when it was due.
        self.now = self.now.max(due.min(self.now));
        if late {
            let seconds = |at: Timestamp| at.since(Timestamp::from_nanos(START)).as_secs_f64();
            return Err(format!("at {:.4}, not {:.4}: {}", seconds(at), seconds(due), self.tell(&frame)));
        }
        Ok(frame)
    }

    fn expect(&mut self, due: Timestamp, expected: &Written) -> Outcome {
        let frame = self.next_frame(due)?;
        let Some((tcp, size)) = parse_tcp(&frame) else { return Err(format!("got {}", self.tell(&frame))) };
        if tcp.flags.has(Flags::SYN) && (!self.peer.own_known || expected.sequence == 0) {
            (self.peer.own, self.peer.own_known) = (tcp.sequence, true);
            self.peer.owns.insert(tcp.destination_port, tcp.sequence);
        }
        if let Some((value, _)) = tcp.options.timestamp {
            self.peer.last_stamp = value;
        }
        let is_first = tcp.flags == Flags::RST && self.connection.is_none() && !self.peer.own_known;
        let own = if is_first { 0 } else { self.base(tcp.destination_port) };
        compare(expected, &tcp, size, own, self.peer.irs)
            .map_err(|problem| format!("{problem}: got {}", self.tell(&frame)))
    }

    /// The stack's initial sequence number toward a port of the peer.
    pub(crate) fn base(&self, port: u16) -> u32 {
        self.peer.owns.get(&port).copied().unwrap_or(self.peer.own)
    }

    fn expect_other(&mut self, due: Timestamp, expected: &str) -> Outcome {
        let frame = self.next_frame(due)?;
        let told = self.tell(&frame);
        if told == expected { Ok(()) } else { Err(format!("got {told}")) }
    }

    fn tell(&self, frame: &[u8]) -> String {
        if let Some((tcp, size)) = parse_tcp(frame) {
            return describe(&tcp, size, self.peer.own, self.peer.irs);
        }
        let kind = u16::from_be_bytes([frame[12], frame[13]]);
        let rest = &frame[ethernet::HEADER_SIZE..];
        match kind {
            ethernet::ARP => match Arp::parse(rest) {
                Ok(Arp { operation: Operation::Request, .. }) => "arp request".into(),
                Ok(_) => "arp reply".into(),
                Err(error) => format!("{error:?}"),
            },
            ethernet::IPV4 => format!("icmp {}", frame[34]),
            _ => match Ndp::parse(&frame[54..]) {
                Ok(Ndp::Solicitation { .. }) => "ns".into(),
                Ok(Ndp::Advertisement { .. }) => "na".into(),
                Err(_) => format!("icmp {}", frame[54]),
            },
        }
    }
}

pub(crate) fn address(number: u8, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::from([10, 0, 0, number]),
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
    }
}

/// The TCP header of a frame and the size of its payload.
pub(crate) fn parse_tcp(frame: &[u8]) -> Option<(Tcp, u32)> {
    let rest = frame.get(ethernet::HEADER_SIZE..)?;
    let (at, size, protocol) = match frame[12..14] {
        [8, 0] => {
            Ipv4::parse(rest).ok().map(|ip| (usize::from(ip.header_size), ip.payload_size, ip.protocol))?
        }
        [0x86, 0xdd] => {
            Ipv6::parse(rest).ok().map(|ip| (usize::from(ip.header_size), ip.payload_size, ip.protocol))?
        }
        _ => return None,
    };
    if protocol != ipv4::TCP {
        return None;
    }
    let tcp = Tcp::parse(rest.get(at..)?).ok()?;
    Some((tcp, u32::from(size) - u32::from(tcp.header_size)))
}
