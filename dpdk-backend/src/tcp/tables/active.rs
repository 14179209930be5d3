//! What a connection needs only while something is in flight, queued or out of order. Taken from a
//! slab, given back when all is quiet.

use crate::tcp::congestion::state::{Cubic, HyStart, Prr, Rack, TailLossProbe};
use crate::tcp::tables::out_of_order::OutOfOrder;
use crate::tcp::tables::scoreboard::Flight;
use crate::tcp::tables::send_queue::Queue;
use crate::time::Now;

/// What the one deadline of the sending side is for.
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

/// Where loss recovery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing is known to be lost.
    #[default]
    Open,
    /// Fast recovery: acknowledgements showed the loss.
    Recovery,
    /// The clock showed it.
    Timeout,
}

/// The deadline of the sending side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendTimer {
    pub(crate) kind: TimerKind,
    /// Retransmission timeouts, or probes of a shut window, since something was last acknowledged.
    pub(crate) retries: u8,
    pub(crate) due_ms: u32,
    /// When the retransmission timer was started (RFC 6298, 5.1 to 5.3): what leaves later does not
    /// put it off.
    pub(crate) rto_from_ms: u32,
}

/// Where loss recovery is, and what it knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) mode: Mode,
    /// Acknowledgements in a row that moved nothing (without SACK).
    pub(crate) duplicate_acks: u8,
    /// Recovery is over when this is acknowledged.
    pub(crate) point: u32,
    pub(crate) prr: Prr,
    pub(crate) rack: Rack,
    pub(crate) probe: TailLossProbe,
}

/// What came ahead of a gap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gap {
    pub(crate) kept: OutOfOrder,
    /// When the gap began, in milliseconds.
    pub(crate) since_ms: u32,
    /// Where the peer's FIN stands that came ahead of it.
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
    /// A window too small for what waits may be filled once: the override time-out is over (RFC
    /// 9293, 3.8.6.2.1).
    pub(crate) overrides: bool,
    /// When something was last acknowledged, or first sent: the user timeout counts from here.
    pub(crate) progress_ms: u32,
    pub(crate) recovery: Recovery,
    pub(crate) cubic: Cubic,
    pub(crate) hystart: HyStart,
    pub(crate) gap: Gap,
}

const _: () = assert!(size_of::<Active>() <= 192);

impl Active {
    /// Whether nothing is left to remember.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.flight.is_empty()
            && self.gap.kept.is_empty()
            && self.timer.kind == TimerKind::None
            && !self.recovery.probe.in_flight
    }

    /// Something was acknowledged for the first time.
    pub(crate) fn progress(&mut self, now: Now) {
        self.timer.retries = 0;
        self.progress_ms = now.ms;
    }
}
