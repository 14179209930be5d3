//! From output to a report: sums over the workers, the final reconciliation, goals and verdicts.

mod agents;
mod goals;
mod stage;
mod steps;
mod validity;
mod verdict;

pub(crate) use goals::found;

use super::{
    Answers, Connect, Conservation, CourseReport, FlowReport, Generator, Latency, Report, Requests,
    SCHEMA_VERSION, Server, SlowReaders,
};
use crate::conservation::Counts;
use crate::goals::Goal;
use crate::histogram::{fresh, merge, record_open};
use crate::load::{Agenda, Load};
use crate::monitor::{self, Usage};
use crate::plan::{Pace, Path, ProtocolKind, Role, RunPlan, StagePlan};
use crate::report::CLOSED_HERE;
use crate::run::RunOutput;
use crate::worker::control::Window;
use crate::worker::{Beats, ChurnStats, ClockGaps, FleetStats, FlowResult, Share, StageStats, WorkerResult};
use hdrhistogram::Histogram;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Violations described in words.
const EXAMPLES_MAX: usize = 8;

/// What goes into the report in addition to the output.
pub(crate) struct About {
    pub(crate) label: String,
    pub(crate) command: String,
    pub(crate) started_at: u64,
    pub(crate) goals: Vec<Goal>,
}

/// Builds the report.
pub(crate) fn report(plan: &RunPlan, output: RunOutput, about: About) -> Report {
    let windows = || output.stages.iter().map(|stage| &stage.window);
    let warmup = |window: &Window| window.start.saturating_sub(window.traffic_start) as f64 / 1e9;
    let results = &output.results;
    let totals: Vec<StageStats> = results.iter().map(|result| total(&result.stages)).collect();
    let mut report = Report {
        schema_version: SCHEMA_VERSION.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        label: about.label,
        scenario: plan.scenario.clone(),
        command: about.command,
        started_at: about.started_at,
        target: plan.endpoints.server_name.clone(),
        protocol: protocol(plan),
        machine: monitor::machine(),
        measured_seconds: windows().map(Window::seconds).sum(),
        warmup_seconds: windows().next().map_or(0.0, warmup),
        unsettled: output.stages.iter().any(|stage| stage.unsettled),
        interrupted: output.interrupted,
        server_gone: output.server_gone,
        connect: connect(plan, results, &totals),
        flows: (0..plan.flows.len()).map(|index| flow(plan, &output, index)).collect(),
        heartbeats: heartbeats(&totals),
        churn: plan.churn.map(|_| churn(&totals)),
        slow_readers: slow_readers(plan, results),
        generator: generator(plan, &output),
        ..Report::default()
    };
    for result in results {
        add(&mut report.notices, &result.notices);
        add(&mut report.violations, &result.violations);
        let examples = result.flows.iter().flat_map(|flow| flow.checker.examples());
        report
            .examples
            .extend(examples.take(EXAMPLES_MAX - report.examples.len().min(EXAMPLES_MAX)).cloned());
    }
    report.server = server(&output, &report);
    if plan.stages.len() > 1 {
        report.stages =
            (0..output.stages.len()).map(|index| stage::stage(plan, &output, &report, index)).collect();
    } else {
        report.seconds = output.stages.into_iter().next().map_or_else(Vec::new, |stage| stage.seconds);
    }
    report.metrics = output.metrics;
    report.samples = output.samples;
    report.verdict = verdict::verdict(&report);
    agents::add(&output.agents, &mut report);
    let of_stage = |stage: &StagePlan| stage.goals.iter().filter_map(|text| Goal::parse(text).ok()).collect();
    let of_stages: Vec<Vec<Goal>> = plan.stages.iter().map(of_stage).collect();
    match &of_stages[..] {
        // The only stage is the run.
        [only] => goals::judge_goals(&[about.goals, only.clone()].concat(), &[], &mut report),
        _ => goals::judge_goals(&about.goals, &of_stages, &mut report),
    }
    report
}

/// A worker's counts over all stages.
fn total(stages: &[StageStats]) -> StageStats {
    let mut total = StageStats::new();
    stages.iter().for_each(|stage| total.add(stage));
    total
}

fn protocol(plan: &RunPlan) -> String {
    match (plan.protocol, plan.websocket) {
        (ProtocolKind::Goim, false) => "goim over TCP",
        (ProtocolKind::Goim, true) => "goim over WebSocket",
        (ProtocolKind::Raw, _) => "bare TCP",
        (ProtocolKind::WebSocketRaw, _) => "bare WebSocket",
    }
    .to_owned()
}

fn add(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        *into.entry(name.clone()).or_insert(0) += count;
    }
}

fn merged<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Latency {
    let mut all = fresh(3);
    histograms.for_each(|histogram| merge(&mut all, histogram));
    Latency::of(&all)
}

/// The opening; failures and losses of the whole run.
fn connect(plan: &RunPlan, results: &[WorkerResult], totals: &[StageStats]) -> Connect {
    let openings = results.iter().filter_map(|result| result.stages.first());
    let openings: Vec<&FleetStats> = openings.map(|stage| &stage.fleet).collect();
    // Churning connections open together with the measured ones; what they do later is no part of
    // the opening.
    let mut connect = opening(u64::from(plan.connections_total()), &openings);
    connect.given_up = totals.iter().map(|total| total.fleet.given_up).sum();
    connect.retried = totals.iter().map(|total| total.fleet.retried).sum();
    connect.failures.clear();
    for total in totals {
        add(&mut connect.failures, &total.fleet.failures);
    }
    for (_, total) in results.iter().zip(totals).filter(|(result, _)| result.role != Role::Slow) {
        add(&mut connect.lost, &total.fleet.lost);
    }
    connect
}

/// A ramp, or a storm.
fn opening(asked: u64, fleets: &[&FleetStats]) -> Connect {
    let first = fleets.iter().map(|fleet| fleet.first_started).min().unwrap_or(0);
    let last = fleets.iter().map(|fleet| fleet.opened_by).max().unwrap_or(0);
    let seconds = last.saturating_sub(first) as f64 / 1e9;
    let ready: u64 = fleets.iter().map(|fleet| fleet.opened).sum();
    let mut connect = Connect {
        asked,
        ready,
        given_up: fleets.iter().map(|fleet| fleet.given_up).sum(),
        retried: fleets.iter().map(|fleet| fleet.retried).sum(),
        seconds,
        per_second: if seconds > 0.0 { ready as f64 / seconds } else { 0.0 },
        connected: merged(fleets.iter().map(|fleet| &fleet.connected)),
        ready_latency: merged(fleets.iter().map(|fleet| &fleet.ready)),
        ..Connect::default()
    };
    fleets.iter().for_each(|fleet| add(&mut connect.failures, &fleet.failures));
    connect
}

fn reconcile(plan: &RunPlan, results: &[WorkerResult], index: usize) -> Conservation {
    let flow = &plan.flows[index];
    let slots = usize::from(flow.slots);
    let mut sent = vec![0_u32; flow.audiences(plan.connections) as usize * slots];
    let all = || results.iter().map(|result| (result, &result.flows[index]));
    for sender in all().flat_map(|(_, flow)| &flow.senders) {
        sent[sender.audience as usize * slots + usize::from(sender.slot)] = sender.next;
    }
    let (mut counts, mut owed) = (Counts::default(), 0);
    for (result, found) in all() {
        let audience = |local| result.duty.global(local) / flow.audience_size;
        let of = |audience: u32, slot: u16| sent.get(audience as usize * slots + usize::from(slot)).copied();
        let (own, own_owed) =
            found.checker.reconcile(audience, |audience, slot| of(audience, slot).unwrap_or(0));
        counts.add(&own);
        owed += own_owed;
    }
    let sum = |of: fn(&FlowResult) -> u64| all().map(|(_, flow)| of(flow)).sum::<u64>();
    let excused = sum(|flow| flow.excused);
    Conservation {
        operations: sum(|flow| flow.recorder.sent),
        not_sent: sum(|flow| flow.not_sent + flow.recorder.never_sent),
        refused: sum(|flow| flow.refused),
        owed: owed.saturating_sub(excused),
        delivered: counts.delivered,
        lost: counts.lost.saturating_sub(excused),
        duplicated: counts.duplicated,
        reordered: counts.reordered,
        misdelivered: counts.misdelivered,
        damaged: counts.damaged,
        answers: answers(all().map(|(_, flow)| flow)),
    }
}

/// The answers to a flow's operations, and what is missing of them.
fn answers<'a>(found: impl Iterator<Item = &'a FlowResult>) -> Answers {
    let mut sum = Answers::default();
    for flow in found {
        let Answers { answered, unanswered, duplicated } = flow.answers.counts;
        let behind = flow.senders.iter().map(|sender| flow.answers.behind(sender.local, sender.next));
        // An operation that was not sent has no answer.
        let missing = (behind.sum::<u64>() + flow.answers.skipped()).saturating_sub(flow.not_sent);
        sum.answered += answered;
        sum.unanswered += unanswered + missing;
        sum.duplicated += duplicated;
    }
    sum
}

fn flow(plan: &RunPlan, output: &RunOutput, index: usize) -> FlowReport {
    let flow = &plan.flows[index];
    let found = || output.results.iter().map(|result| &result.flows[index]);
    let sum = |of: fn(&FlowResult) -> u64| found().map(of).sum::<u64>() as f64;
    // A run that was cut short may not have come to its stage.
    let window = output.stages.get(flow.stage).map_or(Window::default(), |stage| stage.window);
    let seconds = window.seconds().max(1e-9);
    let sent = sum(|flow| flow.recorder.sent_measured);
    let fan_out = if sent > 0.0 {
        sum(|flow| flow.recorder.owed_measured) / sent
    } else {
        f64::from(flow.audience_size)
    };
    let mut sums = steps::Sums::of(found().map(|flow| flow.recorder.steps.list()));
    let latency = latency(plan, output, index, &mut sums);
    let (course, offered) = match &flow.pace {
        Pace::Closed { depth } => {
            (CourseReport { pace: format!("closed, depth {depth}"), steps: Vec::new() }, None)
        }
        Pace::Open { load } => {
            let agenda = agenda(load, &window, found());
            let offered = agenda.offered(window.start, window.end) as f64 / seconds;
            let steps = sums.reports(load, &agenda, &window);
            (CourseReport { pace: load.words(), steps }, Some(offered))
        }
    };
    let delivered = sum(|flow| flow.recorder.delivered_measured) / seconds;
    let wanted = offered.unwrap_or(sent / seconds) * fan_out;
    let answered = sum(|flow| flow.answers.counts.answered) > 0.0;
    FlowReport {
        name: plan.flow_name(flow),
        seconds,
        course,
        payload_size: flow.payload_size,
        fan_out,
        offered,
        sent: sent / seconds,
        delivered,
        ratio: if wanted > 0.0 { delivered / wanted } else { 0.0 },
        latency,
        answer: (answered && matches!(flow.path, Path::Http(_)))
            .then(|| merged(found().map(|flow| &flow.recorder.answer))),
        lag: merged(found().map(|flow| &flow.recorder.lag)),
        conservation: reconcile(plan, &output.results, index),
    }
}

/// When the operations of a flow were due in a stage of this window.
fn agenda<'a>(load: &Load, window: &Window, found: impl Iterator<Item = &'a FlowResult>) -> Agenda {
    let total = found.map(|flow| flow.total_senders).max().unwrap_or(1);
    Agenda::new(load, window.traffic_start, window.start, u64::from(total))
}

/// Latencies of the deliveries, those that never came among them: they are as late as they were
/// when the stage had settled. They are added to the steps of `sums`.
fn latency(plan: &RunPlan, output: &RunOutput, index: usize, sums: &mut steps::Sums) -> Latency {
    let (flow, mut all) = (&plan.flows[index], fresh(3));
    let found = || output.results.iter().map(|result| (result, &result.flows[index]));
    found().for_each(|(_, flow)| merge(&mut all, &flow.recorder.latency));
    let (Pace::Open { load }, Some(stage)) = (&flow.pace, output.stages.get(flow.stage)) else {
        return Latency::of(&all);
    };
    let slots = usize::from(flow.slots);
    let mut sent = vec![(0, 0); flow.audiences(plan.connections) as usize * slots];
    for sender in found().flat_map(|(_, flow)| &flow.senders) {
        sent[sender.audience as usize * slots + usize::from(sender.slot)] = (sender.next, sender.position);
    }
    let agenda = agenda(load, &stage.window, found().map(|(_, flow)| flow));
    for (result, found) in found() {
        let of = |receiver: u32, slot: u16| {
            let audience = result.duty.global(receiver) / flow.audience_size;
            sent.get(audience as usize * slots + usize::from(slot)).copied().unwrap_or_default()
        };
        found.checker.missing(
            |receiver, slot| of(receiver, slot).0,
            |receiver, slot, numbers| {
                let at = |number| agenda.intended_round(number, of(receiver, slot).1);
                let begun = at(numbers.start);
                // The one behind the last may lie beyond what was drawn, that is never.
                let times = (begun, at(numbers.end).min(stage.window.end.max(begun)));
                let count = u64::from(numbers.end - numbers.start);
                let within = |time| stage.window.contains(time);
                record_open(&mut all, times, count, within, stage.settled_at);
                for step in sums.list_mut() {
                    let (from, to) = (step.from, step.to);
                    let within = |time| within(time) && from <= time && time < to;
                    record_open(&mut step.latency, times, count, within, stage.settled_at);
                }
            },
        );
    }
    Latency::of(&all)
}

fn heartbeats<S: Borrow<StageStats>>(stats: &[S]) -> Option<Requests> {
    let sum = |of: fn(&Beats) -> u64| stats.iter().map(|stats| of(&stats.borrow().beats)).sum::<u64>();
    let (sent, answered, void) =
        (sum(|beats| beats.sent), sum(|beats| beats.answered), sum(|beats| beats.void));
    (sent > 0).then(|| Requests {
        sent,
        answered,
        missed: sent.saturating_sub(answered + void),
        measured: sum(|beats| beats.measured),
        duplicated: sum(|beats| beats.duplicated),
        reordered: sum(|beats| beats.reordered),
        latency: merged(stats.iter().map(|stats| &stats.borrow().beats.latency)),
    })
}

fn churn<S: Borrow<StageStats>>(stats: &[S]) -> Requests {
    let sum = |of: fn(&ChurnStats) -> u64| stats.iter().map(|stats| of(&stats.borrow().churn)).sum::<u64>();
    Requests {
        sent: sum(|churn| churn.operations),
        answered: sum(|churn| churn.completed),
        measured: sum(|churn| churn.measured),
        missed: sum(|churn| churn.missed),
        duplicated: 0,
        reordered: 0,
        latency: merged(stats.iter().map(|stats| &stats.borrow().churn.latency)),
    }
}

fn slow_readers(plan: &RunPlan, results: &[WorkerResult]) -> Option<SlowReaders> {
    let slow = results.iter().filter(|result| result.role == Role::Slow);
    (plan.slow_connections > 0).then(|| SlowReaders {
        connections: u64::from(plan.slow_connections),
        closed_by_server: slow
            .flat_map(|result| &result.stages)
            .flat_map(|stage| &stage.fleet.lost)
            .filter(|(why, _)| *why != CLOSED_HERE)
            .map(|(_, count)| count)
            .sum(),
    })
}

/// The generator over all windows.
fn generator(plan: &RunPlan, output: &RunOutput) -> Generator {
    let time: f64 = output.stages.iter().map(|stage| stage.window.seconds()).sum();
    let share = |of: fn(&Share) -> u64| {
        let spent = |result: &&WorkerResult| {
            result.stages.iter().skip(1).filter_map(|stage| stage.share).map(|share| of(&share)).sum::<u64>()
        };
        let threads = output.results.iter().filter(|result| result.counts_thread);
        threads.map(|result| spent(&result) as f64 / 1e9 / time.max(1e-9)).collect()
    };
    let sum = |of: fn(&netpoll::BackendCounters) -> u64| {
        output.results.iter().map(|result| of(&result.counters)).sum()
    };
    Generator {
        backend: output.results.first().map_or_else(String::new, |result| result.backend.clone()),
        workers: plan.machinery.workers,
        busy: share(|share| share.cpu),
        starved: share(|share| share.waited),
        stalls: output.results.iter().map(|result| result.stalls).sum(),
        rss_bytes: monitor::own_rss(),
        polls: sum(|counters| counters.polls),
        receives: sum(|counters| counters.receives),
        sends: sum(|counters| counters.sends),
        send_waits: sum(|counters| counters.send_waits),
        gaps: worst_gaps(output.results.iter().map(|result| total(&result.stages).gaps)),
        held: held(&output.results),
    }
}

/// The gaps of the worker that stood still the longest.
fn worst_gaps(all: impl Iterator<Item = ClockGaps>) -> ClockGaps {
    all.max_by_key(|gaps| gaps.total).unwrap_or_default()
}

fn held(results: &[WorkerResult]) -> (u64, u64) {
    let all = results.iter().flat_map(|result| &result.flows).map(|flow| flow.held);
    all.fold((0, 0), |(count, longest), (more, long)| (count + more, longest.max(long)))
}

/// The server over all windows, and its memory between the parts of the run.
fn server(output: &RunOutput, report: &Report) -> Option<Server> {
    let flows = |flow: &FlowReport| flow.delivered * flow.seconds;
    let flows = report.flows.iter().map(flows).sum::<f64>();
    let beats = report.heartbeats.as_ref().map_or(0, |beats| beats.measured) as f64;
    let churned = report.churn.as_ref().map_or(0, |churn| churn.measured) as f64;
    let messages = if flows > 0.0 { flows } else { beats + churned };
    let windows = output.stages.iter().map(|stage| stage.end.since(&stage.start));
    let spent = windows.reduce(|a, b| a + b);
    let usage = &output.usage;
    let server = spending(&output.pids, &spent.unwrap_or_default(), messages)?;
    let connections = report.connect.ready.max(1) as f64;
    Some(Server {
        rss_before: usage.before.rss,
        rss_connected: usage.connected.rss,
        rss_after: usage.after.rss,
        rss_bytes_per_connection: (usage.connected.rss as f64 - usage.before.rss as f64) / connections,
        ..server
    })
}

/// What a window cost the server; `None` where its process is not known.
fn spending(pids: &[i32], spent: &Usage, messages: f64) -> Option<Server> {
    let cpu = spent.cpu().as_secs_f64();
    Some(Server {
        command: monitor::command_of(*pids.first()?),
        pids: pids.to_vec(),
        user_seconds: spent.user.as_secs_f64(),
        system_seconds: spent.system.as_secs_f64(),
        cpu_seconds: cpu,
        is_busy_time: spent.busy.is_some(),
        wakeups: spent.voluntary,
        preemptions: spent.involuntary,
        starved_seconds: spent.waited.as_secs_f64(),
        messages: messages as u64,
        cpu_nanos_per_message: if messages > 0.0 { cpu * 1e9 / messages } else { 0.0 },
        ..Server::default()
    })
}
