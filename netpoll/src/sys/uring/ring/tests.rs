use super::*;
use crate::sys::socket;
use crate::{BufferPools, ListenerConfig, PoolSize, PoolsConfig};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::AsFd;

/// A ring with everything in flight that may write to its memory, or hold a payload.
fn busy(pools: &mut BufferPools, wanted: RingSetup) -> Ring {
    let mut ring = Ring::new(wanted, 8, 4).unwrap();
    let (left, right) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    ring.install(0, left.as_fd()).unwrap();
    ring.install(1, right.as_fd()).unwrap();
    for _ in 0..4 {
        ring.lend(pools.take_receive().unwrap());
    }
    ring.publish();
    let (listener, _) = socket::listen(&ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    socket::set_blocking(&listener).unwrap();
    let position = ring.add_listener(2);
    assert!(ring.reserve(8));
    ring.receive(ConnectionId::new(0, 0));
    ring.discard(ConnectionId::new(1, 0));
    ring.wait_writable(ConnectionId::new(1, 0));
    ring.accept(listener.as_fd(), AcceptId { listener: position, position: 0 }, 2);
    ring.enter(0, None).unwrap();
    // Not submitted yet.
    ring.accept(listener.as_fd(), AcceptId { listener: position, position: 1 }, 3);
    ring.send(ConnectionId::new(1, 0), &pools.copy(b"on its way").unwrap().freeze());
    ring.shutdown_write(ConnectionId::new(1, 0));
    ring
}

#[test]
fn a_ring_ends_its_operations_and_gives_its_memory_back() {
    let size = PoolSize { size: 64, count: 4 };
    let config = PoolsConfig { receive: size, blocks: vec![size], huge_pages: false };
    let best = RingSetup::best(16, 64);
    let plain = RingSetup { mode: setup::RingMode::Plain, ..best };
    for wanted in [best, plain] {
        let mut pools = BufferPools::new(&config).unwrap();
        for round in 0..20 {
            drop(busy(&mut pools, wanted));
            assert!(pools.is_full(), "round {round}: a buffer was leaked");
        }
    }
}
