//! Memory that the control thread reserves: sums that name the owner of each addend.

use super::{api, encoder, http, journal};
use gateway_config::{Config, MemoryEntry};
use gateway_core::message::ControlMessage;

/// Messages from workers that may wait for the control thread.
pub const MAILBOX_CAPACITY: usize = 16 << 10;

/// Memory of a parsed body: its text, and the values in it.
const BODY_COPIES: usize = 2;
/// Bytes of large requests that are held at a time, all connections together, unless one may be
/// larger.
const INPUTS_MAX: usize = 4 << 20;

/// Bytes of large requests at most.
pub(super) fn inputs_max(frame_body_size_max: u32) -> usize {
    let largest = http::HEAD_SIZE_MAX + api::body_size_max(frame_body_size_max) + http::STEP_MAX;
    largest.max(INPUTS_MAX)
}

/// What the control thread, HTTP, the journal and the verifier reserve with this configuration.
pub fn memory_plan(config: &Config) -> Vec<MemoryEntry> {
    let frame_body_size_max = config.limits.frame_body_size_max;
    let http = http_bytes(config.control.connections_max, frame_body_size_max);
    let mut entries = vec![
        MemoryEntry::new("control thread", reserved_bytes(frame_body_size_max)),
        MemoryEntry::new("HTTP", http),
    ];
    if config.journal.is_some() {
        entries.push(MemoryEntry::new("journal", journal::RESERVED));
    }
    if let Some(policy) = &config.auth {
        let verifiers = gateway_auth::reserved_bytes(policy.threads, policy.queue_requests_max);
        entries.push(MemoryEntry::new("verifiers", verifiers));
    }
    entries
}

/// Pools for pushes, and the mailbox.
fn reserved_bytes(frame_body_size_max: u32) -> usize {
    encoder::pools_config(frame_body_size_max).bytes()
        + MAILBOX_CAPACITY * netpoll::mailbox_bytes::<ControlMessage>()
        + super::output::RESERVED
}

/// What HTTP takes at most: connections, large requests and large answers.
fn http_bytes(connections_max: usize, frame_body_size_max: u32) -> usize {
    (connections_max + http::SPARE_PLACES) * http::CONNECTION_SIZE
        + BODY_COPIES * inputs_max(frame_body_size_max)
        + http::ANSWERS_MAX
}
