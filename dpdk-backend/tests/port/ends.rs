//! The kernel's TCP as the peer in the difficult cases: ends in every order, resets in every state,
//! bad lines, silence.

use crate::host::{Tap, host_on, wait_for_turn};
use crate::kernel::{PORT, addresses, connect, connect_within, give_addresses, round};
use crate::namespace::run;
use dpdk_backend::backend::{PollBackend, SystemClock};
use dpdk_backend::device::{Device, Impair, ImpairConfig};
use dpdk_backend::ffi::{Offloads, PortFacts, Queue};
use dpdk_backend::tcp::{Keepalive, TcpConfig};
use netpoll::{Backend, BackendConfig, CloseReason, Completion, Completions, Introspect, ListenerConfig};
use rustix::net::sockopt;
use std::hash::{DefaultHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The events of [`serve`], and its counters.
struct Report {
    closed: Vec<CloseReason>,
    counters: Vec<(&'static str, u64)>,
    is_empty: bool,
}

impl Report {
    fn count(&self, name: &str) -> u64 {
        self.counters.iter().find(|one| one.0 == name).expect("a counter").1
    }
}

/// The first byte is the request: E an echo, S many bytes that may never be read, F a finish, C a
/// close.
fn serve<D: Device>(mut host: PollBackend<D, SystemClock>, stop: &AtomicBool) -> Report {
    let _thread = crate::host::eal().enter().expect("a thread of DPDK's");
    let mut batch = Completions::with_capacity(256);
    let mut closed = vec![];
    let mut wanted = std::collections::HashMap::new();
    let mut quiet_since = Instant::now();
    // After the stop, closed connections still complete.
    while !stop.load(Ordering::Relaxed)
        || (!host.stack().is_empty() && quiet_since.elapsed() < Duration::from_secs(10))
    {
        if !stop.load(Ordering::Relaxed) {
            quiet_since = Instant::now();
        }
        host.poll(Duration::from_millis(5), &mut batch).expect("a poll");
        let completions: Vec<Completion> = batch.drain().collect();
        for completion in completions {
            match completion {
                Completion::Received { connection, buffer } => {
                    match *wanted.entry(connection).or_insert(buffer.as_slice()[0]) {
                        b'S' => (0..12).for_each(|_| {
                            let mut much = host.pools().take(60_000).expect("a block");
                            much.set_len(60_000);
                            let _ = host.send(connection, much.freeze()); // unless it has ended
                        }),
                        b'F' => {
                            let farewell = host.pools().copy(b"bye").expect("a block").freeze();
                            host.finish(connection, Some(farewell));
                        }
                        b'C' => host.close(connection),
                        _ => drop(host.send(connection, buffer.freeze())),
                    }
                }
                Completion::Closed { connection, reason } => {
                    wanted.remove(&connection);
                    closed.push(reason);
                }
                _ => {}
            }
        }
    }
    let mut counters = vec![];
    host.details(&mut |name, count| counters.push((name, count)));
    Report { closed, counters, is_empty: host.stack().is_empty() }
}

struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Server {
    fn start<D: Device + Send + 'static>(
        device: D,
        facts: &PortFacts,
        adjust: impl FnOnce(&mut TcpConfig) + Send + 'static,
    ) -> Server {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, facts) = (Arc::clone(&stop), facts.clone());
        let thread = std::thread::spawn(move || {
            let config = BackendConfig { send_queue_bytes_max: 8 << 20, ..BackendConfig::small(256) };
            let mut host = host_on(&config, device, &facts, &addresses(), 3, adjust);
            for address in addresses() {
                host.listen(&ListenerConfig::new(SocketAddr::new(address, PORT))).expect("a listener");
            }
            serve(host, &stopped)
        });
        Server { stop, thread: Some(thread) }
    }

    fn end(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("a server without a panic")
    }
}

impl Drop for Server {
    /// Removes the device after the test, also when it failed.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open(tap: &Tap) -> (Queue, PortFacts) {
    let (mut queues, facts) = tap.open(1, 1024, Offloads::All);
    give_addresses(tap);
    (queues.remove(0), facts)
}

fn ask(what: u8) -> TcpStream {
    let mut stream = connect(addresses()[0]);
    stream.write_all(&[what]).expect("a byte out");
    stream
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).expect("the rest, and a FIN");
    bytes
}

/// A reset instead of a FIN.
fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER");
    drop(stream);
}

fn pause() {
    std::thread::sleep(Duration::from_millis(60));
}

/// The bytes of a long stream at `offset`, a multiple of eight: numbers that do not repeat.
fn fill(offset: u64, out: &mut [u8]) {
    for (word, number) in out.chunks_mut(8).zip(offset / 8..) {
        let bytes = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
}

/// `TCP_BYTES=2147483648` is the long run.
#[test]
fn a_long_stream_comes_back_with_the_same_hash() {
    const AHEAD_MAX: u64 = 2 << 20;
    let total = std::env::var("TCP_BYTES").map_or(64 << 20, |bytes| bytes.parse::<u64>().expect("bytes"));
    let _turn = wait_for_turn();
    let tap = Tap::new("bulk");
    let (queue, facts) = open(&tap);
    let server = Server::start(queue, &facts, |_| {});
    let start = Instant::now();
    let mut stream = ask(b'E');
    stream.read_exact(&mut [0]).expect("an echo");
    let heard = Arc::new(AtomicU64::new(0));
    let (mut writer, so_far) = (stream.try_clone().expect("a clone"), Arc::clone(&heard));
    let writing = std::thread::spawn(move || {
        let (mut hasher, mut chunk, mut sent) = (DefaultHasher::new(), vec![0; 64 << 10], 0);
        while sent < total {
            if sent - so_far.load(Ordering::Relaxed) > AHEAD_MAX {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            let size = (total - sent).min(chunk.len() as u64) as usize;
            fill(sent, &mut chunk[..size]);
            hasher.write(&chunk[..size]);
            writer.write_all(&chunk[..size]).expect("bytes out");
            sent += size as u64;
        }
        hasher.finish()
    });
    let (mut hasher, mut chunk) = (DefaultHasher::new(), vec![0; 64 << 10]);
    while heard.load(Ordering::Relaxed) < total {
        let size = stream.read(&mut chunk).expect("bytes back");
        assert!(size > 0, "an early end");
        hasher.write(&chunk[..size]);
        heard.fetch_add(size as u64, Ordering::Relaxed);
    }
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert!(rest(&mut stream).is_empty());
    let (sent, came) = (writing.join().expect("a writer without a panic"), hasher.finish());
    eprintln!("{total} bytes each way in {:?}, hashes {sent:016x} and {came:016x}", start.elapsed());
    assert_eq!(sent, came);
    let report = server.end();
    assert_eq!((report.count("bytes_received"), report.count("drop_tcp_checksum")), (total + 1, 0));
}

#[test]
fn either_side_may_finish_first() {
    let _turn = wait_for_turn();
    let tap = Tap::new("ends");
    let (queue, facts) = open(&tap);
    let server = Server::start(queue, &facts, |_| {});
    // The client first, while the server still has much to send; then it receives everything.
    let mut stream = ask(b'S');
    pause();
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert_eq!(rest(&mut stream).len(), 720_000);
    // The client first, with nothing to receive.
    let mut stream = connect(addresses()[0]);
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert!(rest(&mut stream).is_empty());
    // The server first; the client continues to send for a while.
    let mut stream = ask(b'F');
    assert_eq!(rest(&mut stream), b"bye");
    for _ in 0..20 {
        stream.write_all(&[7; 5000]).expect("the other direction is open");
    }
    drop(stream);
    // The server closes for good.
    let mut stream = ask(b'C');
    assert!(rest(&mut stream).is_empty());
    drop(stream);
    // Both at once: a client that sends its FIN with the request need not receive anything more.
    let mut stream = ask(b'F');
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert!(b"bye".starts_with(&rest(&mut stream)));
    drop(stream);
    pause();
    let report = server.end();
    assert!(report.is_empty, "something is left");
    let peers = report.closed.iter().filter(|reason| **reason == CloseReason::PeerClosed).count();
    assert_eq!((report.closed.len(), report.count("connections_accepted")), (5, 5), "{:?}", report.closed);
    assert!((2..=3).contains(&peers), "{:?}", report.closed);
    assert_eq!(report.count("resets_sent"), 0);
}

#[test]
fn a_reset_ends_every_state() {
    let _turn = wait_for_turn();
    let tap = Tap::new("resets");
    let (queue, facts) = open(&tap);
    let server = Server::start(queue, &facts, |_| {});
    // SYN-RECEIVED or just beyond it; ESTABLISHED, idle; with bytes in flight that are never read.
    reset(connect(addresses()[0]));
    let stream = connect(addresses()[0]);
    pause();
    reset(stream);
    let stream = ask(b'S');
    pause();
    reset(stream);
    // CLOSE-WAIT: the client has finished, the server's queue is full.
    let stream = ask(b'S');
    pause();
    stream.shutdown(Shutdown::Write).expect("a FIN");
    pause();
    reset(stream);
    // FIN-WAIT-2, of an owner and of an orphan.
    for what in [b'F', b'C'] {
        let mut stream = ask(what);
        rest(&mut stream);
        reset(stream);
    }
    // LAST-ACK or gone: both have finished.
    let mut stream = ask(b'E');
    stream.read_exact(&mut [0]).expect("an echo");
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert!(rest(&mut stream).is_empty());
    reset(stream);
    // And other connections are served.
    let mut stream = ask(b'E');
    stream.read_exact(&mut [0]).expect("an echo");
    drop(stream);
    pause();
    let report = server.end();
    assert!(report.is_empty, "something is left");
    assert_eq!((report.closed.len(), report.count("connections_accepted")), (8, 8), "{:?}", report.closed);
    let resets = report.closed.iter().filter(|reason| **reason == CloseReason::PeerReset).count();
    assert!(resets >= 4, "{:?}", report.closed);
}

#[test]
fn streams_survive_a_bad_line_of_our_own() {
    let _turn = wait_for_turn();
    let tap = Tap::new("badline");
    let (queue, facts) = open(&tap);
    let line = ImpairConfig {
        drop: 0.03,
        duplicate: 0.03,
        corrupt: 0.02,
        reorder: 0.1,
        delay: Duration::from_millis(1),
        jitter: Duration::from_micros(500),
        reorder_delay: Duration::from_millis(4),
        frames_max: 2048,
    };
    let server = Server::start(Impair::new(queue, line, 77), &facts, |_| {});
    for address in addresses() {
        for size in [1, 5000, 300_000] {
            round(connect(address), size);
        }
    }
    let report = server.end();
    assert_eq!(report.count("bytes_received"), 2 * (1 + 5000 + 300_000));
    assert!(report.count("retransmits") > 0, "the line lost something");
}

#[test]
fn streams_survive_one_frame_in_five_lost_each_way() {
    let _turn = wait_for_turn();
    let tap = Tap::new("lossy");
    let (queue, facts) = open(&tap);
    let server = Server::start(queue, &facts, |_| {});
    let losses = ["INPUT -i", "OUTPUT -o"]
        .map(|chain| format!("{chain} lossy -m statistic --mode random --probability 0.2 -j DROP"));
    losses.iter().for_each(|rule| run("iptables", &format!("-A {rule}")));
    // Silence doubles with each loss: a time limit beyond any that chance can cause.
    let streams: Vec<_> = (0..4).map(|_| connect_within(addresses()[0], Duration::from_secs(300))).collect();
    let rounds: Vec<_> =
        streams.into_iter().map(|stream| std::thread::spawn(move || round(stream, 40_000))).collect();
    let ended = rounds.into_iter().map(JoinHandle::join).filter(Result::is_ok).count();
    losses.iter().for_each(|rule| run("iptables", &format!("-D {rule}")));
    let report = server.end();
    assert_eq!(ended, 4);
    // Of the 110 segments that it sends at least, 22 are lost on average; four or fewer once in
    // millions of runs.
    assert!(report.count("retransmits") > 4, "{}", report.count("retransmits"));
}

#[test]
fn silences_are_probed_and_probes_are_answered() {
    let _turn = wait_for_turn();
    let tap = Tap::new("silent");
    let (queue, facts) = open(&tap);
    let server = Server::start(queue, &facts, |tcp| {
        tcp.timeouts.keepalive = Some(Keepalive { idle_ms: 500, interval_ms: 200, probes_max: 5 });
    });
    let mut there = ask(b'E');
    there.read_exact(&mut [0]).expect("an echo");
    sockopt::set_socket_keepalive(&there, true).expect("SO_KEEPALIVE");
    sockopt::set_tcp_keepidle(&there, Duration::from_secs(1)).expect("TCP_KEEPIDLE");
    sockopt::set_tcp_keepintvl(&there, Duration::from_secs(1)).expect("TCP_KEEPINTVL");
    sockopt::set_tcp_keepcnt(&there, 1).expect("TCP_KEEPCNT");
    // Both send requests, and both answer.
    std::thread::sleep(Duration::from_millis(3500));
    there.write_all(b"?").expect("still open");
    there.read_exact(&mut [0]).expect("an echo");
    // Then the link is cut: both give up.
    run("iptables", "-A INPUT -i silent -j DROP");
    run("iptables", "-A OUTPUT -o silent -j DROP");
    let error = there.read(&mut [0]).expect_err("the host is gone");
    run("iptables", "-D INPUT -i silent -j DROP");
    run("iptables", "-D OUTPUT -o silent -j DROP");
    let report = server.end();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(report.closed, [CloseReason::TimedOut]);
    assert!(report.count("keepalive_probes") > 5, "{}", report.count("keepalive_probes"));
}
