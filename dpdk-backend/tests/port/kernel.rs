//! The kernel's TCP as the peer: connections in both directions, IPv4 and IPv6, with and without
//! offloads, one queue and two.

use crate::host::{Host, Tap, host, wait_for_turn};
use crate::namespace::ip;
use dpdk_backend::ffi::{Offloads, Queue};
use netpoll::{Backend, BackendConfig, Completion, Completions, Introspect, ListenerConfig};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const PORT: u16 = 7;

/// Echoes until it is stopped. Returns the host with its counters.
fn echo(mut host: Host, stop: &AtomicBool) -> Host {
    let _thread = crate::host::eal().enter().expect("a thread of DPDK's");
    let mut batch = Completions::with_capacity(256);
    while !stop.load(Ordering::Relaxed) {
        host.poll(Duration::from_millis(10), &mut batch).expect("a poll");
        let completions: Vec<Completion> = batch.drain().collect();
        for completion in completions {
            let Completion::Received { connection, buffer } = completion else { continue };
            host.send(connection, buffer.freeze()).expect("room for an echo");
        }
    }
    let mut counted = Vec::new();
    host.details(&mut |name, count| counted.push((name, count)));
    counted.retain(|(_, count)| *count > 0);
    eprintln!("{counted:?}"); // shown when the test fails
    host
}

struct Echoes {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Host>>,
}

impl Echoes {
    fn start(queues: Vec<Queue>, facts: &dpdk_backend::ffi::PortFacts, addresses: &[IpAddr]) -> Echoes {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = queues.into_iter().enumerate().map(|(index, queue)| {
            let config = BackendConfig { send_queue_bytes_max: 64 << 20, ..BackendConfig::small(2000) };
            let (facts, addresses, stop) = (facts.clone(), addresses.to_vec(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut host = host(&config, queue, &facts, &addresses, 3 + index as u64);
                for address in addresses {
                    host.listen(&ListenerConfig::new(SocketAddr::new(address, PORT))).expect("a listener");
                }
                echo(host, &stop)
            })
        });
        Echoes { threads: threads.collect(), stop }
    }

    /// Counters of all hosts, added up by name.
    fn end(mut self) -> impl Fn(&str) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut sums = std::collections::BTreeMap::new();
        for thread in self.threads.drain(..) {
            let mut host = thread.join().expect("an echo without a panic");
            host.details(&mut |name, count| *sums.entry(name).or_insert(0) += count);
        }
        move |name: &str| sums[name]
    }
}

impl Drop for Echoes {
    /// Removes the device after the test, also when it failed.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

pub(crate) fn addresses() -> [IpAddr; 2] {
    ["10.77.0.2", "fd77::2"].map(|text| text.parse().expect("an address"))
}

pub(crate) fn give_addresses(tap: &Tap) {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", tap.interface), "0")
        .expect("/proc/sys");
    ip(&format!("address add 10.77.0.1/24 dev {}", tap.interface));
    ip(&format!("address add fd77::1/64 dev {} nodad", tap.interface));
    ip(&format!("link set {} up", tap.interface));
}

pub(crate) fn connect(address: IpAddr) -> TcpStream {
    connect_within(address, Duration::from_secs(20))
}

/// A stream that may take `patience` for its connect, and for each read.
pub(crate) fn connect_within(address: IpAddr, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), patience);
    let stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    stream
}

/// Bytes that differ after any cut or repetition.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// Sends `size` bytes, reads them back, and closes both ends.
pub(crate) fn round(stream: TcpStream, size: usize) {
    let bytes = pattern(size);
    let (mut reader, mut writer) = (stream.try_clone().expect("a clone"), stream);
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).expect("bytes out");
    });
    let mut back = vec![0; size];
    reader.read_exact(&mut back).expect("bytes back");
    reader.shutdown(Shutdown::Write).expect("a FIN");
    assert_eq!(reader.read(&mut [0; 1]).expect("the other FIN"), 0);
    writing.join().expect("a writer without a panic");
    assert!(back == bytes, "{} of {size} bytes came back, or others", back.len());
}

fn streams(offloads: Offloads, queues: u16) {
    let _turn = wait_for_turn();
    let tap = Tap::new("kernel");
    let (queues, facts) = tap.open(queues, 1024, offloads);
    eprintln!("{facts:?}");
    give_addresses(&tap);
    let count = queues.len();
    let echoes = Echoes::start(queues, &facts, &addresses());
    for address in addresses() {
        for size in [1, 64, 1460, 100_000, 5_000_000] {
            round(connect(address), size);
        }
        // Several at once, so that every queue has some.
        let many: Vec<_> = (0..32).map(|_| connect(address)).collect();
        many.into_iter().for_each(|stream| round(stream, 3000));
    }
    let counted = echoes.end();
    assert_eq!(counted("connections_accepted"), 2 * (5 + 32));
    assert_eq!(counted("bytes_received"), 2 * (1 + 64 + 1460 + 100_000 + 5_000_000 + 32 * 3000));
    for name in [
        "drop_tcp_checksum",
        "port_drop_segments",
        "port_drop_foreign_buffer",
        "port_drop_lost_buffer",
        "port_drop_refused",
        "resets_sent",
    ] {
        assert_eq!(counted(name), 0, "{name}, {count} queues");
    }
}

#[test]
fn streams_with_the_cards_checksums() {
    streams(Offloads::All, 1);
}

#[test]
fn streams_without_offloads() {
    streams(Offloads::None, 1);
}

#[test]
fn streams_on_two_queues() {
    streams(Offloads::All, 2);
}

/// Of each queue, in the test below.
const CONNECTS: usize = 8;

#[test]
fn an_answer_to_one_queues_question_is_heard_by_the_other() {
    let _turn = wait_for_turn();
    let tap = Tap::new("active");
    let (queues, facts) = tap.open(2, 512, Offloads::All);
    give_addresses(&tap);
    let listener = std::net::TcpListener::bind("10.77.0.1:9000").expect("a kernel's listener");
    let mut hosts: Vec<Host> = queues
        .into_iter()
        .enumerate()
        .map(|(index, queue)| host(&BackendConfig::small(8), queue, &facts, &addresses()[..1], index as u64))
        .collect();
    let remote = "10.77.0.1:9000".parse().expect("an address");
    for host in &mut hosts {
        for _ in 0..CONNECTS {
            host.connect(None, remote).expect("a connect");
        }
    }
    let mut open = 0;
    let mut batch = Completions::with_capacity(16);
    for _ in 0..2000 {
        for host in &mut hosts {
            host.poll(Duration::from_millis(1), &mut batch).expect("a poll");
            open += batch.drain().filter(|one| matches!(one, Completion::Connected { .. })).count();
        }
        if open > 0 && hosts.iter_mut().all(|host| host.stack().counters().arp_replies > 0) {
            break;
        }
    }
    // The kernel chooses the queue that it answers by, and an answer by the other one is refused.
    // Queues that open connections actively therefore have an address each. This test requires that
    // both resolve the neighbor. With an even chance each, all of them are refused once in 65 536
    // times.
    assert!(open > 0);
    for host in &mut hosts {
        assert!(host.stack().counters().arp_replies > 0, "each has heard the answer");
    }
    drop(listener);
}
