//! Sizes of a backend and settings of a listener.

use crate::{PoolSize, PoolsConfig};
use std::net::SocketAddr;
use std::time::Duration;

/// Sizes of one backend. Everything is reserved when the backend is made.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// At most so many connections are held; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// At most so many completions are appended by one [`Backend::poll`](crate::Backend::poll).
    pub batch_max: usize,
    /// Sizes of the buffer pools.
    pub pools: PoolsConfig,
    /// Queued pieces (24 bytes each) that all connections share. Each connection has one piece of
    /// its own besides, which no other connection can take.
    pub send_pieces_shared: usize,
    /// At most so many bytes are queued for one connection, not counting what its socket has taken;
    /// see [`Priority`](crate::Priority).
    pub send_queue_bytes_max: usize,
    /// A piece of at most so many bytes is copied out of a larger block when it has to wait.
    pub copy_break: usize,
    /// A connection that was quiet for this long may be moved to a cheaper kind of waiting, in
    /// which new ones begin (io_uring only; `None`: never).
    pub idle_demote: Option<Duration>,
}

impl BackendConfig {
    /// A small backend for tests and tools: `connections_max` connections, a few MiB of buffers.
    pub fn small(connections_max: usize) -> BackendConfig {
        BackendConfig {
            connections_max,
            batch_max: 256,
            pools: PoolsConfig {
                receive: PoolSize { size: 4096, count: 512 },
                blocks: vec![
                    PoolSize { size: 256, count: 1024 },
                    PoolSize { size: 4096, count: 256 },
                    PoolSize { size: 128 << 10, count: 16 },
                ],
                huge_pages: false,
            },
            send_pieces_shared: 16 << 10,
            send_queue_bytes_max: 1 << 20,
            copy_break: 512,
            idle_demote: None,
        }
    }
}

/// Settings of a listening socket. Options are set on the listener; accepted connections inherit
/// them.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Address to listen at; port 0 lets the system choose.
    pub address: SocketAddr,
    /// At most so many connections wait to be accepted (capped by net.core.somaxconn).
    pub backlog: u32,
    /// SO_SNDBUF in bytes; `None` leaves the kernel's own tuning.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF in bytes; `None` leaves the kernel's own tuning.
    pub receive_buffer: Option<usize>,
    /// TCP_NOTSENT_LOWAT in bytes: how much unsent data the kernel holds before a send has to wait.
    pub not_sent_low_water: Option<u32>,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay without an acknowledgement.
    pub user_timeout: Option<Duration>,
}

impl ListenerConfig {
    /// Listens at `address` with the system's own buffer tuning.
    pub fn new(address: SocketAddr) -> ListenerConfig {
        ListenerConfig {
            address,
            backlog: 4096,
            send_buffer: None,
            receive_buffer: None,
            not_sent_low_water: None,
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// A listener of one backend, numbered from 0 in the order of
/// [`Backend::listen`](crate::Backend::listen).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u8);
