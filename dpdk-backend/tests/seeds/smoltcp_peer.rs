//! Engine against smoltcp, an independent implementation.
//!
//! smoltcp 0.14 forgets its retransmission timer in two rare cases: when a shut window opens again
//! while more is in flight, and when both ends close at once and its FIN is lost. Such a peer has
//! unacknowledged bytes, no timer, and an empty line: nothing more will happen. A run that reaches
//! this state ends there, and such runs are counted.

use crate::host::{Host, PORT, Talk, address};
use dpdk_backend::ListenLimits;
use dpdk_backend::device::{Device as _, Frame, Impair, ImpairConfig, Loopback, Received};
use netpoll::sim::Rng;
use netpoll::{BackendConfig, BufferPools, ConnectionId, Timestamp};
use netpoll_contract::Pattern;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TIME_MAX: Duration = Duration::from_secs(4 * 3600);
const ROUNDS_MAX: usize = 400_000;

/// Longer than any timer of the host, which may make a silent peer send.
const STUCK_AFTER: Duration = Duration::from_secs(300);

/// Runs that ended at a peer without a timer.
static PEERS_STUCK: AtomicU64 = AtomicU64::new(0);

/// The other end of the line, as smoltcp wants it.
struct Phy {
    end: Impair<Loopback>,
    pools: BufferPools,
    frames: Vec<Received>,
    now: Timestamp,
    mtu: usize,
}

struct Rx(Received);
struct Tx<'a>(&'a mut Impair<Loopback>, Timestamp);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.buffer.as_slice())
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        let _ = self.0.transmit(self.1, &Frame::whole(&bytes));
        result
    }
}

impl Device for Phy {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        self.end.receive_burst(self.now, &mut self.pools, &mut self.frames);
        let frame = self.frames.pop()?;
        Some((Rx(frame), Tx(&mut self.end, self.now)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.end, self.now))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

struct Peer {
    phy: Phy,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    talk: Talk,
}

fn ip(number: u8, v6: bool) -> IpAddress {
    address(number, v6).into()
}

impl Peer {
    fn new(end: Impair<Loopback>, v6: bool, mtu: u16, talk: Talk, now: Timestamp, rng: &mut Rng) -> Peer {
        let mut config = BackendConfig::small(1);
        config.pools.receive.size = 2048;
        let pools = BufferPools::new(&config.pools).expect("pools");
        let mut phy = Phy { end, pools, frames: Vec::with_capacity(1), now, mtu: usize::from(mtu) };
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 2]).into());
        config.random_seed = rng.next_u64();
        let mut interface = Interface::new(config, &mut phy, instant(now));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(ip(2, v6), if v6 { 64 } else { 24 })).expect("room for one");
        });
        let size = 1024 << rng.below(7);
        let buffer = || tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        if rng.below(2) == 0 {
            socket.set_congestion_control(tcp::CongestionControl::Cubic);
        }
        if rng.below(2) == 0 {
            socket.set_tsval_generator(Some(|| 0x1234_5678));
        }
        socket.set_nagle_enabled(rng.below(2) == 0);
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        Peer { phy, interface, sockets, handle, talk }
    }

    fn connect(&mut self, v6: bool) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.connect(self.interface.context(), (ip(1, v6), PORT), 1000).expect("connecting starts");
    }

    fn listen(&mut self) {
        self.sockets.get_mut::<tcp::Socket<'_>>(self.handle).listen(PORT).expect("a free port");
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        self.phy.now = now;
        let changed = self.interface.poll(instant(now), &mut self.phy, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let talk = &mut self.talk;
        talk.is_open |= socket.may_send();
        while socket.can_send() && talk.queued < talk.total {
            let sent = socket
                .send(|room| {
                    let size = room.len().min(talk.total - talk.queued);
                    talk.says.fill(talk.queued, &mut room[..size]);
                    (size, size)
                })
                .expect("it can send");
            talk.queued += sent;
        }
        while socket.can_recv() {
            let heard = socket
                .recv(|bytes| {
                    talk.hears.check(talk.heard, bytes);
                    (bytes.len(), bytes.len())
                })
                .expect("it can receive");
            talk.heard += heard;
        }
        if talk.is_open && talk.queued == talk.total && talk.heard == talk.expected && !talk.finished {
            talk.finished = true;
            socket.close();
        }
        self.interface.poll(instant(now), &mut self.phy, &mut self.sockets);
        self.phy.end.transmit_burst(now);
        matches!(changed, smoltcp::iface::PollResult::SocketStateChanged)
    }

    fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    fn is_over(&self) -> bool {
        matches!(self.state(), tcp::State::Closed | tcp::State::TimeWait)
    }

    /// Whether the peer has unacknowledged bytes that no timer will ever send again.
    fn is_stuck(&mut self, now: Timestamp) -> bool {
        let waits = match self.state() {
            tcp::State::FinWait1 | tcp::State::Closing | tcp::State::LastAck => true,
            _ => self.sockets.get::<tcp::Socket<'_>>(self.handle).send_queue() > 0,
        };
        waits && self.next(now).is_none()
    }

    fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        let delay = self.interface.poll_delay(instant(now), &self.sockets);
        let timer = delay.map(|delay| now + Duration::from_micros(delay.total_micros()));
        let waiting = (self.phy.end.inner().waiting() > 0).then_some(now);
        [timer, self.phy.end.next_arrival(), waiting].into_iter().flatten().min()
    }
}

fn instant(now: Timestamp) -> Instant {
    Instant::from_micros((now.as_nanos() / 1000) as i64)
}

fn talks(up: usize, down: usize) -> [Talk; 2] {
    let talk = |says, total, hears, expected| Talk {
        id: ConnectionId::new(1000, u32::MAX),
        says: Pattern::new(says),
        queued: 0,
        total,
        hears: Pattern::new(hears),
        heard: 0,
        expected,
        is_open: false,
        finished: false,
        closed: None,
    };
    [talk(1, up, 2, down), talk(2, down, 1, up)]
}

pub(crate) fn run(seed: u64) {
    let mut rng = crate::rng(seed);
    let mut now = Timestamp::from_nanos(1_000_000_000);
    let v6 = rng.below(3) == 0;
    let mtu = if v6 { 1280 + rng.below(221) } else { 576 + rng.below(925) } as u16;
    let (a, b) = Loopback::pair(256);
    let line = |rng: &mut Rng| {
        // smoltcp repairs one loss per round trip: faults that it can repair in time.
        let line = ImpairConfig::drawn(rng);
        ImpairConfig { frames_max: 256, drop: line.drop.min(0.06), reorder: line.reorder.min(0.1), ..line }
    };
    let (line_a, line_b) = (line(&mut rng), line(&mut rng));
    let mut tcp = super::engine::drawn_tcp(&mut rng);
    tcp.tables.half_open_max = 64;
    let mut host = Host::new((1, v6), (tcp, mtu), a, line_a, &mut rng, now);
    let size = |rng: &mut Rng| {
        let bits = rng.below(16);
        rng.below(1 << bits)
    };
    let [own, theirs] = talks(size(&mut rng), size(&mut rng));
    host.talks.push(own);
    let end = Impair::new(b, line_b, rng.next_u64());
    let mut peer = Peer::new(end, v6, mtu, theirs, now, &mut rng);
    if rng.below(2) == 0 {
        let limits = ListenLimits { user_timeout_ms: 0, flight_bytes_max: 1 << 20, window_max: 1 << 18 };
        host.stack.listen(SocketAddr::new(address(1, v6), PORT), 8, limits).expect("a free port");
        peer.connect(v6);
    } else {
        peer.listen();
        let local = SocketAddr::new(address(1, v6), 1000);
        let remote = SocketAddr::new(address(2, v6), PORT);
        host.talks[0].id = host.stack.connect(now, Some(local), remote).expect("connecting starts");
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drive(&mut host, &mut peer, &mut now, &mut rng);
    }));
    if let Err(failure) = result {
        let counters: Vec<_> = host.stack.counters().iter().filter(|(_, count)| *count > 0).collect();
        eprintln!(
            "{counters:?}\n{:#?}\n{}\n{:#?} {:?}",
            host.talks,
            host.stack.debug(),
            peer.talk,
            peer.state()
        );
        host.dump(&format!("smoltcp-seed-{seed}"));
        std::panic::resume_unwind(failure);
    }
}

fn drive(host: &mut Host, peer: &mut Peer, now: &mut Timestamp, rng: &mut Rng) {
    let end = *now + TIME_MAX;
    let mut progress = (0, false, 0, peer.state());
    let mut since = *now;
    for round in 0.. {
        assert!(round < ROUNDS_MAX && *now < end, "no end after {round} rounds, {:?} left", end.since(*now));
        let any = host.turn(*now, rng) | peer.turn(*now);
        host.stack.invariants();
        if host.is_done() && peer.is_over() {
            host.let_go();
            if host.stack.is_empty() {
                break;
            }
        }
        let reached = (host.talks[0].heard, host.is_done(), peer.talk.heard, peer.state());
        if std::mem::replace(&mut progress, reached) != reached {
            since = *now;
        }
        if now.since(since) > STUCK_AFTER && peer.is_stuck(*now) {
            PEERS_STUCK.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if !any {
            let next = [host.next(*now), peer.next(*now)].into_iter().flatten().min();
            *now = next.unwrap_or(*now + Duration::from_millis(10)).max(*now + Duration::from_micros(50));
        }
    }
    let failed = host.stack.counters().connections_failed > 0 || host.stack.counters().syn_timeouts > 0;
    let talk = &host.talks[0];
    assert!(failed || talk.heard == talk.expected, "heard {} of {}", talk.heard, talk.expected);
    assert!(failed || peer.talk.heard == peer.talk.expected, "the peer heard {}", peer.talk.heard);
}

/// Peers without a timer are about one in twenty thousand. More of them would hide a fault of the
/// engine.
pub(crate) fn check_stuck(runs: u64) {
    let stuck = PEERS_STUCK.load(Ordering::Relaxed);
    eprintln!("engine against smoltcp: {runs} runs, {stuck} ended at a peer that had lost its timer");
    assert!(stuck <= 1 + runs / 5000, "{stuck} of {runs} runs stuck");
}
