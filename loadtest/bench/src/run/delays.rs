//! The runs of a dispatch measurement: windows of each backend in turn.

use super::plan::{GATEWAY_EPOLL, GATEWAY_URING};
use super::report::DispatchRow;
use super::runner::Options;
use super::server::{Server, Spawned};
use crate::client::{NO_SAMPLES, Problem};
use crate::dispatch::{DelayClient, Load, LoadFigures, Watched};
use std::process::Command;
use std::time::Duration;

/// What `--case` compares with.
pub const DISPATCH: &str = "dispatch delay at half load";

/// Rows and their `bench-server` kinds.
const ROWS: [(&str, &str); 2] =
    [(GATEWAY_URING, "gateway-uring-stamped"), (GATEWAY_EPOLL, "gateway-epoll-stamped")];

/// Measures delays over `connections` connections, a window of `length` a cycle and backend;
/// `on_window` sees each.
pub fn dispatch(
    options: &Options,
    connections: usize,
    length: Duration,
    mut on_window: impl FnMut(&str, usize, Result<&LoadFigures, &Problem>),
) -> Vec<DispatchRow> {
    let chosen = |(name, kind): &(&str, &str)| {
        name.contains(&options.only.1) && (options.uring || !kind.contains("uring"))
    };
    let kinds: Vec<(&str, &str)> = ROWS.into_iter().filter(chosen).collect();
    let row = |(name, _): &(&str, &str)| DispatchRow {
        name: (*name).to_owned(),
        problem: None,
        could_not_start: false,
        windows: vec![],
    };
    let mut rows: Vec<DispatchRow> = kinds.iter().map(row).collect();
    for cycle in 1..=options.cycles {
        for (row, (name, kind)) in rows.iter_mut().zip(&kinds) {
            if row.problem.is_some() {
                continue;
            }
            let started = start(options, kind, connections);
            row.could_not_start = started.is_err();
            let result = started.and_then(|mut started| started.measure(options, length));
            on_window(name, cycle, result.as_ref());
            match result {
                Ok(figures) => row.windows.push(figures),
                Err(problem) => {
                    row.could_not_start |= problem.0 == NO_SAMPLES;
                    row.problem = Some(problem.0);
                }
            }
        }
    }
    rows
}

/// A server with clients that are logged in.
struct Started {
    server: Server,
    delays: DelayClient,
    load: Load,
}

fn start(options: &Options, kind: &str, connections: usize) -> Result<Started, Problem> {
    let mut command = Command::new(&options.server);
    command.arg(kind).args(["--cpu", &options.processors.0.to_string(), "--nice", &options.nice.to_string()]);
    let Spawned { server, ports, pipes } = Spawned::by(&mut command)?;
    let port = *ports.first().ok_or_else(|| Problem("the server has no port".into()))?;
    let delays = DelayClient::over(pipes.0, pipes.1);
    Ok(Started { server, delays, load: Load::connect(connections, port)? })
}

impl Started {
    fn measure(&mut self, options: &Options, length: Duration) -> Result<LoadFigures, Problem> {
        let watched = Watched { server: self.server.id(), processors: options.processors };
        self.load.measure(length, watched, &mut self.delays)
    }
}
