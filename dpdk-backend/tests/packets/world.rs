//! The stack under a script: its wire, its owner, its clock.

use crate::parse::{Line, Step, When, parse};
use crate::segment::{Expected, Written, compare, describe};
use dpdk_backend::device::{Capabilities, Device, DeviceFull, Frame, Received};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::{Keepalive, TcpConfig};
use dpdk_backend::wire::arp::{Arp, Operation};
use dpdk_backend::wire::checksum::Sum;
use dpdk_backend::wire::ethernet::{self, Ethernet};
use dpdk_backend::wire::ipv4::{self, Ipv4};
use dpdk_backend::wire::ipv6::Ipv6;
use dpdk_backend::wire::ndp::Ndp;
use dpdk_backend::wire::tcp::{Flags, Options, Tcp};
use dpdk_backend::wire::{Ip, Mac};
use dpdk_backend::{Event, ListenLimits, Stack, StackConfig};
use netpoll::{Buffer, BufferPools, ConnectionId, PoolSize, PoolsConfig, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const START: u64 = 1_000_000_000;
const TOLERANCE: Duration = Duration::from_millis(2);
const IRS: u32 = 1_000_000;
const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

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

struct World {
    stack: Stack,
    wire: Wire,
    now: Timestamp,
    v6: bool,
    limits: ListenLimits,
    frames: VecDeque<(Timestamp, Vec<u8>)>,
    events: VecDeque<String>,
    received: usize,
    held: Option<Vec<Buffer>>,
    connection: Option<ConnectionId>,
    ports: (u16, u16),
    own: u32,
    own_known: bool,
    stamps: bool,
    last_stamp: u32,
    print: bool,
    /// The next IPv6 packet goes to all nodes.
    to_group: bool,
}

type Outcome = Result<(), String>;

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
        tcp.window_max = get("window", 65_535) as u32;
        tcp.orphans_max = get("orphans", 8) as usize;
        tcp.half_open_max = get("half_open", 64) as usize;
        tcp.half_open_per_network_max = get("per_network", 64) as u16;
        tcp.user_timeout_ms = get("user_timeout_ms", 0) as u32;
        tcp.time_wait_ms = get("time_wait_ms", 60_000) as u32;
        tcp.fin_wait_2_ms = get("fin_wait_2_ms", 60_000) as u32;
        tcp.delayed_ack_ms = get("delayed_ack_ms", 40) as u32;
        tcp.syn_retries_max = get("syn_retries", 5) as u8;
        tcp.retries_max = get("retries", 15) as u8;
        tcp.flight_bytes_max = get("flight", 1 << 20) as u32;
        tcp.challenge_acks_per_second = get("challenge_rate", 1000) as u32;
        tcp.resets_per_second = get("reset_rate", 1000) as u32;
        tcp.out_of_order_per_connection_max = get("out_of_order", 64) as u16;
        if let Some(idle_ms) = config.get("keepalive_ms") {
            tcp.keepalive = Some(Keepalive {
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
            stack.set_neighbour(address(2, v6), PEER_MAC, now);
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
            ports: (80, 40_000),
            own: 0,
            own_known: false,
            stamps: false,
            last_stamp: 0,
            print,
            to_group: false,
        })
    }

    // --- time ----------------------------------------------------------------------------------------------------

    fn due(&self, when: When) -> Timestamp {
        match when {
            When::After(seconds) => self.now + Duration::from_secs_f64(seconds),
            When::At(seconds) => Timestamp::from_nanos(START) + Duration::from_secs_f64(seconds),
        }
    }

    fn poll(&mut self) {
        self.stack.poll(self.now, &mut self.wire);
        while let Some(frame) = self.wire.out.pop_front() {
            if self.print {
                println!("{:>9.6} > {}", self.seconds(), self.tell(&frame));
            }
            self.frames.push_back((self.now, frame));
        }
        while let Some(event) = self.stack.next_event() {
            self.note(event);
        }
    }

    fn seconds(&self) -> f64 {
        self.now.since(Timestamp::from_nanos(START)).as_secs_f64()
    }

    /// Lets time pass up to `until`, or to the first frame when `for_frame`.
    fn pass(&mut self, until: Timestamp, for_frame: bool) {
        self.poll();
        while self.now < until && !(for_frame && !self.frames.is_empty()) {
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
            Event::Closed { reason, .. } => format!("closed {}", reason.label()),
        };
        if self.print {
            println!("{:>9.6}   event {text}", self.seconds());
        }
        self.events.push_back(text);
    }

    // --- lines ---------------------------------------------------------------------------------------------------

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
            Step::Hold(on) => self.held = on.then(Vec::new),
            Step::Inject(written) => self.inject(written)?,
            Step::InjectOther(words) => self.inject_other(words)?,
            Step::Icmp(words) => self.icmp(words)?,
            _ => {}
        }
        Ok(())
    }

    fn listen(&mut self) {
        let any = SocketAddr::new(address(1, self.v6), 80);
        self.stack.listen(any, 16, self.limits).expect("a free port");
        self.ports = (80, 40_000);
    }

    fn connect(&mut self) {
        let (local, remote) = (address(1, self.v6), address(2, self.v6));
        self.ports = (5000, 80);
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

    fn check_event(&mut self, words: &[String]) -> Outcome {
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
                Err(format!("nobody expected, at {at:.4}: {}", self.tell(frame)))
            }
        }
    }

    // --- what is expected ----------------------------------------------------------------------------------------

    fn next_frame(&mut self, due: Timestamp) -> Result<Vec<u8>, String> {
        self.pass(due + TOLERANCE, true);
        let (at, frame) = self.frames.pop_front().ok_or("nothing came")?;
        let late = at.since(due) > TOLERANCE || due.since(at) > TOLERANCE;
        // The script's clock goes on from when it was due.
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
        if tcp.flags.has(Flags::SYN) && !self.own_known {
            (self.own, self.own_known) = (tcp.sequence, true);
        }
        if let Some((value, _)) = tcp.options.timestamp {
            self.last_stamp = value;
        }
        let own = if tcp.flags == Flags::RST && !self.own_known { 0 } else { self.own };
        compare(expected, &tcp, size, own, IRS)
            .map_err(|problem| format!("{problem}: got {}", self.tell(&frame)))
    }

    fn expect_other(&mut self, due: Timestamp, expected: &str) -> Outcome {
        let frame = self.next_frame(due)?;
        let told = self.tell(&frame);
        if told == expected { Ok(()) } else { Err(format!("got {told}")) }
    }

    fn tell(&self, frame: &[u8]) -> String {
        if let Some((tcp, size)) = parse_tcp(frame) {
            return describe(&tcp, size, self.own, IRS);
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

    // --- what the peer sends -------------------------------------------------------------------------------------

    fn handshake(&mut self, actively: bool, words: &[String]) -> Outcome {
        let number = |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.parse::<u32>().ok());
        let has = |name: &str| words.iter().any(|word| word == name);
        self.stamps = has("ts");
        let stamp = self.stamps.then(|| self.stamp());
        let options = |world: &World| Options {
            mss: Some(number("mss=").unwrap_or(1460) as u16),
            window_scale: number("wscale=").map(|scale| scale as u8),
            sack_permitted: has("sack"),
            timestamp: stamp.map(|value| (value, world.last_stamp)),
            ..Options::default()
        };
        let window = number("win=").unwrap_or(65_535) as u16;
        if actively {
            self.connect();
            self.poll();
        } else {
            self.listen();
            let syn = self.tcp(Flags::SYN, IRS, 0, 65_535, options(self));
            self.put(&syn, 0, false);
            self.poll();
        }
        let (_, frame) = self.frames.pop_front().ok_or("no SYN came")?;
        let (syn, _) = parse_tcp(&frame).ok_or("no SYN came")?;
        (self.own, self.own_known) = (syn.sequence, true);
        self.last_stamp = syn.options.timestamp.map_or(0, |stamp| stamp.0);
        self.pass(self.now + Duration::from_millis(1), false);
        let ack = self.own.wrapping_add(1);
        if actively {
            let answer = self.tcp(Flags::SYN.with(Flags::ACK), IRS, ack, window, options(self));
            self.put(&answer, 0, false);
            self.poll();
            self.frames.pop_front().ok_or("no ACK came")?;
        } else {
            let options = self.usual();
            let answer = self.tcp(Flags::ACK, IRS.wrapping_add(1), ack, window, options);
            self.put(&answer, 0, false);
            self.poll();
        }
        self.check_event(&[if actively { "connected" } else { "accepted" }.to_owned()])
    }

    fn stamp(&self) -> u32 {
        1000 + self.now.since(Timestamp::from_nanos(START)).as_millis() as u32
    }

    fn usual(&self) -> Options {
        let timestamp = self.stamps.then(|| (self.stamp(), self.last_stamp));
        Options { timestamp, ..Options::default() }
    }

    fn tcp(&self, flags: Flags, sequence: u32, acknowledgement: u32, window: u16, options: Options) -> Tcp {
        Tcp {
            source_port: self.ports.1,
            destination_port: self.ports.0,
            sequence,
            acknowledgement,
            flags,
            window,
            header_size: 0,
            options,
        }
    }

    fn inject(&mut self, written: &Written) -> Outcome {
        let mut options = self.usual();
        if let Some(explicit) = &written.options {
            let Expected { timestamp, .. } = explicit;
            let usual = options.timestamp;
            options = explicit.to_wire(self.own);
            options.timestamp = timestamp
                .and(options.timestamp)
                .or(usual.filter(|_| timestamp.is_none() && !explicit.mss.is_some()));
        }
        let ack = written.ack.map_or(0, |ack| self.own.wrapping_add(ack));
        let sequence = IRS.wrapping_add(written.sequence);
        let mut tcp = self.tcp(written.flags, sequence, ack, written.window.unwrap_or(65_535), options);
        tcp.source_port = written.port.unwrap_or(tcp.source_port);
        if self.print {
            println!("{:>9.6} < {written:?}", self.seconds());
        }
        self.put(&tcp, written.size as usize, written.is_bad);
        Ok(())
    }

    fn put(&mut self, tcp: &Tcp, size: usize, is_bad: bool) {
        let mut segment = vec![0; 60];
        let header_size = tcp.emit(&mut segment);
        segment.truncate(header_size);
        segment.resize(header_size + size, b'p');
        let (from, to) = (Ip::from(address(2, self.v6)), Ip::from(address(1, self.v6)));
        let sum = Sum::ZERO.pseudo_header(from, to, ipv4::TCP, segment.len()).bytes(&segment).finish();
        let sum = if is_bad { sum ^ 0x0101 } else { sum };
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let frame = self.ip_frame(ipv4::TCP, 64, &segment);
        self.hand_in(&frame);
    }

    fn ip_frame(&self, protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = (address(2, self.v6), address(1, self.v6));
        let mut frame = vec![0; 54];
        let ether_type = if self.v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        Ethernet { destination: OWN_MAC, source: PEER_MAC, ether_type }.emit(&mut frame);
        let size = payload.len() as u16;
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (source, destination) = (from.octets(), to.octets());
                let header_size = 20;
                let is_fragment = false;
                Ipv4 {
                    source,
                    destination,
                    protocol,
                    hop_limit,
                    payload_size: size,
                    header_size,
                    is_fragment,
                }
                .emit(&mut frame[14..]);
                frame.truncate(34);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
                let (source, destination) = (from.octets(), if self.to_group { group } else { to.octets() });
                let header_size = 40;
                let is_fragment = false;
                Ipv6 {
                    source,
                    destination,
                    protocol,
                    hop_limit,
                    payload_size: size,
                    header_size,
                    is_fragment,
                }
                .emit(&mut frame[14..]);
            }
            _ => unreachable!("one family"),
        }
        frame.extend_from_slice(payload);
        frame
    }

    fn hand_in(&mut self, frame: &[u8]) {
        let Some(mut buffer) = self.stack.pools().take_receive() else { return };
        buffer.append(frame);
        self.stack.handle_frame(self.now, Received { buffer, checksums_verified: false });
    }

    fn icmp_message(&mut self, message: &mut [u8]) {
        let group = Ip::from_v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let (from, own) = (Ip::from(address(2, self.v6)), Ip::from(address(1, self.v6)));
        let to = if self.to_group { group } else { own };
        let pseudo = match self.v6 {
            true => Sum::ZERO.pseudo_header(from, to, ipv4::ICMPV6, message.len()),
            false => Sum::ZERO,
        };
        let sum = pseudo.bytes(message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let protocol = if self.v6 { ipv4::ICMPV6 } else { ipv4::ICMP };
        let frame = self.ip_frame(protocol, 255, message);
        self.hand_in(&frame);
    }

    fn icmp(&mut self, words: &[String]) -> Outcome {
        let number = |at: usize| words[at].parse::<u32>().map_err(|_| "a number".to_owned());
        let (argument, sequence) = (number(1)?, self.own.wrapping_add(number(2)?));
        let (kind, code) = match (words[0].as_str(), self.v6) {
            ("too_big", false) => (3, 4),
            ("too_big", true) => (2, 0),
            ("unreachable", false) => (3, argument as u8),
            _ => (1, argument as u8),
        };
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        if words[0] == "too_big" {
            message[4..8].copy_from_slice(&argument.to_be_bytes());
        }
        // The quote: our segment as the router saw it.
        let mut quote = self.ip_frame(ipv4::TCP, 64, &[0; 8]);
        quote.drain(..14);
        let (at, size) = if self.v6 { (8, 16) } else { (12, 4) };
        let (from, to) = (quote[at..at + size].to_vec(), quote[at + size..at + 2 * size].to_vec());
        quote[at..at + size].copy_from_slice(&to);
        quote[at + size..at + 2 * size].copy_from_slice(&from);
        let tcp = quote.len() - 8;
        quote[tcp..tcp + 2].copy_from_slice(&self.ports.0.to_be_bytes());
        quote[tcp + 2..tcp + 4].copy_from_slice(&self.ports.1.to_be_bytes());
        quote[tcp + 4..].copy_from_slice(&sequence.to_be_bytes());
        message.extend_from_slice(&quote);
        self.icmp_message(&mut message);
        Ok(())
    }

    fn inject_other(&mut self, words: &[String]) -> Outcome {
        match words[0].as_str() {
            "arp" => self.inject_arp(&words[1]),
            "echo" => {
                let size = words[1].parse::<usize>().map_err(|_| "a number")?;
                let mut message = vec![if self.v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 2];
                message.resize(8 + size, b'e');
                self.icmp_message(&mut message);
            }
            "ns" | "na" => {
                let IpAddr::V6(own) = address(1, true) else { return Ok(()) };
                let IpAddr::V6(peer) = address(2, true) else { return Ok(()) };
                let ndp = match (words[0].as_str(), words.get(1).map(String::as_str)) {
                    ("ns", _) => Ndp::Solicitation { target: own.octets(), source_mac: Some(PEER_MAC) },
                    // `na other`: somebody claims the stack's address.
                    (_, Some("other")) => advertisement(own.octets()),
                    _ => advertisement(peer.octets()),
                };
                let mut message = vec![0; 32];
                ndp.emit(&mut message);
                self.to_group = words.get(1).is_some_and(|word| word == "other");
                self.icmp_message(&mut message);
                self.to_group = false;
            }
            "raw" => {
                let hex: String = words[1..].concat();
                let bytes: Option<Vec<u8>> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
                    .collect();
                self.hand_in(&bytes.ok_or("hex")?);
            }
            other => return Err(format!("what is {other}?")),
        }
        Ok(())
    }

    fn inject_arp(&mut self, kind: &str) {
        let arp = Arp {
            operation: if kind == "request" { Operation::Request } else { Operation::Reply },
            sender_mac: PEER_MAC,
            sender_ip: if kind == "other" { [10, 0, 0, 1] } else { [10, 0, 0, 2] },
            target_mac: OWN_MAC,
            target_ip: [10, 0, 0, 1],
        };
        let mut frame = vec![0; 60];
        Ethernet { destination: OWN_MAC, source: PEER_MAC, ether_type: ethernet::ARP }.emit(&mut frame);
        arp.emit(&mut frame[14..]);
        self.hand_in(&frame);
    }
}

fn advertisement(target: [u8; 16]) -> Ndp {
    Ndp::Advertisement { target, target_mac: Some(PEER_MAC), solicited: true, overrides: true }
}

fn address(number: u8, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::from([10, 0, 0, number]),
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
    }
}

/// The TCP header of a frame and the size of its payload.
fn parse_tcp(frame: &[u8]) -> Option<(Tcp, u32)> {
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
