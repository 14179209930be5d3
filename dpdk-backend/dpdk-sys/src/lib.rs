//! Bindings to the installed DPDK: what bindgen makes of its headers and of `shim/shim.h`.
//!
//! Empty without the feature `dpdk`. The calls that move packets are inline functions in DPDK's
//! headers, and the fields of a packet buffer are where each release puts them; both are reached
//! through the shim, which is compiled against the same headers. Safe names for all of this are in
//! `dpdk-backend/src/ffi`.

#[cfg(feature = "dpdk")]
#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

#[cfg(feature = "dpdk")]
pub use bindings::*;
