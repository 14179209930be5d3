//! The contract suite over io_uring and the kernel's loopback: as in production, with queues so
//! small that they overflow all the time, with connections that are demoted as soon as they pause,
//! and with both sides as a ring group: one thread that waits for all of its rings at once, outside
//! of them.

use netpoll::{Backend, Completions, SharedWait, SharesThread, UringBackend, UringConfig};
use netpoll_contract::{Setup, Side, World, contract_suite};
use std::io;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

struct Pair {
    server: UringBackend,
    client: UringBackend,
}

impl Pair {
    fn new(setup: &Setup, uring: &UringConfig) -> Pair {
        let backend = |config| UringBackend::new(config, uring).expect("an io_uring backend");
        Pair { server: backend(&setup.server), client: backend(&setup.client) }
    }

    fn side(&mut self, side: Side) -> &mut UringBackend {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }
}

/// Mounts the suite in a module of its own.
macro_rules! mount {
    ($module:ident, $name:literal, $setup:ident => $new:expr) => {
        mod $module {
            use super::*;

            struct Uring(Pair);

            impl World for Uring {
                type Backend = UringBackend;
                const NAME: &'static str = $name;

                fn new($setup: &Setup) -> Uring {
                    Uring($new)
                }

                fn backend(&mut self, side: Side) -> &mut UringBackend {
                    self.0.side(side)
                }
            }

            contract_suite!(Uring);
        }
    };
}

mount!(normal, "io_uring", setup => Pair::new(setup, &UringConfig::default()));

const TINY: UringConfig = UringConfig {
    sq_entries: 16,
    cq_entries: 16,
    accepts_in_flight: 2,
    receive_ring_max: 2,
    kernel_workers_max: 1,
};

mount!(tiny, "io_uring with tiny queues", setup => Pair::new(setup, &TINY));

mount!(demoting, "io_uring with idle demotion", setup => {
    let mut setup = Setup { server: setup.server.clone(), client: setup.client.clone(), seed: setup.seed };
    setup.server.idle_demote = Some(std::time::Duration::from_micros(200));
    setup.client.idle_demote = Some(std::time::Duration::from_micros(200));
    Pair::new(&setup, &UringConfig::default())
});

/// Both sides in one ring group. A poll that may wait sleeps outside the rings, as the owner of a
/// thread with several would.
struct SharingPair {
    shared: SharedWait,
    pair: Pair,
}

impl SharingPair {
    fn new(setup: &Setup, uring: &UringConfig) -> SharingPair {
        let (shared, mut pair) = (SharedWait::new().unwrap(), Pair::new(setup, uring));
        for side in Side::BOTH {
            pair.side(side).join_wait(shared.slot(side as usize)).unwrap();
        }
        SharingPair { shared, pair }
    }

    fn poll(&mut self, side: Side, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        let woken = self.shared.take_woken(side as usize);
        let backend = self.pair.side(side);
        backend.poll(Duration::ZERO, batch)?;
        if woken || wait.is_zero() || !batch.is_empty() {
            return Ok(());
        }
        let wait = backend.flush_before_wait(wait)?;
        if !wait.is_zero() {
            backend.watch(true);
            fence(Ordering::SeqCst);
            self.shared.sleep(wait, || backend.is_ready())?;
            backend.watch(false);
            self.shared.take_woken(side as usize);
        }
        backend.poll(Duration::ZERO, batch)
    }
}

/// Mounts the suite over [`SharingPair`] in a module of its own.
macro_rules! mount_shared {
    ($module:ident, $name:literal, $uring:expr) => {
        mod $module {
            use super::*;

            struct Uring(SharingPair);

            impl World for Uring {
                type Backend = UringBackend;
                const NAME: &'static str = $name;

                fn new(setup: &Setup) -> Uring {
                    Uring(SharingPair::new(setup, &$uring))
                }

                fn backend(&mut self, side: Side) -> &mut UringBackend {
                    self.0.pair.side(side)
                }

                fn poll(&mut self, side: Side, wait: Duration, batch: &mut Completions) -> io::Result<()> {
                    self.0.poll(side, wait, batch)
                }
            }

            contract_suite!(Uring);
        }
    };
}

mount_shared!(group, "io_uring, a ring group", UringConfig::default());
mount_shared!(tiny_group, "io_uring with tiny queues, a ring group", TINY);
