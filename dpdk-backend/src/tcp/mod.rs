//! The TCP engine.
//!
//! ```text
//!   segment ─► flow table ─┬─► control block: input → acknowledge → receive          (RFC 9293, 3.10.7.4)
//!                          ├─► SYN cache: listen                                     (3.10.7.2)
//!                          ├─► TIME-WAIT record                                      (6191)
//!                          └─► nothing: cookie, SYN to a listener, or reset          (3.10.7.1)
//!   poll ─► timers ─► delayed acknowledgements ─► opened windows ─► output of what became dirty
//! ```
//!
//! Input never sends payload: it changes blocks, queues control frames and marks blocks dirty.
//! Output, once a turn and block, decides what leaves and makes the headers. So a burst of segments
//! costs one acknowledgement a connection, and a reply of the owner's carries it.
//!
//! All that a connection has are indexes into tables of fixed size: `control_block` always,
//! `active` while something is going on, and in the stores of `send_queue`, `scoreboard` and
//! `out_of_order`.

mod config;
mod congestion;
mod control;
mod engine;
mod input;
mod output;
mod segment;
mod seq;
mod tables;

pub use config::{
    ConnectionLimits, EphemeralPorts, Keepalive, Rates, StoreSizes, TableSizes, TcpConfig, Timeouts,
};
pub(crate) use control::owner::{ConnectFailure, Report};
pub(crate) use engine::{Context, Limits, Tcp};
pub(crate) use output::stream::Line;
pub(crate) use segment::Segment;

/// Bytes of a control block.
pub const CONTROL_BLOCK_BYTES: usize = size_of::<tables::control_block::ControlBlock>();
/// Bytes of an active block.
pub const ACTIVE_BLOCK_BYTES: usize = size_of::<tables::active::Active>();
/// Bytes that a flow takes in the flow table.
pub const FLOW_BYTES: usize = tables::flow_table::FlowTable::BYTES_PER_FLOW;
