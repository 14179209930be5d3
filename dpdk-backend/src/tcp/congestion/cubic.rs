//! Congestion control: CUBIC (RFC 9438), an initial window of ten segments (RFC 6928), and restart
//! after an idle period (RFC 5681, 4.1).
//!
//! Windows are in bytes and time in milliseconds, all as integers, so that a run is the same on
//! every machine. The state of a CUBIC epoch is in the active block and is freed with it: a
//! connection that was idle starts again from its window.

use crate::tcp::congestion::state::Cubic;
use crate::tcp::tables::control_block::ControlBlock;
use crate::time::Now;

/// RFC 9438, 4.6: beta = 0.7.
const BETA_TENTHS: u64 = 7;
/// The largest distance from K at which the cubic is computed. Beyond it the window is far above
/// any limit.
const DISTANCE_MAX_MS: i64 = 100_000;

/// RFC 6928, 2: min(10 * MSS, max(2 * MSS, 14600)).
pub(crate) fn initial_window(mss: u16) -> u32 {
    let mss = u32::from(mss);
    (10 * mss).min((2 * mss).max(14_600))
}

/// RFC 5681, 4.1: after an RTO without sending, no more than the restart window min(IW, cwnd).
pub(crate) fn restart_after_idle(block: &mut ControlBlock) {
    block.cwnd = block.cwnd.min(initial_window(block.mss));
}

/// Handles `acked` acknowledged bytes while the window was the limit.
pub(crate) fn on_ack(block: &mut ControlBlock, cubic: &mut Cubic, acked: u32, now: Now) {
    let mss = u32::from(block.mss);
    let mut acked = acked;
    if block.cwnd < block.ssthresh {
        // RFC 5681, 3.1, with RFC 3465's bytes: at most the threshold, the rest counts for
        // avoidance.
        let grown = block.cwnd.saturating_add(acked).min(block.ssthresh.max(block.cwnd));
        acked -= grown - block.cwnd;
        block.cwnd = grown;
        if acked == 0 {
            return;
        }
    }
    if !cubic.running {
        cubic.start(block, now);
    }
    let target = cubic.target(block, now);
    // RFC 9438, 4.4 and 4.5: (target - cwnd) / cwnd for each segment acknowledged.
    let room = u64::from(target.saturating_sub(block.cwnd));
    let step = room * u64::from(acked) / u64::from(block.cwnd.max(1));
    let step = (step as u32).min(acked.max(mss));
    cubic.friendly(block, acked);
    block.cwnd = block.cwnd.saturating_add(step).max(cubic.w_est.min(block.cwnd.saturating_add(mss)));
}

/// RFC 9438, 4.6 and 4.7: handles a loss. Returns the new threshold; the caller sets the window.
pub(crate) fn on_loss(block: &mut ControlBlock, cubic: &mut Cubic, flight: u32) -> u32 {
    let cwnd = u64::from(block.cwnd);
    cubic.w_max = match u64::from(cubic.w_max) {
        // Fast convergence: the last maximum was not reached again, so another flow needs room.
        w_max if cwnd < w_max => (cwnd * (10 + BETA_TENTHS) / 20) as u32,
        _ => block.cwnd,
    };
    cubic.running = false;
    let reduced = (u64::from(flight.min(block.cwnd)) * BETA_TENTHS / 10) as u32;
    reduced.max(2 * u32::from(block.mss))
}

impl Cubic {
    fn start(&mut self, block: &ControlBlock, now: Now) {
        self.running = true;
        self.epoch_ms = now.ms;
        self.w_est = block.cwnd;
        if block.cwnd >= self.w_max {
            (self.w_max, self.k_ms) = (block.cwnd, 0);
            return;
        }
        // K = cbrt((W_max - cwnd_epoch) / C) seconds, C = 0.4 segments/s^3.
        let distance = u64::from(self.w_max - block.cwnd) * 10 / 4 / u64::from(block.mss.max(1));
        self.k_ms = cube_root(distance * 1_000_000_000) as u32;
    }

    /// W_cubic(t + RTT), between cwnd and 1.5 cwnd (RFC 9438, 4.2).
    fn target(&self, block: &ControlBlock, now: Now) -> u32 {
        let t = i64::from(now.since(self.epoch_ms)) + i64::from(block.rtt.smoothed_us / 1000);
        let distance = (t - i64::from(self.k_ms)).clamp(-DISTANCE_MAX_MS, DISTANCE_MAX_MS);
        // C * (t - K)^3 segments, C = 0.4, t in ms: 4 / (10 * 10^9) * mss bytes.
        let cube = distance * distance * distance;
        let offset = (i128::from(cube) * 4 * i128::from(block.mss) / 10_000_000_000) as i64;
        let cubic = i64::from(self.w_max) + offset;
        let ceiling = i64::from(block.cwnd) + i64::from(block.cwnd / 2);
        cubic.clamp(i64::from(block.cwnd), ceiling.min(i64::from(u32::MAX))) as u32
    }

    /// RFC 9438, 4.3: W_est grows by alpha * acked / cwnd segments, alpha = 3 * (1 - 0.7) / (1 +
    /// 0.7) = 9/17.
    fn friendly(&mut self, block: &ControlBlock, acked: u32) {
        let mss = u64::from(block.mss);
        let alpha = if self.w_est >= self.w_max { (1, 1) } else { (9, 17) };
        let step = u64::from(acked) * mss * alpha.0 / alpha.1 / u64::from(block.cwnd.max(1));
        self.w_est = self.w_est.saturating_add(step as u32);
    }
}

/// The largest number with a cube of at most `n`, by Newton's method.
fn cube_root(n: u64) -> u64 {
    if n == 0 {
        return 0;
    }
    let mut x = 1_u64 << (64 - n.leading_zeros()).div_ceil(3);
    loop {
        let y = (2 * x + n / (x * x)) / 3;
        if y >= x {
            return x;
        }
        x = y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u32) -> Now {
        Now { ms, us: ms.wrapping_mul(1000) }
    }

    fn block(cwnd: u32, ssthresh: u32) -> ControlBlock {
        let mut block = ControlBlock { mss: 1000, cwnd, ssthresh, ..ControlBlock::default() };
        block.rtt.smoothed_us = 100_000;
        block
    }

    #[test]
    fn cube_roots_are_exact_below() {
        for n in [1, 7, 8, 26, 27, 1_000_000_000, u64::MAX / 4] {
            let root = cube_root(n);
            assert!(root.pow(3) <= n && (root + 1).pow(3) > n, "{n}");
        }
    }

    #[test]
    fn initial_windows_are_rfc_6928s() {
        assert_eq!((initial_window(1460), initial_window(536), initial_window(9000)), (14_600, 5360, 18_000));
    }

    #[test]
    fn slow_start_doubles_and_stops_at_the_threshold() {
        let (mut block, mut cubic) = (block(10_000, 25_000), Cubic::default());
        on_ack(&mut block, &mut cubic, 10_000, at(0));
        assert_eq!(block.cwnd, 20_000);
        on_ack(&mut block, &mut cubic, 20_000, at(100));
        assert!(block.cwnd >= 25_000 && block.cwnd < 27_000, "{}", block.cwnd);
    }

    #[test]
    fn a_loss_takes_three_tenths_and_the_cubic_leads_back_to_the_maximum() {
        let (mut block, mut cubic) = (block(100_000, 0), Cubic::default());
        block.ssthresh = on_loss(&mut block, &mut cubic, 100_000);
        assert_eq!(block.ssthresh, 70_000);
        block.cwnd = block.ssthresh;
        // K = cbrt(30 segments / 0.4) = 4.2 s: concave up to there, convex beyond.
        let mut windows = vec![];
        for round in 0..80 {
            let acked = block.cwnd;
            on_ack(&mut block, &mut cubic, acked, at(round * 100));
            windows.push(block.cwnd);
        }
        assert!(windows.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!((95_000..106_000).contains(&windows[42]), "{} after 4.2 s", windows[42]);
        assert!(windows[79] > 115_000, "{} after 8 s", windows[79]);
        // RFC 9438, 4.7: a loss below the last maximum lowers it further.
        let (mut small, _) = (ControlBlock { cwnd: 50_000, ..block }, ());
        on_loss(&mut small, &mut cubic, 50_000);
        assert_eq!(cubic.w_max, 42_500);
    }
}
