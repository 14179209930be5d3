//! Runs: a server, a fleet, a window, and again where it was noisy.

use super::plan::{Case, Load, ROWS, Row};
use super::report::{CaseReport, Report, RunFigures};
use crate::client::{self, Fleet, Measured, Probe, Problem, Window};
use netpoll::Backend;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tries of one run at most.
const TRIES: u32 = 3;
/// Between two runs: the kernel takes the last one's sockets apart.
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
    /// A run is noisy when others used more than this share of a processor; `None`: no run is.
    pub foreign_max: Option<f64>,
    /// Only cases, and only rows, whose names contain this.
    pub only: (String, String),
    /// Whether io_uring can be had.
    pub uring: bool,
    /// Whether the generator uses it.
    pub client_uring: bool,
}

/// What is told while it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// The case.
    pub case: &'p Case,
    /// The row.
    pub row: &'p Row,
    /// The cycle, from 1.
    pub cycle: usize,
    /// What came out.
    pub result: Result<&'p RunFigures, &'p Problem>,
}

/// Runs `cases` and gathers their figures.
///
/// A run that fails is told as well, is kept as its row's problem, and ends the row in this case.
pub fn run(options: &Options, cases: &[Case], mut tell: impl FnMut(Progress<'_>)) -> Report {
    let mut report = Report::default();
    for case in cases.iter().filter(|case| case.name.contains(&options.only.0)) {
        let rows: Vec<&Row> = ROWS
            .iter()
            .filter(|row| row.kind(case.load).is_some() && row.name.contains(&options.only.1))
            .filter(|row| options.uring || !row.needs_uring())
            .collect();
        let mut gathered = CaseReport::new(case, &rows);
        for cycle in 1..=options.cycles {
            for (position, row) in rows.iter().enumerate() {
                let kept = &mut gathered.rows[position];
                if kept.problem.is_some() {
                    continue;
                }
                let result = quiet_run(options, case, row);
                tell(Progress { case, row, cycle, result: result.as_ref() });
                match result {
                    Ok(figures) => kept.runs.push(figures),
                    Err(problem) => kept.problem = Some(problem.0),
                }
            }
        }
        gathered.summarise();
        report.cases.push(gathered);
    }
    report
}

/// The quietest of up to [`TRIES`] tries.
fn quiet_run(options: &Options, case: &Case, row: &Row) -> Result<RunFigures, Problem> {
    let mut best: Option<RunFigures> = None;
    for tries in 1..=TRIES {
        let measured = one_run(options, case, row)?;
        let noisy = options.foreign_max.is_some_and(|max| measured.foreign() > max);
        let figures = RunFigures::new(&measured, noisy, tries);
        if best.as_ref().is_none_or(|best| figures.foreign < best.foreign) {
            best = Some(RunFigures { tries, ..figures });
        }
        if !noisy {
            break;
        }
    }
    best.ok_or_else(|| Problem("no try".into()))
}

/// A server's process; it ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

fn start(options: &Options, kind: &str, size: usize) -> Result<(Server, Vec<u16>), Problem> {
    let mut child = Command::new(&options.server)
        .args([kind, "--cpu", &options.processors.0.to_string(), "--nice", &options.nice.to_string()])
        .args(["--size", &size.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Problem::of(&format!("{}", options.server.display()), error))?;
    let out = child.stdout.take();
    let server = Server(child);
    let mut line = String::new();
    if let Some(out) = out {
        BufReader::new(out).read_line(&mut line)?;
    }
    let ports: Vec<u16> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if ports.is_empty() {
        return Err(Problem("the server did not start; what it says is above".into()));
    }
    Ok((server, ports))
}

fn one_run(options: &Options, case: &Case, row: &Row) -> Result<Measured, Problem> {
    std::thread::sleep(REST);
    let kind = row.kind(case.load).unwrap_or_default();
    let (server, ports) = start(options, kind, case.written_at_once())?;
    let port = ports.get(row.port).copied().ok_or_else(|| Problem("the server has no such port".into()))?;
    let probe =
        Probe { server: server.0.id(), server_cpu: options.processors.0, client_cpu: options.processors.1 };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let count = case.connections + usize::from(case.load == Load::FanOut);
    if options.client_uring {
        measure(Fleet::over_uring(count)?, (case, row, count), address, (options.window, probe), server)
    } else {
        measure(Fleet::over_epoll(count)?, (case, row, count), address, (options.window, probe), server)
    }
}

fn measure<B: Backend>(
    mut fleet: Fleet<B>,
    (case, row, count): (&Case, &Row, usize),
    address: SocketAddr,
    (window, probe): (Window, Probe),
    server: Server,
) -> Result<Measured, Problem> {
    fleet.open(address, row.protocol, count, case.load == Load::FanOut)?;
    let measured = match case.load {
        Load::Echo { depth } => client::echo(&mut fleet, row.protocol, (depth, case.size), window, probe),
        Load::FanOut => client::fan_out(&mut fleet, row.protocol, case.size, window, probe),
    };
    drop(server); // before the fleet: its ports are free at once then
    measured
}
