//! Runs: a server, a fleet, a window, and again where it was noisy.

use super::figures::RunFigures;
use super::plan::{Case, Load, ROWS, Row, Way};
use super::report::CaseReport;
use super::server::{Server, Spawned};
use crate::client::{self, Fleet, Line, Measured, Probe, Problem, Window};
use crate::dpdk::{self, Link};
use crate::tally::TallyClient;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// At most so many tries per run.
const TRIES: u32 = 3;
/// Pause between two runs: the kernel frees the last one's sockets.
const REST: Duration = Duration::from_millis(100);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `bench-server` binary.
    pub server: PathBuf,
    /// Cycles.
    pub cycles: usize,
    /// Warm-up and measured window of each run.
    pub window: Window,
    /// Processor of the servers, and of the generator.
    pub processors: (usize, usize),
    /// Priority of both.
    pub nice: i32,
    /// A run is noisy when other processes used more than this share of a processor; `None`: no run
    /// is.
    pub foreign_max: Option<f64>,
    /// How long repeats of noisy runs may take, all together.
    pub repeats: Duration,
    /// Only cases, and only rows, whose names contain this.
    pub only: (String, String),
    /// Whether io_uring can be used.
    pub uring: bool,
    /// Whether the generator uses it.
    pub client_uring: bool,
    /// Whether DPDK can be used.
    pub dpdk: bool,
}

/// A report of progress.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// The case.
    pub case: &'p Case,
    /// The row.
    pub row: &'p Row,
    /// The cycle, from 1.
    pub cycle: usize,
    /// The result.
    pub result: Result<&'p RunFigures, &'p Problem>,
}

/// Why a run has no figures.
struct Trouble {
    problem: Problem,
    /// It did not begin, and says nothing about the server's answers.
    could_not_start: bool,
}

impl Trouble {
    fn at_start(problem: Problem) -> Trouble {
        Trouble { problem, could_not_start: true }
    }

    fn while_measuring(problem: Problem) -> Trouble {
        let could_not_start = problem.0 == client::NO_SAMPLES;
        Trouble { problem, could_not_start }
    }
}

/// Runs `cases` and collects their figures.
///
/// A run that fails is reported as well, is kept as its row's problem, and ends the row in this
/// case.
pub fn run(options: &Options, cases: &[Case], mut on_run: impl FnMut(Progress<'_>)) -> Vec<CaseReport> {
    let mut repeats = options.repeats;
    let mut reports = vec![];
    for case in cases.iter().filter(|case| case.name.contains(&options.only.0)) {
        let rows: Vec<&Row> = ROWS
            .iter()
            .filter(|row| row.kind(case).is_some() && row.name.contains(&options.only.1))
            .filter(|row| options.uring || !row.needs_uring())
            .filter(|row| options.dpdk || !row.needs_dpdk())
            .collect();
        let mut gathered = CaseReport::new(case, &rows);
        for cycle in 1..=options.cycles {
            for (position, row) in rows.iter().enumerate() {
                let kept = &mut gathered.rows[position];
                if kept.problem.is_some() {
                    continue;
                }
                let result = quiet_run(options, case, row, &mut repeats);
                let shown = result.as_ref().map_err(|trouble| &trouble.problem);
                on_run(Progress { case, row, cycle, result: shown });
                match result {
                    Ok(figures) => kept.runs.push(figures),
                    Err(Trouble { problem, could_not_start }) => {
                        (kept.problem, kept.could_not_start) = (Some(problem.0), could_not_start);
                    }
                }
            }
        }
        reports.push(gathered);
    }
    reports
}

/// The quietest of up to [`TRIES`] tries, as long as there is time for repeats.
fn quiet_run(
    options: &Options,
    case: &Case,
    row: &Row,
    repeats: &mut Duration,
) -> Result<RunFigures, Trouble> {
    let mut best: Option<RunFigures> = None;
    for tries in 1..=TRIES {
        let since = Instant::now();
        let measured = one_run(options, case, row)?;
        if tries > 1 {
            *repeats = repeats.saturating_sub(since.elapsed());
        }
        let noisy = options.foreign_max.is_some_and(|max| measured.foreign() > max);
        let figures = RunFigures::new(&measured, noisy, tries);
        if best.as_ref().is_none_or(|best| figures.foreign < best.foreign) {
            best = Some(RunFigures { tries, ..figures });
        }
        if !noisy || repeats.is_zero() {
            break;
        }
    }
    best.ok_or_else(|| Trouble::at_start(Problem("no try".into())))
}

/// A server that is ready.
struct Started {
    server: Server,
    ports: Vec<u16>,
    /// Its published figures, where it polls.
    asked: Option<TallyClient>,
}

fn start(options: &Options, case: &Case, row: &Row, link: Option<&Link>) -> Result<Started, Problem> {
    let mut command = Command::new(&options.server);
    command
        .arg(row.kind(case).unwrap_or_default())
        .args(["--cpu", &options.processors.0.to_string(), "--nice", &options.nice.to_string()])
        .args(["--size", &case.written_at_once().to_string()]);
    if let Some(link) = link {
        command.arg("--link").arg(link.socket());
    }
    let Spawned { server, ports, pipes } = Spawned::by(&mut command)?;
    let asked = row.needs_dpdk().then(|| TallyClient::over(pipes.0, pipes.1));
    Ok(Started { server, ports, asked })
}

fn one_run(options: &Options, case: &Case, row: &Row) -> Result<Measured, Trouble> {
    std::thread::sleep(REST);
    let link = row.needs_dpdk().then(Link::new);
    let started = start(options, case, row, link.as_ref()).map_err(Trouble::at_start)?;
    let Started { server, ports, asked } = started;
    let port = ports.get(row.port).copied();
    let port = port.ok_or_else(|| Trouble::at_start(Problem("the server has no such port".into())))?;
    let (server_cpu, client_cpu) = options.processors;
    let probe = Probe { server: server.id(), server_cpu, client_cpu, tally: asked };
    let run = Run { case, row, port, server, window: options.window, probe };
    let count = run.connections();
    let failed = |error: std::io::Error| Trouble::at_start(error.into());
    match (row.way, &link) {
        (Way::Engine, Some(link)) => measure(dpdk::over_engine(link, count).map_err(Trouble::at_start)?, run),
        (Way::Frames, Some(link)) => measure(dpdk::over_frames(link, count).map_err(Trouble::at_start)?, run),
        _ if options.client_uring => measure(Fleet::over_uring(count).map_err(failed)?, run),
        _ => measure(Fleet::over_epoll(count).map_err(failed)?, run),
    }
    .map_err(Trouble::while_measuring)
}

/// One run, with its server started.
struct Run<'r> {
    case: &'r Case,
    row: &'r Row,
    port: u16,
    server: Server,
    window: Window,
    probe: Probe,
}

impl Run<'_> {
    fn connections(&self) -> usize {
        self.case.connections + usize::from(self.case.load == Load::FanOut)
    }
}

fn measure<L: Line>(mut fleet: Fleet<L>, run: Run<'_>) -> Result<Measured, Problem> {
    let count = run.connections();
    let Run { case, row, port, server, window, probe } = run;
    let host = if row.needs_dpdk() { dpdk::SERVER } else { Ipv4Addr::LOCALHOST };
    fleet.open((host, port).into(), row.protocol, count, case.load == Load::FanOut)?;
    let measured = match case.load {
        Load::Echo { depth } => client::echo(&mut fleet, row.protocol, (depth, case.size), window, probe),
        Load::FanOut => client::fan_out(&mut fleet, row.protocol, case.size, window, probe),
    };
    if row.needs_dpdk() {
        drop(fleet); // a port says goodbye to the one at the other end
    }
    drop(server); // before a fleet on sockets: its ports are free at once then
    measured
}
