//! A stack with its end of the line, and owners that stream in both directions.

use dpdk_backend::device::{Capture, CaptureRing, Device, Impair, ImpairConfig, Loopback, Received, pcap};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::TcpConfig;
use dpdk_backend::wire::Mac;
use dpdk_backend::{Event, Stack, StackConfig};
use netpoll::sim::Rng;
use netpoll::{CloseReason, ConnectionId, PoolSize, PoolsConfig, Timestamp};
use netpoll_contract::Pattern;
use std::net::{IpAddr, SocketAddr};

/// The listening port.
pub(crate) const PORT: u16 = 80;

/// One end of a stream pair.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) id: ConnectionId,
    /// The bytes that it sends, how many were queued, and how many there are.
    pub(crate) says: Pattern,
    pub(crate) queued: usize,
    pub(crate) total: usize,
    /// The bytes that it receives, how many so far, and how many are expected.
    pub(crate) hears: Pattern,
    pub(crate) heard: usize,
    pub(crate) expected: usize,
    pub(crate) is_open: bool,
    pub(crate) finished: bool,
    pub(crate) closed: Option<CloseReason>,
}

pub(crate) struct Host {
    pub(crate) stack: Stack,
    pub(crate) device: Capture<Impair<Loopback>>,
    /// Its last frames.
    capture: CaptureRing,
    frames: Vec<Received>,
    pub(crate) talks: Vec<Talk>,
    /// Payloads kept for a while before they are dropped.
    held: Vec<netpoll::Buffer>,
}

/// The address of host `number`, in the family of the run.
pub(crate) fn address(number: u8, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::from([10, 0, 0, number]),
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
    }
}

impl Host {
    pub(crate) fn new(
        (number, v6): (u8, bool),
        (tcp, mtu): (TcpConfig, u16),
        end: Loopback,
        line: ImpairConfig,
        rng: &mut Rng,
        now: Timestamp,
    ) -> Host {
        let mut interface =
            InterfaceConfig::new(Mac([2, 0, 0, 0, 0, number]), address(number, v6), if v6 { 64 } else { 24 });
        interface.mtu = mtu;
        let pools = PoolsConfig {
            receive: PoolSize { size: 2048, count: 40 + rng.below(200) as u32 },
            blocks: vec![PoolSize { size: 256, count: 64 }, PoolSize { size: 8192, count: 64 }],
            huge_pages: false,
        };
        let config = StackConfig { interface, tcp, pools, receive_reserve: 34 };
        let stack = Stack::new(&config, [rng.next_u64(), rng.next_u64()], now).expect("pools");
        let capture = CaptureRing::new(256, 96);
        let device = Capture::new(Impair::new(end, line, rng.next_u64()), Some(capture.clone()), 0);
        Host { stack, device, capture, frames: Vec::with_capacity(32), talks: vec![], held: vec![] }
    }

    /// One round: sends, bursts, events. Returns whether anything was received.
    pub(crate) fn turn(&mut self, now: Timestamp, rng: &mut Rng) -> bool {
        self.stack.poll(now, &mut self.device);
        self.device.receive_burst(now, self.stack.pools(), &mut self.frames);
        let any = !self.frames.is_empty();
        if rng.below(4) == 0 {
            for frame in self.frames.drain(..) {
                self.stack.handle_frame(now, frame);
            }
        } else {
            self.stack.handle_burst(now, &mut self.frames);
        }
        self.events(now, rng);
        self.speak(now, rng);
        self.stack.poll(now, &mut self.device);
        any
    }

    fn events(&mut self, now: Timestamp, rng: &mut Rng) {
        if rng.below(8) == 0 {
            self.held.clear();
        }
        while let Some(event) = self.stack.next_event() {
            match event {
                Event::Accepted { connection, peer, .. } => self.accepted(connection, peer),
                Event::Connected { connection } => self.talk(connection).is_open = true,
                Event::Sent { .. } | Event::PeerFinished { .. } => {}
                Event::Received { connection, buffer } => {
                    let talk = self.talk(connection);
                    talk.hears.check(talk.heard, buffer.as_slice());
                    talk.heard += buffer.len();
                    assert!(talk.heard <= talk.expected, "more than was said");
                    if rng.below(16) == 0 && self.held.len() < 4 {
                        self.held.push(buffer);
                    }
                }
                Event::Closed { connection, reason } => {
                    let talk = self.talk(connection);
                    assert_eq!(talk.closed, None, "closed twice");
                    talk.closed = Some(reason);
                }
            }
        }
        self.finish(now);
    }

    /// The peer's port identifies the agreed stream; see `engine::run`.
    fn accepted(&mut self, id: ConnectionId, peer: SocketAddr) {
        let waiting = self.talks.iter_mut().find(|talk| talk.id.index() == usize::from(peer.port()));
        let talk = waiting.expect("a peer that was agreed on");
        assert!(!talk.is_open, "accepted twice");
        talk.id = id;
        talk.is_open = true;
    }

    fn talk(&mut self, id: ConnectionId) -> &mut Talk {
        self.talks.iter_mut().find(|talk| talk.id == id).expect("a known connection")
    }

    fn speak(&mut self, now: Timestamp, rng: &mut Rng) {
        for position in 0..self.talks.len() {
            loop {
                let talk = &self.talks[position];
                if !talk.is_open || talk.closed.is_some() || talk.queued == talk.total {
                    break;
                }
                let size = (1 + rng.below(8000)).min(talk.total - talk.queued);
                let Some(mut buffer) = self.stack.pools().take(size) else { break };
                buffer.set_len(size);
                talk.says.fill(talk.queued, buffer.as_mut_slice());
                match self.stack.send(now, talk.id, buffer.freeze()) {
                    Ok(()) => self.talks[position].queued += size,
                    Err(_) => break,
                }
            }
        }
    }

    /// An end that has received and sent everything finishes.
    fn finish(&mut self, now: Timestamp) {
        for talk in &mut self.talks {
            let done = talk.heard == talk.expected && talk.queued == talk.total;
            if talk.is_open && done && !talk.finished && talk.closed.is_none() {
                talk.finished = true;
                self.stack.finish(now, talk.id, None);
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.talks.iter().all(|talk| talk.closed.is_some())
    }

    /// Drops the held payloads, so that only the stack's own buffers are in use.
    pub(crate) fn let_go(&mut self) {
        self.held.clear();
    }

    /// The time of the next event that needs no frame.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let timer = self.stack.next_timer(now).map(|wait| now + wait);
        let output = (self.stack.has_output() || self.device.inner().inner().waiting() > 0).then_some(now);
        [timer, self.device.next_arrival(), output].into_iter().flatten().min()
    }

    /// Writes the last frames to a file for the analysis of a failure.
    pub(crate) fn dump(&self, name: &str) {
        let path = std::env::temp_dir().join(format!("{name}.pcap"));
        if std::fs::write(&path, pcap(std::slice::from_ref(&self.capture))).is_ok() {
            eprintln!("last frames: {}", path.display());
        }
    }
}
