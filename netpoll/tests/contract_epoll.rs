//! The contract suite over epoll and the kernel's loopback.

use netpoll::epoll::EpollBackend;
use netpoll_contract::{Setup, Side, World, contract_suite};

struct Epoll {
    server: EpollBackend,
    client: EpollBackend,
}

impl World for Epoll {
    type Backend = EpollBackend;
    const NAME: &'static str = "epoll";

    fn new(setup: &Setup) -> Epoll {
        let backend = |config| EpollBackend::new(config).expect("an epoll backend");
        Epoll { server: backend(&setup.server), client: backend(&setup.client) }
    }

    fn backend(&mut self, side: Side) -> &mut EpollBackend {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }
}

contract_suite!(Epoll);
