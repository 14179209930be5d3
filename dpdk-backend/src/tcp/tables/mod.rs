//! What the engine keeps, in memory of fixed size: blocks, records, lists and stores. Nothing here
//! knows the engine.
//!
//! * A connection: `control_block` (always), `active` (while something is going on), in lists of
//!   the turn (`block_list`) and of the `wheel`.
//! * A peer without a block: `syn_cache` (before the handshake is over), `time_wait` (after the
//!   end).
//! * `flow_table` leads from a tuple to each of these.
//! * Stores that connections share: `send_queue`, `scoreboard`, `out_of_order`.

pub(in crate::tcp) mod active;
pub(in crate::tcp) mod block_list;
pub(in crate::tcp) mod control_block;
pub(in crate::tcp) mod flow_table;
pub(in crate::tcp) mod index;
pub(in crate::tcp) mod marks;
pub(in crate::tcp) mod out_of_order;
pub(in crate::tcp) mod scoreboard;
pub(in crate::tcp) mod send_queue;
pub(in crate::tcp) mod syn_cache;
pub(in crate::tcp) mod time_wait;
pub(in crate::tcp) mod unread;
pub(in crate::tcp) mod wheel;
