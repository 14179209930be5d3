//! The contract suite over io_uring and the kernel's loopback: as it is meant to run, with queues so small that they
//! overflow all the time, and with connections that are demoted as soon as they pause.

use netpoll::{UringBackend, UringConfig};
use netpoll_contract::{Setup, Side, World, contract_suite};

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

mount!(tiny, "io_uring with tiny queues", setup => {
    let uring = UringConfig {
        sq_entries: 16,
        cq_entries: 16,
        accepts_in_flight: 2,
        receive_ring_max: 2,
        kernel_workers_max: 1,
    };
    Pair::new(setup, &uring)
});

mount!(demoting, "io_uring with idle demotion", setup => {
    let mut setup = Setup { server: setup.server.clone(), client: setup.client.clone(), seed: setup.seed };
    setup.server.idle_demote = Some(std::time::Duration::from_micros(200));
    setup.client.idle_demote = Some(std::time::Duration::from_micros(200));
    Pair::new(&setup, &UringConfig::default())
});
