//! A server's process.

use crate::client::Problem;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A server's process; it ends with the value.
#[derive(Debug)]
pub(super) struct Server(Child);

impl Server {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

/// A server that listens.
pub(super) struct Spawned {
    pub(super) server: Server,
    /// What it announced.
    pub(super) ports: Vec<u16>,
    /// Its standard input, and the rest of its output.
    pub(super) pipes: (ChildStdin, BufReader<ChildStdout>),
}

impl Spawned {
    /// Starts what `command` says, and waits until it has announced its ports.
    pub(super) fn by(command: &mut Command) -> Result<Spawned, Problem> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Problem::of(&program, error))?;
        let pipes = child.stdin.take().zip(child.stdout.take().map(BufReader::new));
        let server = Server(child);
        let mut pipes = pipes.ok_or_else(|| Problem("the server has no pipes".into()))?;
        let mut line = String::new();
        pipes.1.read_line(&mut line)?;
        let ports: Vec<u16> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if ports.is_empty() {
            return Err(Problem("the server did not start; what it says is above".into()));
        }
        Ok(Spawned { server, ports, pipes })
    }
}
