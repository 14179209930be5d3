//! The stages of a run. Every scenario except one has a single stage; `million` runs all that a
//! gateway with very many connections must bear, over the same connections.

use super::flows::{Builder, flows};
use super::rate;
use crate::error::RunError;
use crate::plan::{FlowKind, FlowPlan, Pace, Path, Phases, Route, StageKind, StagePlan};
use crate::settings::units::{Count, Span};
use crate::settings::{BackendChoice, Settings};
use std::time::Duration;

/// At least so many HTTP connections share the pushes.
const HTTP_CONNECTIONS_MIN: u32 = 8;
/// Echoes a second of `syn-flood`.
const FLOODED_ECHOES: f64 = 20_000.0;
/// Users of one request where pushes come in lists.
const LISTED: u32 = 10;
/// A rate that is due once in any window.
const ONCE: f64 = 0.001;

/// Stages and flows of `scenario`.
pub(super) fn stages(
    scenario: &str,
    settings: &Settings,
    connections: u32,
) -> Result<(Vec<StagePlan>, Vec<FlowPlan>), RunError> {
    if scenario == "million" {
        return million(settings, connections);
    }
    if scenario == "syn-flood" {
        return syn_flood(settings, connections);
    }
    let stage = StagePlan {
        name: scenario.to_owned(),
        kind: StageKind::Hold,
        phases: super::phases(scenario, settings),
        until_delivered: false,
        rest: Duration::ZERO,
        syn_rate: None,
    };
    Ok((vec![stage], flows(scenario, settings, connections)?))
}

/// The scenario's own defaults, where `settings` leave something open.
pub(super) fn with_defaults(settings: &Settings) -> Settings {
    let quick = settings.quick.unwrap_or(false);
    let mut all = settings.clone();
    let seconds = |full: u64, short: u64| Some(Span(Duration::from_secs(if quick { short } else { full })));
    let count = |full: u32, short: u32| Some(Count(if quick { short } else { full }));
    let either = |full: f64, short: f64| Some(if quick { short } else { full });
    all.connections = all.connections.or(count(1_000_000, 3000));
    all.heartbeat = all.heartbeat.or(seconds(240, 5));
    all.idle_for = all.idle_for.or(seconds(60, 4));
    all.warmup = all.warmup.or(seconds(2, 1));
    all.duration = all.duration.or(seconds(30, 3));
    all.settle = all.settle.or(seconds(60, 10));
    all.push_rate = all.push_rate.or(either(5000.0, 1000.0));
    all.batch = all.batch.or(Some(Count(LISTED)));
    all.room_size = all.room_size.or(count(1000, 100));
    all.room_rate = all.room_rate.or(either(5.0, 20.0));
    all.churn_rate = all.churn_rate.or(either(5000.0, 500.0));
    all.churn_for = all.churn_for.or(seconds(60, 3));
    all.recover_for = all.recover_for.or(seconds(20, 2));
    all.connect_timeout = all.connect_timeout.or(Some(Span(Duration::from_secs(30))));
    let connections = all.connections.map_or(1, |count| count.0).max(1);
    // Past the kernel there is one queue, and no descriptor a connection.
    let alone = all.backend == Some(BackendChoice::Dpdk);
    let needed = || if alone { 1 } else { crate::limits::rings(connections) };
    let workers = all.workers.unwrap_or_else(needed);
    all.workers = Some(workers);
    // About eight thousand handshakes under way: with fewer each ring would have only a few to hand
    // over at a time, and more would only wait longer.
    all.connect_in_flight = all.connect_in_flight.or(Some(Count((8192 / workers.max(1)).clamp(8, 512))));
    let pushing = http_workers("million", workers);
    all.http_connections = all.http_connections.or(Some(HTTP_CONNECTIONS_MIN.div_ceil(pushing)));
    all
}

/// Workers that push: enough for eight connections.
pub(super) fn http_workers(scenario: &str, workers: u32) -> u32 {
    if scenario == "million" { workers.clamp(1, HTTP_CONNECTIONS_MIN) } else { workers }
}

/// The stages of `million`, with their flows.
fn million(settings: &Settings, connections: u32) -> Result<(Vec<StagePlan>, Vec<FlowPlan>), RunError> {
    let span = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
    let (warmup, measure, settle) = (span(settings.warmup), span(settings.duration), span(settings.settle));
    let size = settings.size.map_or(64, |count| count.0);
    let builder = Builder::new(settings, connections, size)?;
    let mut list = List { stages: Vec::new(), flows: Vec::new() };
    let phases = |warmup, measure| Phases { warmup, measure, settle_max: settle };
    let pace = |per_second: f64, flag| Ok(Pace::Open { rate: rate(per_second, flag)? });
    let pushes = |flag| pace(settings.push_rate.unwrap_or(1.0), flag);

    // Idle is what is left when the ramp's own work is over: a gateway moves quiet connections to a
    // cheaper wait then.
    list.hold("idle", phases(warmup * 10, span(settings.idle_for)), None);
    let push = FlowPlan { shuffled: true, audience_size: 1, ..builder.push(pushes("--push-rate")?)? };
    list.hold("push", phases(warmup, measure), Some(push.clone()));
    // The same number of deliveries, in fewer requests.
    let users = settings.batch.map_or(1, |count| count.0).clamp(1, connections);
    let lists = pace(
        settings.push_rate.unwrap_or(1.0) / f64::from(users),
        "--push-rate, to a list of --batch users,",
    )?;
    list.hold("list", phases(warmup, measure), Some(FlowPlan { shuffled: true, ..builder.push(lists)? }));
    let service = FlowPlan { path: Path::Service, ..push.clone() };
    list.hold("service", phases(warmup, measure), Some(service));
    let message = FlowPlan { kind: FlowKind::Message, path: Path::Direct, ..push.clone() };
    list.hold("message", phases(warmup, measure), Some(message));
    let room = builder.room(pace(settings.room_rate.unwrap_or(1.0), "--room-rate")?)?;
    let room = FlowPlan { path: Path::Http(Route::Room), slots: 1, shuffled: true, ..room };
    list.hold("room", phases(warmup, measure), Some(room));
    let broadcast = builder.broadcast(pace(settings.broadcast_rate.unwrap_or(ONCE), "--broadcast-rate")?);
    // One broadcast is one sample, so there are three.
    for name in ["broadcast", "broadcast-2", "broadcast-3"] {
        list.hold(name, phases(Duration::ZERO, settle), Some(broadcast.clone()));
        list.until_delivered();
    }
    let churn = StageKind::Churn { rate: rate(settings.churn_rate.unwrap_or(1.0), "--churn-rate")? };
    list.stage("churn", churn, phases(Duration::ZERO, span(settings.churn_for)));
    let all = phases(Duration::ZERO, longest(connections));
    list.stage("disconnect", StageKind::Disconnect, all);
    list.stage("storm", StageKind::Reconnect, all);
    list.hold("aftermath", phases(warmup, measure / 3), Some(push));
    list.stage("recovery", StageKind::Disconnect, all);
    if let Some(last) = list.stages.last_mut() {
        last.rest = span(settings.recover_for);
    }
    Ok((list.stages, list.flows))
}

/// The same echoes twice: alone, and while connection requests come from unused addresses.
fn syn_flood(settings: &Settings, connections: u32) -> Result<(Vec<StagePlan>, Vec<FlowPlan>), RunError> {
    if settings.backend != Some(BackendChoice::Dpdk) {
        return Err(RunError::new(
            "the kernel does not send from addresses that are not this machine's",
            "give --backend dpdk, with the server on the other end of its link (docs/dpdk.md)",
        ));
    }
    let builder = Builder::new(settings, connections, settings.size.map_or(64, |count| count.0))?;
    let echo = builder.echo(Pace::Open { rate: rate(settings.rate.unwrap_or(FLOODED_ECHOES), "--rate")? });
    let syn_rate = match settings.syn_rate.map(|per_second| rate(per_second, "--syn-rate")).transpose()? {
        Some(rate) => (rate.per_second() as u32).clamp(1, u32::MAX - 1),
        None => u32::MAX,
    };
    let mut list = List { stages: Vec::new(), flows: Vec::new() };
    let phases = super::phases("syn-flood", settings);
    list.hold("peace", phases, Some(echo.clone()));
    list.hold("flood", phases, Some(echo));
    if let Some(last) = list.stages.last_mut() {
        last.syn_rate = Some(syn_rate);
    }
    Ok((list.stages, list.flows))
}

/// At most so long opening or closing all may take: a minute, and a second for each 2000.
fn longest(connections: u32) -> Duration {
    Duration::from_secs(60 + u64::from(connections) / 2000)
}

struct List {
    stages: Vec<StagePlan>,
    flows: Vec<FlowPlan>,
}

impl List {
    fn stage(&mut self, name: &str, kind: StageKind, phases: Phases) {
        let (name, rest) = (name.to_owned(), Duration::from_secs(1));
        self.stages.push(StagePlan { name, kind, phases, until_delivered: false, rest, syn_rate: None });
    }

    fn hold(&mut self, name: &str, phases: Phases, flow: Option<FlowPlan>) {
        let stage = self.stages.len();
        self.flows.extend(flow.map(|flow| FlowPlan { stage, ..flow }));
        self.stage(name, StageKind::Hold, phases);
    }

    fn until_delivered(&mut self) {
        if let Some(stage) = self.stages.last_mut() {
            stage.until_delivered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(per_second: f64) -> Pace {
        Pace::Open { rate: rate(per_second, "").unwrap() }
    }

    #[test]
    fn the_million_goes_through_all_stages_with_a_flow_where_one_belongs() {
        let settings = with_defaults(&Settings { quick: Some(true), ..Settings::default() });
        let (stages, flows) = million(&settings, 3000).unwrap();
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        let wanted = "idle push list service message room broadcast broadcast-2 broadcast-3 churn disconnect storm aftermath recovery";
        assert_eq!(names, wanted.split(' ').collect::<Vec<_>>());
        let of = |flow: &FlowPlan| names[flow.stage];
        let with: Vec<&str> = flows.iter().map(of).collect();
        let broadcasts = ["broadcast", "broadcast-2", "broadcast-3"];
        assert_eq!(with[..5], ["push", "list", "service", "message", "room"]);
        assert_eq!((&with[5..8], &with[8..]), (&broadcasts[..], &["aftermath"][..]));
        let users: Vec<u32> = flows.iter().map(|flow| flow.audience_size).collect();
        assert_eq!(users, [1, LISTED, 1, 1, 100, 3000, 3000, 3000, 1]);
        assert_eq!((flows[0].pace, flows[1].pace), (open(1000.0), open(100.0)));
        assert!(settings.workers.unwrap() * settings.http_connections.unwrap() >= 8);
    }
}
