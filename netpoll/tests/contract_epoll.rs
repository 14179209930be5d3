//! The contract suite over epoll and the kernel's loopback.

use netpoll::epoll::EpollBackend;
use netpoll_contract::{Setup, Side, SuccessorWorld, World, contract_suite, handover_suite};

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

impl SuccessorWorld for Epoll {
    fn successor(&mut self, side: Side, setup: &Setup) -> EpollBackend {
        let config = if side == Side::Server { &setup.server } else { &setup.client };
        EpollBackend::new(config).expect("an epoll backend")
    }
}

contract_suite!(Epoll);
handover_suite!(Epoll);
