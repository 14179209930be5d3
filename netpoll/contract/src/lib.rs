//! One behavior suite for every backend.
//!
//! A backend is mounted by a [`World`]: two backends of one kind, a server's and a client's, that
//! can reach each other. [`contract_suite!`] then expands to one `#[test]` per behavior:
//!
//! ```text
//!   World ── poll(side) ──► batch ──► Ledger ──► Party (collect, hold or echo) ──► behavior
//! ```
//!
//! * [`Ledger`] reads every batch of every behavior and panics at the first broken promise: a
//!   reused id, a completion after `Closed`, bytes before `Accepted` or `Connected`, an empty
//!   `Received`.
//! * [`Harness`] steps both sides in an order drawn from a seed. It counts steps, not seconds: a
//!   behavior that makes no progress for [`World::IDLE_STEPS_MAX`] steps in a row has failed.
//! * Every behavior ends in [`Harness::end`]: no connection is left, every id that was opened was
//!   closed once, and every buffer is back in its pool.

pub mod behavior;
mod harness;
mod ledger;
mod party;
mod pattern;
mod world;

pub use harness::{Harness, Pair};
pub use ledger::Ledger;
pub use netpoll::sim::Rng;
pub use party::{Arrival, Ends, Mode, Party};
pub use pattern::Pattern;
pub use world::{Setup, Side, SuccessorWorld, World};

/// Runs one behavior under every seed of its world, naming the seed that fails.
pub fn run<W: World>(name: &str, behavior: fn(u64)) {
    let is_gap = W::GAPS.contains(&name);
    for seed in W::SEEDS {
        let run = || behavior(*seed);
        let outcome = std::panic::catch_unwind(run);
        if is_gap {
            assert!(outcome.is_err(), "{} keeps {name} now: take it from its GAPS", W::NAME);
            continue;
        }
        if let Err(failure) = outcome {
            eprintln!("{name} failed on {} with seed {seed}", W::NAME);
            std::panic::resume_unwind(failure);
        }
    }
}

/// One `#[test]` per behavior for the given [`World`].
#[macro_export]
macro_rules! contract_suite {
    ($world:ty) => {
        $crate::contract_suite! { @tests $world;
            opening: accepted_names_the_listener_and_the_peer;
            opening: an_address_without_a_listener_refuses;
            opening: a_full_table_refuses_to_connect;
            opening: peers_wait_while_the_table_is_full;
            opening: accepting_stops_and_resumes;
            opening: closed_listeners_refuse_and_keep_what_is_open;
            opening: sends_may_precede_connected;
            opening: a_peer_that_spoke_and_left_before_accept_is_heard;
            opening: a_server_that_leaves_at_once_is_heard;
            opening: counts_are_right;
            streams: streams_of_all_sizes_come_back;
            streams: both_directions_flow_at_once;
            streams: pieces_of_one_turn_arrive_as_one_stream;
            streams: neighbors_join;
            streams: an_empty_buffer_is_no_piece;
            streams: one_buffer_goes_to_many;
            streams: connections_do_not_mix;
            queues: a_slow_reader_gets_everything_once;
            queues: an_empty_queue_takes_a_piece_of_any_size;
            queues: a_queue_full_of_bytes_hands_back;
            queues: a_store_full_of_pieces_hands_back;
            queues: peers_that_do_not_read_leave_the_store_to_others;
            queues: pushes_leave_a_part_of_the_queue_to_replies;
            queues: queued_bytes_are_counted;
            queues: slow_connections_are_listed_until_they_catch_up_or_end;
            queues: small_messages_for_a_slow_peer_leave_receive_buffers_to_others;
            queues: answers_for_a_slow_peer_leave_receive_buffers_to_others;
            queues: pushes_for_a_slow_peer_leave_receive_buffers_to_others;
            queues: pushes_for_a_slow_peer_leave_blocks_to_an_owner_that_asks;
            queues: blocks_that_wait_are_counted_by_pool;
            pools: an_empty_pool_pauses_and_loses_nothing;
            pools: few_buffers_serve_many_connections;
            pools: those_that_send_much_leave_buffers_to_others;
            pools: buffers_outlive_their_connection;
            pools: a_batch_of_one_works;
            pools: a_poll_appends_no_more_than_it_is_configured_to;
            pools: everything_tiny_works;
            closing: close_is_reported_once;
            closing: a_dead_id_names_nothing;
            closing: a_reused_slot_has_a_new_generation;
            closing: trimming_disturbs_no_connection;
            closing: close_drops_what_is_queued;
            closing: close_while_receiving;
            closing: close_while_connecting;
            closing: close_in_the_turn_of_accept;
            closing: closing_twice_is_closing_once;
            closing: both_close_at_once;
            closing: peer_close_is_reported_once;
            closing: closing_over_unread_bytes_resets;
            finishing: a_farewell_survives_what_the_peer_still_sends;
            finishing: finish_sends_queue_and_last_then_fin;
            finishing: finish_takes_last_over_the_bound;
            finishing: finish_on_an_empty_queue;
            finishing: finish_discards_what_the_peer_sends;
            finishing: what_is_discarded_is_paid_for_by_time;
            finishing: finish_while_connecting;
            finishing: both_finish_at_once;
            finishing: close_ends_a_finish;
            finishing: finish_behind_a_peers_finish_is_local;
            finishing: finish_after_a_reset_ends;
            finishing: a_peers_finish_leaves_our_queue;
            dropping: a_last_message_comes_behind_what_has_begun;
            dropping: a_connection_goes_on_behind_what_was_dropped;
            dropping: nothing_is_dropped_of_nothing;
            half_closing: requests_before_a_half_close_are_all_answered;
            half_closing: requests_are_answered_in_batches_of_any_size;
            half_closing: an_end_waits_for_an_owner_that_answers_later;
            half_closing: a_peer_that_has_sent_nothing_ends;
            half_closing: a_held_connection_is_told_that_its_queue_is_empty;
            half_closing: finish_behind_a_held_end;
            half_closing: close_behind_a_held_end;
            half_closing: a_reset_behind_a_held_end_is_heard;
            half_closing: crowds_of_half_closing_peers_are_answered;
            stopping: a_stopped_connection_is_left_unread;
            stopping: what_lay_there_is_reported_after_the_resume;
            stopping: stopping_in_the_middle_loses_nothing;
            stopping: a_stopped_connection_is_sent_to;
            stopping: stopping_while_no_buffer_is_free;
            stopping: a_peer_that_leaves_a_stopped_connection_is_heard;
            stopping: a_peer_that_resets_a_stopped_connection_is_heard;
            stopping: close_while_stopped;
            stopping: finish_while_stopped_discards_what_lies_unread;
            stopping: a_stop_ends_with_its_connection;
            crowds: five_hundred_connections_echo;
            crowds: two_thousand_connections_come_and_go;
            crowds: a_crowd_disappears;
            chaos: anything_may_happen;
            waiting: a_wake_before_the_wait_counts;
            waiting: a_wake_from_another_thread_ends_the_wait;
            waiting: a_wait_ends_in_time;
            waiting: no_wait_while_work_is_left;
        }
    };
    (@tests $world:ty; $($module:ident: $name:ident;)*) => {
        $(
            #[test]
            fn $name() {
                $crate::run::<$world>(stringify!($name), $crate::behavior::$module::$name::<$world>);
            }
        )*
    };
}

/// One `#[test]` per behavior of handing over, for the given [`SuccessorWorld`].
#[macro_export]
macro_rules! handover_suite {
    ($world:ty) => {
        $crate::contract_suite! { @tests $world;
            handover: streams_go_on_in_a_successor;
            handover: a_queue_goes_along;
            handover: a_sent_that_is_due_goes_along;
            handover: ids_keep_their_meaning;
            handover: releasing_is_no_event;
            handover: an_end_goes_on_in_a_successor;
            handover: a_peers_end_goes_along;
            handover: a_held_end_goes_along;
            handover: a_queue_without_room_is_refused_whole;
        }
    };
}
