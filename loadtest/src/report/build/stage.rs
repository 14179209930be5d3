//! One stage of a run of several.

use super::super::{Departure, FlowReport, Generator, Report, Server, StageReport};
use super::{add, churn, heartbeats, merged, opening, spending};
use crate::plan::{Role, RunPlan, StageKind};
use crate::run::{RunOutput, StageOutput};
use crate::worker::{FleetStats, StageStats};

/// The report of stage `index`; `report` has the flows already.
pub(super) fn stage(plan: &RunPlan, output: &RunOutput, report: &Report, index: usize) -> StageReport {
    let (stage, found) = (&plan.stages[index], &output.stages[index]);
    let stats: Vec<&StageStats> =
        output.results.iter().filter_map(|result| result.stages.get(index + 1)).collect();
    let fleets: Vec<&FleetStats> = stats.iter().map(|stats| &stats.fleet).collect();
    let flows = plan.flows.iter().zip(&report.flows).filter(|(flow, _)| flow.stage == index);
    let at = |time: u64| time as f64 / 1e9;
    let mut out = StageReport {
        name: stage.name.clone(),
        kind: stage.kind.name().to_owned(),
        traffic_at: at(found.window.traffic_start),
        from: at(found.window.start),
        to: at(found.window.end),
        settled_at: at(found.settled_at),
        unsettled: found.unsettled,
        flows: flows.map(|(_, flow)| flow.clone()).collect(),
        heartbeats: heartbeats(&stats),
        churn: matches!(stage.kind, StageKind::Churn { .. }).then(|| churn(&stats)),
        connect: (stage.kind == StageKind::Reconnect).then(|| opening(u64::from(plan.connections), &fleets)),
        departure: (stage.kind == StageKind::Disconnect).then(|| departure(found, &fleets)),
        generator: generator(&report.generator, found, &stats),
        seconds: found.seconds.clone(),
        syns_per_second: stage.syn_rate.map(|_| {
            let time = found.settled_at.saturating_sub(found.window.traffic_start) as f64 / 1e9;
            found.syns as f64 / time.max(1e-9)
        }),
        ..StageReport::default()
    };
    let measured = output.results.iter().zip(&fleets).filter(|(result, _)| result.role != Role::Slow);
    measured.for_each(|(_, fleet)| add(&mut out.lost, &fleet.lost));
    out.server = server(output, found, &out);
    out
}

fn departure(found: &StageOutput, fleets: &[&FleetStats]) -> Departure {
    let since = |time: u64| time.saturating_sub(found.window.start) as f64 / 1e9;
    Departure {
        closed: fleets.iter().map(|fleet| fleet.departed).sum(),
        seconds: fleets.iter().map(|fleet| since(fleet.opened_by)).fold(0.0, f64::max),
        server_seconds: found.emptied_at.map(since),
        latency: merged(fleets.iter().map(|fleet| &fleet.parting)),
    }
}

/// The number that the stage is about: deliveries, reconnects, connections, or otherwise
/// heartbeats.
fn messages(stage: &StageReport) -> f64 {
    let flows: f64 = stage.flows.iter().map(|flow: &FlowReport| flow.delivered * flow.seconds).sum();
    let counts = [
        stage.churn.as_ref().map(|churn| churn.measured),
        stage.connect.as_ref().map(|connect| connect.ready),
        stage.departure.as_ref().map(|departure| departure.closed),
        stage.heartbeats.as_ref().map(|beats| beats.measured),
    ];
    if flows > 0.0 { flows } else { counts.into_iter().flatten().next().unwrap_or(0) as f64 }
}

fn server(output: &RunOutput, found: &StageOutput, stage: &StageReport) -> Option<Server> {
    let server = spending(&output.pids, &found.end.since(&found.start), messages(stage))?;
    let rss = [found.start.rss, found.end.rss, found.rested.rss];
    let [rss_before, rss_connected, rss_after] = rss;
    Some(Server { rss_before, rss_connected, rss_after, ..server })
}

fn generator(whole: &Generator, found: &StageOutput, stats: &[&StageStats]) -> Generator {
    let end = found.emptied_at.unwrap_or(found.window.end).max(found.window.end);
    let time = end.saturating_sub(found.window.start).max(1) as f64;
    Generator {
        busy: stats.iter().filter_map(|stats| Some(stats.share?.cpu as f64 / time)).collect(),
        gaps: super::worst_gaps(stats.iter().map(|stats| stats.gaps)),
        starved: stats.iter().filter_map(|stats| Some(stats.share?.waited as f64 / time)).collect(),
        ..whole.clone()
    }
}
