//! The stages of a run as rows, for text and page.

use super::units::{bytes, nanos, number, percent};
use super::{Latency, Report, StageReport};

/// The head of the rows.
pub const HEAD: [&str; 12] = [
    "stage",
    "time",
    "done",
    "a second",
    "p50",
    "p99",
    "p99.9",
    "max",
    "server CPU",
    "a piece",
    "wake-ups/s",
    "RSS",
];

/// The latency that a stage is about, and what it is of.
pub fn latency(stage: &StageReport) -> Option<(&Latency, &'static str)> {
    let flows = stage.flows.first().map(|flow| (&flow.latency, "delivery, from the intended time"));
    let churn =
        || stage.churn.as_ref().map(|churn| (&churn.latency, "from the intended close to ready again"));
    let connect = || stage.connect.as_ref().map(|connect| (&connect.ready_latency, "from connect to ready"));
    let parting =
        || stage.departure.as_ref().map(|parting| (&parting.latency, "from close to its confirmation"));
    let beats = || stage.heartbeats.as_ref().map(|beats| (&beats.latency, "heartbeat to its answer"));
    flows.or_else(churn).or_else(connect).or_else(parting).or_else(beats)
}

/// What a stage counted, in words, and over how many seconds.
pub fn done(stage: &StageReport) -> (f64, &'static str, f64) {
    let seconds = stage.measured_seconds();
    match (&stage.churn, &stage.connect, &stage.departure, &stage.heartbeats) {
        _ if !stage.flows.is_empty() => {
            let all = stage.flows.iter().map(|flow| flow.delivered * flow.seconds).sum();
            (all, "deliveries", seconds)
        }
        (Some(churn), ..) => (churn.measured as f64, "reconnects", seconds),
        (_, Some(connect), ..) => (connect.ready as f64, "connects", connect.seconds.max(1e-9)),
        (_, _, Some(parting), _) => (parting.closed as f64, "closes", parting.seconds.max(1e-9)),
        (.., Some(beats)) => (beats.measured as f64, "heartbeats", seconds),
        _ => (0.0, "nothing", seconds),
    }
}

/// The part of the rate before it that a stage under a flood kept.
pub(crate) struct Kept<'a> {
    stage: &'a StageReport,
    syns_per_second: f64,
    pub(crate) share: f64,
}

impl Kept<'_> {
    /// In words.
    pub(crate) fn words(&self) -> String {
        format!(
            "{}: {} connection requests/s from unused addresses; the established kept {} of their rate",
            self.stage.name,
            number(self.syns_per_second.round()),
            percent(self.share)
        )
    }
}

/// Of every stage under a flood.
pub(crate) fn kept(report: &Report) -> impl Iterator<Item = Kept<'_>> {
    report.stages.windows(2).filter_map(|pair| {
        let [(before, _, time_before), (after, _, time_after)] = [done(&pair[0]), done(&pair[1])];
        let share = (after / time_after) / (before / time_before).max(1e-9);
        Some(Kept { stage: &pair[1], syns_per_second: pair[1].syns_per_second?, share })
    })
}

/// One row a stage, the opening first.
pub fn rows(report: &Report) -> Vec<Vec<String>> {
    let connect = &report.connect;
    let dash = || "–".to_owned();
    let times = |latency: Option<&Latency>| match latency.filter(|latency| latency.count > 0) {
        Some(latency) => {
            [latency.p50, latency.p99, latency.p999, latency.max].map(|value| nanos(value as f64)).to_vec()
        }
        None => vec![dash(); 4],
    };
    let mut ramp = vec![
        "ramp".to_owned(),
        format!("{:.1} s", connect.seconds),
        format!("{} connects", number(connect.ready as f64)),
        number(connect.per_second),
    ];
    ramp.extend(times(Some(&connect.ready_latency)));
    ramp.extend([dash(), dash(), dash()]);
    ramp.push(report.server.as_ref().map_or_else(dash, |server| bytes(server.rss_connected as f64)));
    let mut rows = vec![ramp];
    for stage in &report.stages {
        let (count, what, seconds) = done(stage);
        let mut row = vec![
            stage.name.clone(),
            time(stage),
            format!("{} {what}", number(count)),
            number((count / seconds * 10.0).round() / 10.0),
        ];
        row.extend(times(latency(stage).map(|(latency, _)| latency)));
        row.extend(match &stage.server {
            Some(server) => {
                let window = stage.watched_seconds();
                [
                    percent(server.cpu_seconds / window),
                    nanos(server.cpu_nanos_per_message),
                    number((server.wakeups as f64 / window).round()),
                    bytes(server.rss_after as f64),
                ]
            }
            None => [dash(), dash(), dash(), dash()],
        });
        rows.push(row);
    }
    rows
}

/// How long a stage was measured; where the server needed longer for its part, that too.
fn time(stage: &StageReport) -> String {
    let text = |seconds: f64| format!("{seconds:.1} s");
    let (measured, watched) = (text(stage.measured_seconds()), text(stage.watched_seconds()));
    if watched == measured { measured } else { format!("{measured} (server {watched})") }
}

/// Shares of many workers: each, while there are few; otherwise the spread, and which is worst.
pub(crate) fn spread(shares: &[f64]) -> String {
    if shares.len() <= 4 {
        return shares.iter().map(|share| percent(*share)).collect::<Vec<_>>().join(", ");
    }
    let mut sorted = shares.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| percent(sorted[part]);
    let worst = shares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(number, _)| number);
    let sum = percent(shares.iter().sum());
    let last = sorted.len() - 1;
    format!("{} to {} (median {}, most worker {worst}, sum {sum})", at(0), at(last), at(last / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_workers_are_summed_up_and_few_are_not() {
        assert_eq!(spread(&[0.5, 0.25]), "50.0 %, 25.0 %");
        let many: Vec<f64> = (0..53).map(|number| f64::from(number) / 100.0).collect();
        let text = spread(&many);
        assert_eq!(text, "0.00 % to 52.0 % (median 26.0 %, most worker 52, sum 1378 %)");
    }
}
