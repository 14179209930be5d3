//! The TCP engine.
//!
//! ```text
//!   segment ─► flow table ─┬─► control block: connection                (RFC 9293, 3.10.7.4)
//!                          ├─► SYN cache: half_open                     (3.10.7.2)
//!                          ├─► TIME-WAIT record: time_wait              (6191)
//!                          └─► nothing: listen (SYN, cookie, or reset)  (3.10.7.1)
//!   poll ─► timers ─► delayed acknowledgements ─► opened windows ─► output of dirty blocks
//! ```
//!
//! Input never sends payload: it changes blocks, queues control frames and marks blocks dirty.
//! Output runs once per turn and block; it decides what leaves and writes the headers. A burst of
//! segments therefore costs one acknowledgement per connection, which a reply of the owner carries.
//!
//! A connection consists of indexes into tables of fixed size: `control_block` always, `active`
//! while it sends or receives, and entries in the stores of `send_queue`, `scoreboard` and
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
