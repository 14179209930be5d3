//! The figures of one run, and the ratio of two rows over their runs.

use super::stats::Spread;
use crate::client::Measured;
use crate::cost::ServerCost;
use serde::{Deserialize, Serialize};

/// A generator's processor counts as full from here on.
const FULL: f64 = 0.95;

/// One run's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFigures {
    /// What a message cost the server.
    #[serde(flatten)]
    pub server: ServerCost,
    /// Nanoseconds of the generator's CPU per message.
    pub client_ns: f64,
    /// Messages a second.
    pub rate: f64,
    /// Frames a second that the server took and sent, where it sees them.
    pub frame_rate: Option<f64>,
    /// Segments that both ends sent again, and tail-loss probes, where they count them.
    pub retransmits: Option<u64>,
    /// See `retransmits`.
    pub probes: Option<u64>,
    /// Share of the time that the generator ran; where it polls, that it had something to do.
    pub client_busy: f64,
    /// Share of a processor that other processes, and the hypervisor, used: of the two the larger.
    pub foreign: f64,
    /// Half of the answers came within so many microseconds.
    pub p50_us: f64,
    /// 99 of 100 answers came within so many microseconds.
    pub p99_us: f64,
    /// Other processes used too much in every try.
    pub noisy: bool,
    /// Tries that it took.
    pub tries: u32,
}

impl RunFigures {
    /// Of a measurement.
    pub fn new(measured: &Measured, noisy: bool, tries: u32) -> RunFigures {
        RunFigures {
            server: measured.server_cost(),
            client_ns: measured.client_per_message(),
            rate: measured.rate(),
            frame_rate: measured.frame_rate(),
            retransmits: measured.resent.map(|resent| resent.segments),
            probes: measured.resent.map(|resent| resent.probes),
            client_busy: measured.client_busy(),
            foreign: measured.foreign(),
            p50_us: measured.latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: measured.latency.value_at_quantile(0.99) as f64 / 1e3,
            noisy,
            tries,
        }
    }

    /// Whether the generator could not go faster and the server could have.
    pub fn is_generator_bound(&self) -> bool {
        let server = self.server.busy_share.or(self.server.cpu_share).unwrap_or(1.0);
        self.client_busy + self.foreign >= FULL && server < self.client_busy.min(FULL)
    }
}

/// A figure of one row over that of another, from all pairs of runs of the same cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median of the pairs, with their quartiles.
    pub spread: Spread,
    /// The lowest pair, and the highest.
    pub range: (f64, f64),
    /// Pairs.
    pub pairs: usize,
    /// Share of a processor that others used in the noisier run of a pair, at the median.
    pub others: f64,
}

impl Ratio {
    /// Of pairs of runs; a pair without the figure does not count, and `None` is of none.
    pub fn of<'r>(
        pairs: impl Iterator<Item = (&'r RunFigures, &'r RunFigures)>,
        figure: impl Fn(&RunFigures) -> Option<f64>,
    ) -> Option<Ratio> {
        let counted: Vec<(f64, f64)> = pairs
            .filter_map(|(one, other)| {
                let ratio = figure(one)? / figure(other)?;
                ratio.is_finite().then(|| (ratio, one.foreign.max(other.foreign)))
            })
            .collect();
        let ratios = || counted.iter().map(|(ratio, _)| *ratio);
        Some(Ratio {
            spread: Spread::of(ratios())?,
            range: (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max)),
            pairs: counted.len(),
            others: Spread::of(counted.iter().map(|(_, others)| *others))?.median,
        })
    }
}

impl std::fmt::Display for Ratio {
    /// The median, the quartiles of all pairs, and what others used of a processor meanwhile.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spread { median, low, high } = self.spread;
        let places = if median >= 20.0 { 0 } else { 2 };
        write!(formatter, "{median:.places$} ({low:.places$}–{high:.places$}; {:.0} %)", self.others * 100.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run at these costs, in nanoseconds a message, and this rate.
    pub(in crate::run) fn run_of(cpu_ns: Option<f64>, busy_ns: Option<f64>, rate: f64) -> RunFigures {
        RunFigures {
            server: ServerCost { cpu_ns, busy_ns, cpu_share: Some(0.5), busy_share: busy_ns.map(|_| 0.5) },
            client_ns: 100.0,
            rate,
            frame_rate: None,
            retransmits: None,
            probes: None,
            client_busy: 0.5,
            foreign: 0.02,
            p50_us: 10.0,
            p99_us: 20.0,
            noisy: false,
            tries: 1,
        }
    }

    #[test]
    fn a_ratio_is_of_all_pairs_and_says_what_others_used() {
        let ones = [1.0, 2.0, 3.0, 4.0, 5.0].map(|rate| run_of(Some(1.0), None, rate));
        let mut others = ones.clone().map(|run| RunFigures { rate: 2.0, ..run });
        others[4].foreign = 0.4;
        let ratio = Ratio::of(ones.iter().zip(&others), |run| Some(run.rate)).unwrap();
        assert_eq!((ratio.spread.median, ratio.range, ratio.pairs), (1.5, (0.5, 2.5), 5));
        assert_eq!(ratio.to_string(), "1.50 (1.00–2.00; 2 %)");
    }

    #[test]
    fn no_pair_is_no_ratio() {
        let run = run_of(None, Some(1.0), 1.0);
        assert_eq!(Ratio::of([(&run, &run)].into_iter(), |run| run.server.cpu_ns), None);
        assert_eq!(Ratio::of([].into_iter(), |run| Some(run.rate)), None);
    }

    #[test]
    fn the_work_of_a_server_that_polls_is_its_busy_time() {
        assert_eq!(run_of(Some(9.0), Some(4.0), 1.0).server.work_ns(), Some(4.0));
        assert_eq!(run_of(Some(9.0), None, 1.0).server.work_ns(), Some(9.0));
    }
}
