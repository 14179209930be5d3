//! The frames of the peer: segments, other frames, and whole handshakes.

use crate::segment::{Expected, Written};
use crate::world::{OWN_MAC, Outcome, PEER_MAC, START, World, address, parse_tcp};
use dpdk_backend::device::Received;
use dpdk_backend::wire::Ip;
use dpdk_backend::wire::arp::{Arp, Operation};
use dpdk_backend::wire::checksum::Sum;
use dpdk_backend::wire::ethernet::{self, Ethernet};
use dpdk_backend::wire::ipv4::{self, Ipv4};
use dpdk_backend::wire::ipv6::Ipv6;
use dpdk_backend::wire::ndp::Ndp;
use dpdk_backend::wire::tcp::{Flags, Options, Tcp};
use netpoll::Timestamp;
use std::net::IpAddr;
use std::time::Duration;

impl World {
    // --- what the peer sends ---

    pub(crate) fn handshake(&mut self, actively: bool, words: &[String]) -> Outcome {
        let number = |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.parse::<u32>().ok());
        let has = |name: &str| words.iter().any(|word| word == name);
        self.peer.stamps = has("ts");
        let stamp = self.peer.stamps.then(|| self.stamp());
        let options = |world: &World| Options {
            mss: Some(number("mss=").unwrap_or(1460) as u16),
            window_scale: number("wscale=").map(|scale| scale as u8),
            sack_permitted: has("sack"),
            timestamp: stamp.map(|value| (value, world.peer.last_stamp)),
            ..Options::default()
        };
        let window = number("win=").unwrap_or(65_535) as u16;
        if actively {
            self.connect();
            self.poll();
        } else {
            self.listen();
            let syn = self.tcp(Flags::SYN, self.peer.irs, 0, 65_535, options(self));
            self.put(&syn, 0, false);
            self.poll();
        }
        let (_, frame) = self.frames.pop_front().ok_or("no SYN came")?;
        let (syn, _) = parse_tcp(&frame).ok_or("no SYN came")?;
        (self.peer.own, self.peer.own_known) = (syn.sequence, true);
        self.peer.owns.insert(syn.destination_port, syn.sequence);
        self.peer.last_stamp = syn.options.timestamp.map_or(0, |stamp| stamp.0);
        self.pass(self.now + Duration::from_millis(1), false);
        let ack = self.peer.own.wrapping_add(1);
        if actively {
            let answer = self.tcp(Flags::SYN.with(Flags::ACK), self.peer.irs, ack, window, options(self));
            self.put(&answer, 0, false);
            self.poll();
            self.frames.pop_front().ok_or("no ACK came")?;
        } else {
            let options = self.usual();
            let answer = self.tcp(Flags::ACK, self.peer.irs.wrapping_add(1), ack, window, options);
            self.put(&answer, 0, false);
            self.poll();
        }
        self.check_event(&[if actively { "connected" } else { "accepted" }.to_owned()])
    }

    fn stamp(&self) -> u32 {
        1000 + self.now.since(Timestamp::from_nanos(START)).as_millis() as u32
    }

    fn usual(&self) -> Options {
        let timestamp = self.peer.stamps.then(|| (self.stamp(), self.peer.last_stamp));
        Options { timestamp, ..Options::default() }
    }

    fn tcp(&self, flags: Flags, sequence: u32, acknowledgement: u32, window: u16, options: Options) -> Tcp {
        Tcp {
            source_port: self.peer.ports.1,
            destination_port: self.peer.ports.0,
            sequence,
            acknowledgement,
            flags,
            window,
            header_size: 0,
            options,
        }
    }

    pub(crate) fn inject(&mut self, written: &Written) -> Outcome {
        let mut options = self.usual();
        if let Some(explicit) = &written.options {
            let Expected { timestamp, .. } = explicit;
            let usual = options.timestamp;
            options = explicit.to_wire(self.peer.own, self.peer.last_stamp);
            options.timestamp = timestamp
                .and(options.timestamp)
                .or(usual.filter(|_| timestamp.is_none() && explicit.mss.is_none()));
        }
        let base = self.base(written.port.unwrap_or(self.peer.ports.1));
        let ack = written.ack.map_or(0, |ack| base.wrapping_add(ack));
        let sequence = self.peer.irs.wrapping_add(written.sequence);
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
                let (source, destination) =
                    (from.octets(), if self.peer.to_group { group } else { to.octets() });
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
        let to = if self.peer.to_group { group } else { own };
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

    pub(crate) fn icmp(&mut self, words: &[String]) -> Outcome {
        let number = |at: usize| words[at].parse::<u32>().map_err(|_| "a number".to_owned());
        let (argument, sequence) = (number(1)?, self.peer.own.wrapping_add(number(2)?));
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
        // The quote: our segment as the router received it.
        let mut quote = self.ip_frame(ipv4::TCP, 64, &[0; 8]);
        quote.drain(..14);
        let (at, size) = if self.v6 { (8, 16) } else { (12, 4) };
        let (from, to) = (quote[at..at + size].to_vec(), quote[at + size..at + 2 * size].to_vec());
        quote[at..at + size].copy_from_slice(&to);
        quote[at + size..at + 2 * size].copy_from_slice(&from);
        let tcp = quote.len() - 8;
        quote[tcp..tcp + 2].copy_from_slice(&self.peer.ports.0.to_be_bytes());
        quote[tcp + 2..tcp + 4].copy_from_slice(&self.peer.ports.1.to_be_bytes());
        quote[tcp + 4..].copy_from_slice(&sequence.to_be_bytes());
        message.extend_from_slice(&quote);
        self.icmp_message(&mut message);
        Ok(())
    }

    pub(crate) fn inject_other(&mut self, words: &[String]) -> Outcome {
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
                    // `na other`: another host claims the stack's address.
                    (_, Some("other")) => advertisement(own.octets()),
                    _ => advertisement(peer.octets()),
                };
                let mut message = vec![0; 32];
                ndp.emit(&mut message);
                self.peer.to_group = words.get(1).is_some_and(|word| word == "other");
                self.icmp_message(&mut message);
                self.peer.to_group = false;
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
