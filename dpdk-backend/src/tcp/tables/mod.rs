//! The engine's data, in memory of fixed size: blocks, records, lists and stores. Nothing here
//! depends on the engine.
//!
//! * A connection: `control_block` (always) and `active` (while it sends or receives), in lists of
//!   the turn (`block_list`) and of the timer wheel (`wheel`). `marks` are the bits of a block.
//! * A peer without a block: `syn_cache` (before the handshake is complete), `time_wait` (after the
//!   end).
//! * `flow_table` finds each of these by its tuple.
//! * Stores that connections share: `send_queue`, `scoreboard`, `out_of_order`, `unread`.

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
