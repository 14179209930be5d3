//! From the stages of a scenario file to those of a plan.

use super::file::{Kind, Scenario, Stage};
use super::flows::Builder;
use super::value::{Quantities, Value, rate};
use crate::error::RunError;
use crate::plan::{FlowPlan, Phases, StageKind, StagePlan};
use crate::settings::units::Count;
use crate::settings::{BackendChoice, Settings};
use std::time::Duration;

/// At least so many HTTP connections share the pushes of a scaled scenario.
const HTTP_CONNECTIONS_MIN: u32 = 8;
/// Handshakes under way of a scaled scenario. With fewer each ring would have only a few to hand
/// over at a time, and more would only wait longer.
const HANDSHAKES: u32 = 8192;

/// Stages and flows of `scenario` over `connections` measured connections.
pub(super) fn stages(
    scenario: &Scenario,
    settings: &Settings,
    connections: u32,
) -> Result<(Vec<StagePlan>, Vec<FlowPlan>), RunError> {
    let quantities = Quantities { scenario: &scenario.name, table: settings.table() };
    let (mut stages, mut flows) = (Vec::new(), Vec::new());
    for (index, stage) in scenario.stage.iter().enumerate() {
        let builder = Builder { settings, quantities: &quantities, connections };
        for flow in &stage.flow {
            flows.extend(builder.flow(flow)?.map(|flow| FlowPlan { stage: index, ..flow }));
        }
        // Between stages there is a pause.
        let rest = Value::Number(if scenario.stage.len() == 1 { 0.0 } else { 1.0 });
        stages.push(plan(stage, &quantities, &rest, connections)?);
    }
    let floods = stages.iter().any(|stage| stage.syn_rate.is_some());
    if floods && settings.backend != Some(BackendChoice::Dpdk) {
        return Err(RunError::new(
            "the kernel does not send from addresses that are not this machine's",
            "give --backend dpdk, with the server on the other end of its link (docs/dpdk.md)",
        ));
    }
    Ok((stages, flows))
}

fn plan(
    stage: &Stage,
    quantities: &Quantities<'_>,
    rest: &Value,
    connections: u32,
) -> Result<StagePlan, RunError> {
    let turns_over = matches!(stage.kind, Kind::Disconnect | Kind::Reconnect);
    let measure = match &stage.duration {
        None if turns_over => longest(connections),
        duration => quantities.span(duration.as_ref(), "duration")?,
    };
    let warmup = quantities.span(stage.warmup.as_ref(), "warmup")?;
    let kind = match stage.kind {
        Kind::Hold => StageKind::Hold,
        Kind::Disconnect => StageKind::Disconnect,
        Kind::Reconnect => StageKind::Reconnect,
        Kind::Churn => {
            let per_second = quantities.number(stage.rate.as_ref())?.unwrap_or(0.0);
            StageKind::Churn { rate: rate(per_second, &format!("stage {}: rate", stage.name))? }
        }
    };
    Ok(StagePlan {
        name: stage.name.clone(),
        kind,
        phases: Phases {
            warmup: if turns_over { Duration::ZERO } else { warmup },
            measure,
            settle_max: quantities.span(stage.settle.as_ref(), "settle")?,
        },
        until_delivered: stage.until_delivered,
        rest: quantities.span(Some(stage.rest.as_ref().unwrap_or(rest)), "")?,
        syn_rate: syn_rate(quantities.number(stage.syn_rate.as_ref())?)?,
        goals: stage.goal.clone(),
    })
}

/// Connection requests a second; infinity: as many as the link takes.
fn syn_rate(per_second: Option<f64>) -> Result<Option<u32>, RunError> {
    Ok(match per_second {
        None => None,
        Some(f64::INFINITY) => Some(u32::MAX),
        Some(per_second) => {
            Some((rate(per_second, "--syn-rate")?.per_second() as u32).clamp(1, u32::MAX - 1))
        }
    })
}

/// At most so long opening or closing all may take: a minute, and a second for each 2000.
fn longest(connections: u32) -> Duration {
    Duration::from_secs(60 + u64::from(connections) / 2000)
}

/// What a scaled scenario sets by the number of its connections, where `settings` leave it open.
pub(super) fn scaled(settings: &Settings) -> Settings {
    let mut all = settings.clone();
    let connections = all.connections.map_or(1, |count| count.0).max(1);
    // Past the kernel there is one queue, and no descriptor a connection.
    let alone = all.backend == Some(BackendChoice::Dpdk);
    let needed = || if alone { 1 } else { crate::limits::rings(connections) };
    let workers = all.workers.unwrap_or_else(needed);
    all.workers = Some(workers);
    all.connect_in_flight =
        all.connect_in_flight.or(Some(Count((HANDSHAKES / workers.max(1)).clamp(8, 512))));
    let pushing = http_workers(true, workers);
    all.http_connections = all.http_connections.or(Some(HTTP_CONNECTIONS_MIN.div_ceil(pushing)));
    all
}

/// Workers that push: all, or of a scaled scenario enough for eight connections.
pub(super) fn http_workers(is_scaled: bool, workers: u32) -> u32 {
    if is_scaled { workers.clamp(1, HTTP_CONNECTIONS_MIN) } else { workers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Course, Load};
    use crate::plan::{FlowKind, Pace, Path, Route};

    fn open(per_second: f64) -> Pace {
        Pace::Open { load: Load::even(Course::constant(rate(per_second, "").unwrap())) }
    }

    #[test]
    fn the_million_goes_through_all_stages_with_a_flow_where_one_belongs() {
        let million = Scenario::built_in("million").unwrap();
        let settings = million.defaults(&Settings { quick: Some(true), ..Settings::default() }).unwrap();
        let (stages, flows) = stages(&million, &settings, 3000).unwrap();
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        let wanted = "idle push list service message room broadcast broadcast-2 broadcast-3 churn disconnect storm aftermath recovery";
        assert_eq!(names, wanted.split(' ').collect::<Vec<_>>());
        let of = |flow: &FlowPlan| names[flow.stage];
        let with: Vec<&str> = flows.iter().map(of).collect();
        let broadcasts = ["broadcast", "broadcast-2", "broadcast-3"];
        assert_eq!(with[..5], ["push", "list", "service", "message", "room"]);
        assert_eq!((&with[5..8], &with[8..]), (&broadcasts[..], &["aftermath"][..]));
        let users: Vec<u32> = flows.iter().map(|flow| flow.audience_size).collect();
        assert_eq!(users, [1, 10, 1, 1, 100, 3000, 3000, 3000, 1]);
        assert_eq!([&flows[0].pace, &flows[1].pace], [&open(1000.0), &open(100.0)]);
        let paths = [Path::Http(Route::Mids), Path::Http(Route::Mids), Path::Service, Path::Direct];
        assert_eq!(flows[..4].iter().map(|flow| flow.path).collect::<Vec<_>>(), paths);
        assert_eq!((flows[4].path, flows[4].slots), (Path::Http(Route::Room), 1));
        assert_eq!(flows[3].kind, FlowKind::Message);
        let seconds = |index: usize| stages[index].phases.measure.as_secs();
        assert_eq!((seconds(0), stages[0].phases.warmup.as_secs(), seconds(12)), (4, 10, 1));
        assert_eq!((seconds(10), stages[10].phases.warmup.as_secs(), stages[13].rest.as_secs()), (61, 0, 2));
        assert!(
            stages[7].until_delivered
                && stages[9].kind == StageKind::Churn { rate: rate(500.0, "").unwrap() }
        );
        assert!(settings.workers.unwrap() * settings.http_connections.unwrap() >= 8);
    }

    #[test]
    fn a_flood_comes_as_fast_as_asked_or_as_the_link_takes() {
        assert_eq!(syn_rate(Some(f64::INFINITY)).unwrap(), Some(u32::MAX));
        assert_eq!(syn_rate(Some(1000.0)).unwrap(), Some(1000));
        assert!(syn_rate(Some(0.0)).is_err() && syn_rate(None).unwrap().is_none());
    }
}
