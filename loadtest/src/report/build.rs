//! From findings to a report: sums over the workers, the final reconciliation, goals and verdicts.

use super::{
    Connect, Conservation, FORMAT, FlowReport, Generator, Latency, Report, Requests, Server, SlowReaders,
    Verdict,
};
use crate::conservation::Counts;
use crate::goals::{Goal, Measure, Outcome};
use crate::histogram::{fresh, merge};
use crate::monitor;
use crate::plan::{Pace, Path, Plan, ProtocolKind, Role};
use crate::run::Findings;
use crate::schedule::Schedule;
use crate::worker::{FlowResult, WorkerResult};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// A thread busier than this is the bottleneck itself.
const BUSY_MAX: f64 = 0.9;
/// A schedule that slips further than this at its 99th percentile is not kept, in nanoseconds.
const LAG_MAX: u64 = 1_000_000;
/// A thread that waits longer than this for a processor shares the machine with too much else.
const STARVED_MAX: f64 = 0.1;
/// Violations described in words.
const EXAMPLES_MAX: usize = 8;

/// What the report is told beside the findings.
pub(crate) struct About {
    pub(crate) label: String,
    pub(crate) command: String,
    pub(crate) started_at: u64,
    pub(crate) goals: Vec<Goal>,
}

/// Sums up.
pub(crate) fn report(plan: &Plan, findings: Findings, about: About) -> Report {
    let mut report = Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        label: about.label,
        scenario: plan.scenario.to_owned(),
        command: about.command,
        started_at: about.started_at,
        target: plan.endpoints.server_name.clone(),
        protocol: protocol(plan),
        machine: monitor::machine(),
        measured_seconds: (findings.window.end - findings.window.start) as f64 / 1e9,
        warmup_seconds: (findings.window.start - findings.window.traffic_start) as f64 / 1e9,
        unsettled: findings.unsettled,
        interrupted: findings.interrupted,
        connect: connect(plan, &findings.results),
        flows: (0..plan.flows.len()).map(|index| flow(plan, &findings, index)).collect(),
        heartbeats: heartbeats(&findings.results),
        churn: churn(plan, &findings.results),
        slow_readers: slow_readers(plan, &findings.results),
        generator: generator(plan, &findings),
        ..Report::default()
    };
    for result in &findings.results {
        add(&mut report.notices, &result.notices);
        add(&mut report.violations, &result.violations);
        let examples = result.flows.iter().flat_map(|flow| flow.checker.examples());
        report
            .examples
            .extend(examples.take(EXAMPLES_MAX - report.examples.len().min(EXAMPLES_MAX)).cloned());
    }
    report.server = server(&findings, &report);
    report.metrics = findings.metrics;
    report.seconds = findings.seconds;
    report.samples = findings.samples;
    report.verdict = verdict(&report);
    report.goals = about.goals.iter().map(|goal| judge(goal, &report)).collect();
    let missed =
        report.goals.iter().filter(|goal| !goal.met).map(|goal| format!("goal {} missed", goal.goal));
    report.verdict.reasons.extend(missed);
    report.verdict.passed = report.verdict.reasons.is_empty();
    report
}

fn protocol(plan: &Plan) -> String {
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

fn connect(plan: &Plan, results: &[WorkerResult]) -> Connect {
    let fleets = || results.iter().map(|result| &result.fleet);
    let ready = merged(fleets().map(|fleet| &fleet.ready));
    let first = fleets().map(|fleet| fleet.first_started).min().unwrap_or(0);
    // Reconnects of churning connections come later and are no part of the opening.
    let opening = results.iter().filter(|result| result.role != Role::Churn || plan.connections == 0);
    let last = opening.map(|result| result.fleet.opened_by).max().unwrap_or(0);
    let mut connect = Connect {
        asked: u64::from(plan.connections_total()),
        given_up: fleets().map(|fleet| fleet.given_up).sum(),
        retried: fleets().map(|fleet| fleet.retried).sum(),
        seconds: last.saturating_sub(first) as f64 / 1e9,
        connected: merged(fleets().map(|fleet| &fleet.connected)),
        ready_latency: ready,
        ..Connect::default()
    };
    connect.ready = fleets().map(|fleet| fleet.opened).sum();
    connect.per_second = if connect.seconds > 0.0 { connect.ready as f64 / connect.seconds } else { 0.0 };
    for fleet in fleets() {
        add(&mut connect.failures, &fleet.failures);
    }
    for result in results.iter().filter(|result| result.role != Role::Slow) {
        add(&mut connect.lost, &result.fleet.lost);
    }
    connect
}

fn reconcile(plan: &Plan, results: &[WorkerResult], index: usize) -> Conservation {
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
        not_sent: sum(|flow| flow.not_sent),
        refused: sum(|flow| flow.refused),
        owed: owed.saturating_sub(excused),
        delivered: counts.delivered,
        lost: counts.lost.saturating_sub(excused),
        duplicated: counts.duplicated,
        reordered: counts.reordered,
        misdelivered: counts.misdelivered,
        damaged: counts.damaged,
    }
}

fn flow(plan: &Plan, findings: &Findings, index: usize) -> FlowReport {
    let flow = &plan.flows[index];
    let found = || findings.results.iter().map(|result| &result.flows[index]);
    let sum = |of: fn(&FlowResult) -> u64| found().map(of).sum::<u64>() as f64;
    let window = &findings.window;
    let seconds = ((window.end - window.start) as f64 / 1e9).max(1e-9);
    let sent = sum(|flow| flow.recorder.sent_measured);
    let fan_out = if sent > 0.0 {
        sum(|flow| flow.recorder.owed_measured) / sent
    } else {
        f64::from(flow.audience_size)
    };
    let total = found().map(|flow| flow.total_senders).max().unwrap_or(1);
    let (pace, offered) = match flow.pace {
        Pace::Closed { depth } => (format!("closed, depth {depth}"), None),
        Pace::Open { rate } => {
            let schedule = Schedule::new(window.traffic_start, rate, u64::from(total));
            let offered = schedule.offered(window.start, window.end) as f64 / seconds;
            (format!("open, {}/s", rate.per_second()), Some(offered))
        }
    };
    let delivered = sum(|flow| flow.recorder.delivered_measured) / seconds;
    let wanted = offered.unwrap_or(sent / seconds) * fan_out;
    let answered = sum(|flow| flow.answered) > 0.0;
    FlowReport {
        name: flow.kind.name().to_owned(),
        pace,
        payload_size: flow.payload_size,
        fan_out,
        offered,
        sent: sent / seconds,
        delivered,
        ratio: if wanted > 0.0 { delivered / wanted } else { 0.0 },
        latency: merged(found().map(|flow| &flow.recorder.latency)),
        answer: (answered && matches!(flow.path, Path::Http(_)))
            .then(|| merged(found().map(|flow| &flow.recorder.answer))),
        lag: merged(found().map(|flow| &flow.recorder.lag)),
        conservation: reconcile(plan, &findings.results, index),
    }
}

fn heartbeats(results: &[WorkerResult]) -> Option<Requests> {
    let sent: u64 = results.iter().map(|result| result.beats_sent).sum();
    let answered: u64 = results.iter().map(|result| result.beats_answered).sum();
    let void: u64 = results.iter().map(|result| result.beats_void).sum();
    (sent > 0).then(|| Requests {
        sent,
        answered,
        missed: sent.saturating_sub(answered + void),
        measured: results.iter().map(|result| result.beats_measured).sum(),
        latency: merged(results.iter().map(|result| &result.beat_latency)),
    })
}

fn churn(plan: &Plan, results: &[WorkerResult]) -> Option<Requests> {
    plan.churn.map(|_| {
        let operations: u64 = results.iter().map(|result| result.churn_operations).sum();
        let answered: u64 = results.iter().map(|result| result.churned).sum();
        Requests {
            sent: operations,
            answered,
            measured: results.iter().map(|result| result.churned_measured).sum(),
            missed: results.iter().map(|result| result.churn_missed).sum(),
            latency: merged(results.iter().map(|result| &result.churn_latency)),
        }
    })
}

fn slow_readers(plan: &Plan, results: &[WorkerResult]) -> Option<SlowReaders> {
    let slow = results.iter().filter(|result| result.role == Role::Slow);
    (plan.slow_connections > 0).then(|| SlowReaders {
        connections: u64::from(plan.slow_connections),
        closed_by_server: slow.flat_map(|result| result.fleet.lost.values()).sum(),
    })
}

fn generator(plan: &Plan, findings: &Findings) -> Generator {
    let window = (findings.window.end - findings.window.start).max(1) as f64;
    Generator {
        backend: findings.results.first().map_or("", |result| result.backend).to_owned(),
        workers: plan.machinery.workers,
        busy: findings.results.iter().map(|result| result.cpu as f64 / window).collect(),
        starved: findings.results.iter().map(|result| result.waited as f64 / window).collect(),
        stalls: findings.results.iter().map(|result| result.stalls).sum(),
        rss_bytes: monitor::own_rss(),
        polls: findings.results.iter().map(|result| result.counters.polls).sum(),
        receives: findings.results.iter().map(|result| result.counters.receives).sum(),
        sends: findings.results.iter().map(|result| result.counters.sends).sum(),
        send_waits: findings.results.iter().map(|result| result.counters.send_waits).sum(),
    }
}

fn server(findings: &Findings, report: &Report) -> Option<Server> {
    let pid = *findings.pids.first()?;
    let usage = &findings.usage;
    let user = usage.end.user.saturating_sub(usage.start.user).as_secs_f64();
    let system = usage.end.system.saturating_sub(usage.start.system).as_secs_f64();
    let flows = report.flows.iter().map(|flow| flow.delivered * report.measured_seconds).sum::<f64>();
    let beats = report.heartbeats.as_ref().map_or(0, |beats| beats.measured) as f64;
    let churned = report.churn.as_ref().map_or(0, |churn| churn.measured) as f64;
    let messages = if flows > 0.0 { flows } else { beats + churned };
    let connections = report.connect.ready.max(1) as f64;
    Some(Server {
        pids: findings.pids.clone(),
        command: monitor::command_of(pid),
        user_seconds: user,
        system_seconds: system,
        starved_seconds: usage.end.waited.saturating_sub(usage.start.waited).as_secs_f64(),
        messages: messages as u64,
        cpu_nanos_per_message: if messages > 0.0 { (user + system) * 1e9 / messages } else { 0.0 },
        rss_before: usage.before.rss,
        rss_connected: usage.connected.rss,
        rss_after: usage.after.rss,
        rss_bytes_per_connection: (usage.connected.rss as f64 - usage.before.rss as f64) / connections,
    })
}

/// The product's faults, and beside them the generator's own limits.
fn verdict(report: &Report) -> Verdict {
    let mut reasons = Vec::new();
    let mut fault = |count: u64, what: &str| {
        if count > 0 {
            reasons.push(format!("{} {what}", super::units::number(count as f64)));
        }
    };
    let sum =
        |of: fn(&Conservation) -> u64| report.flows.iter().map(|flow| of(&flow.conservation)).sum::<u64>();
    let lost = if report.unsettled {
        "deliveries still missing when settling ended (see --settle)"
    } else {
        "deliveries lost"
    };
    fault(sum(|c| c.lost), lost);
    fault(sum(|c| c.duplicated), "delivered twice");
    fault(sum(|c| c.reordered), "out of order");
    fault(sum(|c| c.misdelivered), "misdelivered");
    fault(sum(|c| c.damaged), "damaged");
    fault(sum(|c| c.refused), "operations refused");
    fault(report.violations.values().sum(), "protocol violations");
    fault(report.connect.asked.saturating_sub(report.connect.ready), "connections never ready");
    fault(report.connect.lost.values().sum(), "connections closed by the server");
    let beats = report.heartbeats.as_ref().map_or(0, |beats| beats.missed);
    fault(beats, "heartbeats unanswered");
    let limits = limits(report);
    Verdict {
        passed: reasons.is_empty(),
        reasons,
        generator_bound: !limits.is_empty(),
        generator_reasons: limits,
    }
}

/// What held the generator, or the whole machine, back.
fn limits(report: &Report) -> Vec<String> {
    let mut limits = Vec::new();
    let generator = &report.generator;
    for (number, share) in generator.busy.iter().enumerate().filter(|(_, share)| **share > BUSY_MAX) {
        limits.push(format!("worker {number} was busy {:.0} % of the time", share * 100.0));
    }
    for (number, share) in generator.starved.iter().enumerate().filter(|(_, share)| **share > STARVED_MAX) {
        let percent = share * 100.0;
        limits.push(format!(
            "worker {number} waited {percent:.0} % of the time for a processor that others had"
        ));
    }
    for flow in report.flows.iter().filter(|flow| flow.offered.is_some() && flow.lag.p99 > LAG_MAX) {
        let lag = super::units::nanos(flow.lag.p99 as f64);
        let waited = if flow.answer.is_some() {
            " (pushes may have waited for room in the HTTP pipeline)"
        } else {
            ""
        };
        limits.push(format!("the schedule of {} slipped, send lag p99 {lag}{waited}", flow.name));
    }
    limits
}

fn judge(goal: &Goal, report: &Report) -> Outcome {
    let worst = |of: &dyn Fn(&FlowReport) -> f64| report.flows.iter().map(of).fold(f64::NAN, f64::max);
    let least = |of: &dyn Fn(&FlowReport) -> f64| report.flows.iter().map(of).fold(f64::NAN, f64::min);
    let others = report.churn.as_ref().or(report.heartbeats.as_ref()).map(|requests| &requests.latency);
    let latency = |of: &dyn Fn(&super::Latency) -> u64| {
        let flows = worst(&|flow| of(&flow.latency) as f64);
        if flows.is_nan() { of(others.unwrap_or(&report.connect.ready_latency)) as f64 } else { flows }
    };
    let found = match goal.measure {
        Measure::Latency(percentile) => latency(&|latency| latency.at(percentile)),
        Measure::LatencyMax => latency(&|latency| latency.max),
        Measure::Connect(percentile) => report.connect.ready_latency.at(percentile) as f64,
        Measure::Rate => {
            let ratio = least(&|flow| flow.ratio);
            let churn = report.churn.as_ref().map(|churn| churn.answered as f64 / churn.sent.max(1) as f64);
            if ratio.is_nan() { churn.unwrap_or(f64::NAN) } else { ratio }
        }
        Measure::Loss => report.flows.iter().map(|flow| flow.conservation.lost).sum::<u64>() as f64,
        Measure::Violations => violations(report),
        Measure::Ready => report.connect.ready as f64 / report.connect.asked.max(1) as f64,
        Measure::Cpu => report.server.as_ref().map_or(f64::NAN, |server| server.cpu_nanos_per_message),
        Measure::Memory => report.server.as_ref().map_or(f64::NAN, |server| server.rss_bytes_per_connection),
        Measure::Throughput => report.flows.iter().map(|flow| flow.delivered).sum(),
    };
    if found.is_nan() {
        return Outcome { goal: goal.text.clone(), found: "nothing to measure it by".to_owned(), met: false };
    }
    Outcome { goal: goal.text.clone(), found: goal.show(found), met: goal.is_met(found) }
}

fn violations(report: &Report) -> f64 {
    let of = |c: &Conservation| c.duplicated + c.reordered + c.misdelivered + c.damaged;
    let flows: u64 = report.flows.iter().map(|flow| of(&flow.conservation)).sum();
    (flows + report.violations.values().sum::<u64>()) as f64
}
