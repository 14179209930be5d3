//! The part of a connection that exists only while something is in flight, queued or out of order.
//! Allocated from a slab, and freed when all is quiet.

use crate::tcp::congestion::state::{Cubic, HyStart, Prr, Rack, TailLossProbe};
use crate::tcp::tables::out_of_order::OutOfOrder;
use crate::tcp::tables::scoreboard::Flight;
use crate::tcp::tables::send_queue::Queue;
use crate::time::Now;

/// The purpose of the sending side's one deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TimerKind {
    /// Nothing.
    #[default]
    None,
    /// RFC 6298: the retransmission timeout.
    Retransmit,
    /// RFC 8985, 7: the probe timeout.
    Probe,
    /// RFC 8985, 6.2: the reordering window closes.
    Reorder,
    /// RFC 9293, 3.8.6.1: the window is shut.
    Persist,
}

/// The state of loss recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No loss is known.
    #[default]
    Open,
    /// Fast recovery: acknowledgements showed the loss.
    Recovery,
    /// A timeout showed the loss.
    Timeout,
}

/// The deadline of the sending side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendTimer {
    pub(crate) kind: TimerKind,
    /// Retransmission timeouts, or probes of a shut window, since something was last acknowledged.
    pub(crate) retries: u8,
    /// A window too small for the queued bytes may be filled once: the override timeout has passed
    /// (RFC 9293, 3.8.6.2.1).
    pub(crate) overrides: bool,
    pub(crate) due_ms: u32,
    /// The start of the retransmission timer (RFC 6298, 5.1 to 5.3). Segments sent later do not
    /// postpone it.
    pub(crate) rto_from_ms: u32,
}

/// The state of loss recovery, and its data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) mode: Mode,
    /// Duplicate acknowledgements in a row (without SACK).
    pub(crate) duplicate_acks: u8,
    /// Recovery ends when this is acknowledged.
    pub(crate) point: u32,
    pub(crate) prr: Prr,
    pub(crate) rack: Rack,
    pub(crate) probe: TailLossProbe,
}

/// What was received ahead of a gap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gap {
    pub(crate) kept: OutOfOrder,
    /// The start of the gap, in milliseconds.
    pub(crate) since_ms: u32,
    /// The sequence number of the peer's FIN ahead of it.
    pub(crate) fin_sequence: u32,
}

/// The block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Active {
    pub(crate) queue: Queue,
    /// Payload bytes that were never sent.
    pub(crate) unsent: u32,
    pub(crate) flight: Flight,
    pub(crate) timer: SendTimer,
    /// The time at which bytes were last acknowledged, or first sent: the user timeout counts from
    /// it.
    pub(crate) progress_ms: u32,
    pub(crate) recovery: Recovery,
    pub(crate) cubic: Cubic,
    pub(crate) hystart: HyStart,
    pub(crate) gap: Gap,
}

const _: () = assert!(size_of::<Active>() <= 192);

impl Active {
    /// Whether the block holds nothing that has to be kept.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.flight.is_empty()
            && self.gap.kept.is_empty()
            && self.timer.kind == TimerKind::None
            && !self.recovery.probe.in_flight
    }

    /// Notes that new bytes were acknowledged.
    pub(crate) fn progress(&mut self, now: Now) {
        self.timer.retries = 0;
        self.progress_ms = now.ms;
    }
}
