//! Kinds of backends.

/// An IO backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// io_uring with direct descriptors.
    IoUring,
    /// epoll.
    Epoll,
    /// A card in poll mode.
    Dpdk,
}

impl BackendKind {
    /// Name in the configuration and as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            BackendKind::IoUring => "io_uring",
            BackendKind::Epoll => "epoll",
            BackendKind::Dpdk => "dpdk",
        }
    }
}
