//! One run: a gateway for each profile, bystanders on it, one abuse after another, then all at
//! once, then what is left.

use crate::abuse::answers::ADDRESS;
use crate::abuse::{self, Abuse, On};
use crate::attacker::{Attacker, Attempt, Attempts};
use crate::bystanders::ledger::Window;
use crate::bystanders::{Bystanders, Settings};
use crate::error::{Exit, RunError};
use crate::gateway::Gateway;
use crate::levels::{Levels, rss, run_delay};
use crate::profile::{Profile, Setup, hardening};
use crate::report::{Report, Row};
use crate::target::Order;
use crate::tokens::Signer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How late bystanders may be.
pub(crate) struct LatencyLimit {
    /// Times the quiet p99.
    pub(crate) ratio_max: f64,
    /// A p99 up to which is held, whatever the quiet one.
    pub(crate) floor: Duration,
}

/// The rows to run, and their parameters.
pub(crate) struct SuitePlan {
    pub(crate) chosen: Vec<&'static Abuse>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) all_at_once: bool,
    pub(crate) program: PathBuf,
    pub(crate) well_behaved: u32,
    pub(crate) backend: String,
    pub(crate) budget: Duration,
    pub(crate) quiet: Duration,
    pub(crate) rounds: u32,
    pub(crate) latency: Option<LatencyLimit>,
    /// Whether what an abuse leaves is checked after each, or once at the end.
    pub(crate) settles_each: bool,
    pub(crate) connections_max: u32,
    pub(crate) crowd_max: u32,
    pub(crate) report: Option<PathBuf>,
    pub(crate) sets: Vec<String>,
    pub(crate) keep: bool,
    pub(crate) pin: bool,
}

/// How long levels may take to return: longer than the time for a login (8 s) and a lingering
/// close.
const SETTLE_PATIENCE: Duration = Duration::from_secs(20);
/// Resident memory beyond what it was before an abuse and what the start screen plans for what that
/// fills: pages of the program, stacks, the allocator's own.
const RSS_ALLOWANCE: u64 = 16 << 20;
/// A worker returns empty memory when it has had no connection for five seconds.
const TRIM_PATIENCE: Duration = Duration::from_secs(20);
/// Resident memory at the end beyond that before any connection.
const RSS_RESIDUE_MAX: u64 = 48 << 20;
/// Bytes of log that an abuse may cause, in a second.
const LOG_BYTES_MAX: u64 = 1 << 20;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs the plan; prints a row for each abuse when it is over.
///
/// # Errors
/// The suite could not run.
pub(crate) fn run(plan: &SuitePlan) -> Result<Exit, RunError> {
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    raise_descriptors(plan)?;
    let mut report = Report::new(plan);
    report.print_head();
    for profile in &plan.profiles {
        let chosen: Vec<&Abuse> =
            plan.chosen.iter().filter(|abuse| abuse.profile() == *profile).copied().collect();
        if !chosen.is_empty() && !is_interrupted() {
            run_profile(plan, *profile, &chosen, &mut report)?;
        }
    }
    report.print_end();
    if let Some(path) = &plan.report {
        report.write(path)?;
    }
    if is_interrupted() {
        return Err(RunError::new("interrupted", "the rows above are what was run"));
    }
    Ok(report.exit())
}

fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Raises the limit of descriptors. Bystanders and their attacker have descriptors of their own;
/// both need as many as there may be.
fn raise_descriptors(plan: &SuitePlan) -> Result<(), RunError> {
    let limits = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum });
    let needed = u64::from(plan.well_behaved.max(plan.crowd_max)) + 500;
    if limits.maximum.is_none_or(|maximum| maximum >= needed) {
        return Ok(());
    }
    Err(RunError::new(
        format!("needs {needed} descriptors"),
        "raise the hard limit (ulimit -Hn), or lower --well-behaved",
    ))
}

fn run_profile(
    plan: &SuitePlan,
    profile: Profile,
    chosen: &[&Abuse],
    report: &mut Report,
) -> Result<(), RunError> {
    let mut rest = chosen;
    let mut incarnation = 0;
    while !rest.is_empty() && !is_interrupted() {
        let folder = std::env::temp_dir().join(format!(
            "hostile-{}-{}-{incarnation}",
            std::process::id(),
            profile.name()
        ));
        let mut stage = Stage::start(plan, profile, &folder)?;
        let done = stage.run_all(rest, report);
        rest = &rest[done..];
        let alive = stage.gateway.check_alive().is_ok();
        if alive && rest.is_empty() && plan.all_at_once && !is_interrupted() {
            let row = stage.all_at_once(chosen);
            report.add(row);
        }
        let failed = report.has_failed();
        stage.end(report);
        if plan.keep || failed {
            println!("  the gateway's log is in {}", folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&folder);
        }
        incarnation += 1;
    }
    Ok(())
}

/// A gateway with bystanders on it.
struct Stage<'p> {
    plan: &'p SuitePlan,
    profile: Profile,
    gateway: Gateway,
    bystanders: Bystanders,
    order: Order,
    control: SocketAddr,
    /// Before any connection.
    empty: Levels,
    /// With all bystanders, before any abuse.
    before: Levels,
}

impl<'p> Stage<'p> {
    fn start(plan: &'p SuitePlan, profile: Profile, folder: &Path) -> Result<Stage<'p>, RunError> {
        let signer = Signer::generate()?;
        let mut sets = if profile.is_production() { hardening(&plan.program)? } else { vec![] };
        sets.extend(plan.sets.iter().cloned());
        let (backend, connections_max) = (&*plan.backend, plan.connections_max);
        let setup = Setup { profile, backend, connections_max, sets };
        let all = pin(plan.pin, true);
        let gateway = Gateway::start(&plan.program, folder, &setup, &signer)?;
        if plan.pin {
            all.map(|all| sched_setaffinity(None, &all));
            pin(true, false);
        }
        let missing =
            |name| RunError::new(format!("the gateway does not say where {name} is"), "look at its log");
        let address = |name: &'static str| gateway.address(name).ok_or_else(|| missing(name));
        let (tcp, websocket, control) = (address("tcp")?, address("websocket")?, address("control")?);
        let silent =
            || RunError::new("the control port does not answer /metrics", "look at the gateway's log");
        let empty = Levels::read(control, gateway.pid()).ok_or_else(silent)?;
        let settings = Settings {
            count: plan.well_behaved,
            interval: Duration::from_secs(1),
            login_interval: Duration::from_millis(100),
            production: profile.is_production(),
            tcp,
            websocket,
            control,
            key: signer.export(),
        };
        let bystanders = Bystanders::start(settings, Duration::from_secs(60))?;
        let order = Order {
            names: vec![],
            production: profile.is_production(),
            tcp,
            websocket,
            echo: gateway.address("echo"),
            control,
            pid: gateway.pid(),
            key: signer.export(),
            bystanders: plan.well_behaved,
            connections_max: plan.connections_max,
            budget_ms: plan.budget.as_millis() as u64,
            // Without quiet times nothing is compared, and abuses need not yield.
            nice: if plan.quiet.is_zero() { 0 } else { 19 },
            crowd_max: plan.crowd_max,
            crowded: false,
        };
        // Every kind of message has been sent a few times, so that first times are not taken for
        // what abuses leave.
        std::thread::sleep(Duration::from_secs(3));
        let earlier = Levels::read(control, gateway.pid()).ok_or_else(silent)?;
        let before = published(control, gateway.pid(), &earlier).ok_or_else(silent)?;
        let absent = before.absent();
        if !absent.is_empty() {
            return Err(RunError::new(
                format!("this gateway has no metric {}", absent.join(", ")),
                "name the metrics that it has in loadtest/hostile/src/levels.rs",
            ));
        }
        bystanders.ledger.take();
        Ok(Stage { plan, profile, gateway, bystanders, order, control, empty, before })
    }

    /// Runs one row per abuse and returns how many were run. Stops when the gateway ends.
    fn run_all(&mut self, chosen: &[&Abuse], report: &mut Report) -> usize {
        for (done, abuse) in chosen.iter().enumerate() {
            let row = self.alone(abuse);
            report.add(row);
            if is_interrupted() || self.gateway.check_alive().is_err() {
                return done + 1;
            }
        }
        chosen.len()
    }

    fn alone(&mut self, abuse: &Abuse) -> Row {
        let mut row = Row::new(abuse.name, abuse.kind, self.profile, &self.plan.backend);
        let order = Order { names: vec![abuse.name.into()], ..self.order.clone() };
        for _ in 0..self.plan.rounds {
            self.round(&order, self.plan.quiet, &mut row);
            if self.gateway.check_alive().is_err() || is_interrupted() {
                break;
            }
        }
        row
    }

    fn all_at_once(&mut self, chosen: &[&Abuse]) -> Row {
        let mut row = Row::new("all_at_once", "all", self.profile, &self.plan.backend);
        let order = Order {
            names: chosen.iter().map(|abuse| abuse.name.into()).collect(),
            budget_ms: self.plan.budget.as_millis() as u64 * 5,
            crowd_max: (self.plan.crowd_max / 8).max(20),
            crowded: true,
            ..self.order.clone()
        };
        self.round(&order, self.plan.quiet, &mut row);
        row
    }

    /// A quiet window, a window with the abuse in it, and a check of what it leaves.
    fn round(&mut self, order: &Order, quiet: Duration, row: &mut Row) {
        let quiet = (!quiet.is_zero()).then(|| {
            self.bystanders.ledger.take();
            std::thread::sleep(quiet);
            self.bystanders.ledger.take()
        });
        let (log_before, rss_before) = (self.gateway.log_size(), rss(self.gateway.pid()));
        let counts_before = Levels::read(self.control, self.gateway.pid()).unwrap_or_default();
        let delays_before = self.run_delays();
        let (attempts, rss_peak) = self.attack(order);
        // Effects of the abuse are noticed a moment later.
        std::thread::sleep(Duration::from_millis(if self.plan.settles_each { 500 } else { 50 }));
        let loud = self.bystanders.ledger.take();
        let delays = std::array::from_fn(|one| self.run_delays()[one].saturating_sub(delays_before[one]));
        self.judge(row, quiet.as_ref(), &loud, delays, pause_of(&order.names));
        row.rss_peak = row.rss_peak.max(rss_peak);
        row.log_bytes += self.gateway.log_size().saturating_sub(log_before);
        match attempts {
            Ok(attempts) => {
                order.names.iter().for_each(|name| self.judge_attempt(row, name, attempts.get(name)))
            }
            Err(error) => row.fail(error),
        }
        let planned = self.planned(&order.names);
        if rss_peak > rss_before + planned + RSS_ALLOWANCE {
            let mib = |bytes: u64| bytes >> 20;
            row.fail(format!(
                "resident memory {} MiB, {} MiB before, and {} MiB are planned for what was attacked",
                mib(rss_peak),
                mib(rss_before),
                mib(planned)
            ));
        }
        let seconds = order.budget_ms.div_ceil(1000).max(1) * u64::from(self.plan.rounds);
        if row.log_bytes > LOG_BYTES_MAX * seconds {
            row.fail(format!("the log grew by {} KiB", row.log_bytes >> 10));
        }
        if let Err(error) = self.gateway.check_alive() {
            return row.fail(error);
        }
        if self.plan.settles_each {
            row.residue = self.wait_until_released(SETTLE_PATIENCE);
            if !row.residue.is_empty() {
                row.fail("not all came back".into());
            }
            let after = self.bystanders.ledger.take();
            self.judge(row, None, &after, [0; 2], Duration::ZERO);
        } else {
            // Otherwise the next abuse is blamed for what this one still keeps busy.
            self.wait_until_released(Duration::from_secs(2));
        }
        row.counted.extend(counted_since(&counts_before, self.control, self.gateway.pid()));
    }

    /// What the start screen plans for what these abuses fill, in bytes. In small the one before
    /// may still fill its part.
    fn planned(&self, names: &[String]) -> u64 {
        let on: Vec<On> = self
            .plan
            .chosen
            .iter()
            .filter(|abuse| !self.plan.settles_each || names.iter().any(|name| name == abuse.name))
            .map(|abuse| abuse.on)
            .collect();
        self.before.planned(|owner| on.iter().any(|on| on.fills(owner)))
    }

    /// Runs the attacker; returns also the most memory that the gateway had meanwhile.
    fn attack(&self, order: &Order) -> (Result<Attempts, String>, u64) {
        let mut attacker = match Attacker::start(order) {
            Ok(attacker) => attacker,
            Err(error) => return (Err(error.to_string()), 0),
        };
        let mut peak = 0;
        loop {
            peak = peak.max(rss(self.gateway.pid()));
            if let Some(attempts) = attacker.poll(Duration::from_millis(20)) {
                return (attempts, peak);
            }
        }
    }

    /// How long threads of the bystanders, and of the gateway, have waited for a processor, in
    /// nanoseconds.
    fn run_delays(&self) -> [u64; 2] {
        [run_delay(std::process::id()), run_delay(self.gateway.pid().unsigned_abs())]
    }

    fn judge(&self, row: &mut Row, quiet: Option<&Window>, loud: &Window, delays: [u64; 2], pause: Duration) {
        row.noticed(loud);
        let Some(quiet) = quiet else { return };
        row.noticed(quiet);
        row.compare(quiet, loud);
        if let Some(limit) = &self.plan.latency
            && let Some(ratio) = row.ratio_by(limit, pause)
            && ratio > limit.ratio_max
        {
            let [own, gateway] = delays.map(|nanos| nanos / 1_000_000);
            row.fail(format!(
                "p99 {ratio:.1} × its quiet value; meanwhile the bystanders' threads waited {own} ms for a processor, and \
                 the gateway's {gateway} ms"
            ));
        }
    }

    fn judge_attempt(&self, row: &mut Row, name: &str, attempt: Option<&Attempt>) {
        let prefix = if row.abuse == name { String::new() } else { format!("{name}: ") };
        let Some(attempt) = attempt else { return row.fail(format!("{prefix}no answer of the attacker")) };
        attempt.outcome.wrong.iter().for_each(|wrong| row.fail(format!("{prefix}{wrong}")));
        self.judge_answers(row, name, attempt);
        if row.abuse == name {
            row.did = attempt.outcome.summary();
        }
        match &attempt.error {
            // Alone it has to be possible; among many others an abuse may well be refused.
            Some(error) if row.abuse == name => row.not_tried(format!("ended early: {error}")),
            None if attempt.outcome.did == 0 && row.abuse == name => row.not_tried("nothing was done".into()),
            _ => {}
        }
    }

    /// Checks the answers: every one has to be one of those in the table, and alone at least one
    /// has to be one of the required ones. In small runs, where nothing depends on time, those of a
    /// busy gateway are also right for one abuse, and an answer may come too late to be read.
    fn judge_answers(&self, row: &mut Row, name: &str, attempt: &Attempt) {
        let Some(abuse) = abuse::ALL.iter().find(|abuse| abuse.name == name) else { return };
        let (is_strict, right) = (row.abuse == name && self.plan.settles_each, &abuse.answers);
        for (what, count) in &attempt.outcome.answers {
            let is_of_address = abuse.behind_nat && ADDRESS.contains(&what.as_str());
            if !right.allow(what, !is_strict) && !is_of_address {
                row.fail(format!("{name}: {what} × {count}, where these are right: {}", right.list()));
            }
        }
        let is_missing = |word: &str| !attempt.outcome.answers.contains_key(word);
        if is_strict
            && attempt.outcome.did > 0
            && !right.must.is_empty()
            && right.must.iter().all(|word| is_missing(word))
        {
            row.fail(format!("nothing was answered of {}", right.must.join(", ")));
        }
    }

    /// Waits until levels have returned; returns what has not when the patience is over. Figures
    /// that workers published before are ignored.
    fn wait_until_released(&mut self, patience: Duration) -> Vec<String> {
        let since = Instant::now();
        let earlier = Levels::read(self.control, self.gateway.pid()).unwrap_or_default();
        loop {
            let residue = match published(self.control, self.gateway.pid(), &earlier) {
                Some(levels) => levels.residue(&self.before),
                None => vec!["the control port does not answer".into()],
            };
            let all_there = self.bystanders.open() == self.bystanders.count();
            if (residue.is_empty() && all_there)
                || since.elapsed() > patience
                || self.gateway.check_alive().is_err()
            {
                return residue;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Checks the end: every level returns, bystanders leave with nothing missing, memory goes
    /// down, and the gateway ends in order.
    fn end(mut self, report: &mut Report) {
        let mut row = Row::new("afterwards", "all", self.profile, &self.plan.backend);
        row.did = "what is left when all is over".into();
        if let Err(error) = self.gateway.check_alive() {
            row.fail(error);
            return report.add(row);
        }
        let counts_before = Levels::read(self.control, self.gateway.pid()).unwrap_or_default();
        row.residue = self.wait_until_released(SETTLE_PATIENCE);
        if !row.residue.is_empty() {
            row.fail("not all came back".into());
        }
        let window = self.bystanders.finish(Duration::from_secs(2));
        row.noticed(&window);
        row.counted = counted_since(&counts_before, self.control, self.gateway.pid());
        excess(self.control, self.gateway.pid()).into_iter().for_each(|level| row.fail(level));
        let since = Instant::now();
        let (mut resident, pid) = (rss(self.gateway.pid()), self.gateway.pid());
        while resident > self.empty.rss + RSS_RESIDUE_MAX && since.elapsed() < TRIM_PATIENCE {
            std::thread::sleep(Duration::from_millis(250));
            resident = rss(pid);
        }
        row.rss_peak = resident;
        if resident > self.empty.rss + RSS_RESIDUE_MAX {
            row.fail(format!(
                "resident memory {} MiB, {} MiB before any connection",
                resident >> 20,
                self.empty.rss >> 20
            ));
        }
        if let Err(error) = self.gateway.stop() {
            row.fail(error);
        }
        report.add(row);
    }
}

/// For how long abuses of these names stop the gateway's process.
fn pause_of(names: &[String]) -> Duration {
    let chosen = abuse::ALL.iter().filter(|abuse| names.iter().any(|name| name == abuse.name));
    chosen.map(|abuse| abuse.pause).sum()
}

/// Levels of connections that exceed their number for all of [`SETTLE_PATIENCE`].
fn excess(control: SocketAddr, pid: i32) -> Vec<String> {
    let since = Instant::now();
    loop {
        let excess = Levels::read(control, pid).map_or(vec![], |levels| levels.excess());
        if excess.is_empty() || since.elapsed() > SETTLE_PATIENCE {
            return excess;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What the gateway has counted since `before` that bystanders may notice.
fn counted_since(before: &Levels, control: SocketAddr, pid: i32) -> Vec<String> {
    Levels::read(control, pid).map_or(vec![], |levels| levels.counted_since(before))
}

/// Levels that every worker has published after `earlier`; after [`SETTLE_PATIENCE`] whatever there
/// is.
fn published(control: SocketAddr, pid: i32, earlier: &Levels) -> Option<Levels> {
    let since = Instant::now();
    loop {
        let levels = Levels::read(control, pid)?;
        if levels.is_newer_than(earlier) || since.elapsed() > SETTLE_PATIENCE {
            return Some(levels);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Confines this process, and what it starts, to the first processor or to all others; returns what
/// it was before.
fn pin(wanted: bool, first: bool) -> Option<CpuSet> {
    let all = sched_getaffinity(None).ok()?;
    if !wanted || all.count() < 2 {
        return None;
    }
    let mut chosen = CpuSet::new();
    let one = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu))?;
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| all.is_set(*cpu) && (*cpu == one) == first)
        .for_each(|cpu| chosen.set(cpu));
    sched_setaffinity(None, &chosen).ok()?;
    Some(all)
}
