//! What this binary is: version, commit, and what was built into it.

#[cfg(feature = "dpdk")]
macro_rules! backends {
    () => {
        "io_uring, epoll, dpdk"
    };
}

#[cfg(not(feature = "dpdk"))]
macro_rules! backends {
    () => {
        "io_uring, epoll (dpdk is not in this binary: build with --features dpdk)"
    };
}

/// Version and commit, for one line.
pub(crate) const SHORT: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("GATEWAY_COMMIT"), ", ", env!("GATEWAY_COMMIT_DATE"), ")");

/// The same, and all else that a report of a problem needs.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("GATEWAY_COMMIT"),
    ", ",
    env!("GATEWAY_COMMIT_DATE"),
    "\nbackends: ",
    backends!(),
    "\ntarget:   ",
    env!("GATEWAY_TARGET"),
    "\ncompiler: ",
    env!("GATEWAY_RUSTC")
);
