//! The state of congestion control and loss recovery, in a connection's active block.

/// RFC 6937: the progress of the reduction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prr {
    pub(super) delivered: u32,
    pub(super) out: u32,
    pub(super) flight_at_start: u32,
}

/// RFC 8985, 5.2: the latest delivered segment, by time of sending.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq; valid when `is_set`.
    pub(super) sent_us: u32,
    pub(super) end: u32,
    /// RACK.rtt.
    pub(super) rtt_us: u32,
    /// RACK.fack: the highest sequence number delivered.
    pub(super) highest: u32,
    /// RACK.reo_wnd_mult.
    pub(super) multiplier: u8,
    /// RACK.reo_wnd_persist.
    pub(super) persist: u8,
    pub(super) is_set: bool,
    pub(super) reordering_seen: bool,
    /// RACK.dsack_round: a round ends when this is acknowledged.
    pub(super) round: u32,
    pub(super) in_round: bool,
}

/// RFC 8985, 7: a probe that is in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TailLossProbe {
    /// TLP.end_seq, while `in_flight`.
    pub(crate) end: u32,
    pub(crate) in_flight: bool,
    /// TLP.is_retrans.
    pub(crate) is_retransmission: bool,
}

/// An epoch of CUBIC.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cubic {
    /// W_max: the window at the last reduction, or what fast convergence left of it.
    pub(super) w_max: u32,
    /// The start of congestion avoidance; valid when `running`.
    pub(super) epoch_ms: u32,
    /// K: the time from there to W_max, in milliseconds.
    pub(super) k_ms: u32,
    /// W_est: the window that Reno would have.
    pub(super) w_est: u32,
    pub(super) running: bool,
}

/// The rounds of a slow start. Zero stands for the RFC's infinity.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HyStart {
    /// windowEnd; counts while `running`.
    pub(super) round_end: u32,
    pub(super) last_min_us: u32,
    pub(super) current_min_us: u32,
    /// cssBaselineMinRtt: set while slow start is conservative.
    pub(super) baseline_us: u32,
    pub(super) samples: u8,
    pub(super) css_rounds: u8,
    pub(super) running: bool,
}
