//! The floor of a broadcast to very many: `bench broadcast`.

use super::server::Spawned;
use crate::client::{Crowd, Problem, Round};
use crate::servers;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;

/// What to run.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// The `bench-server` binary.
    pub server: PathBuf,
    /// Receivers.
    pub connections: u32,
    /// Rings of either side, at most [`RINGS_MAX`]; each needs a descriptor for each of its
    /// connections.
    pub rings: u32,
    /// Messages.
    pub rounds: u32,
    /// Bytes of a message, within [`SIZES`].
    pub size: u32,
}

/// At most so many rings per side: with more, the server would mostly poll them.
pub const RINGS_MAX: u32 = 200;

/// Bytes of a message: it has a number, and arrives at once, in one buffer.
pub const SIZES: RangeInclusive<u32> = 8..=16_384;

/// Descriptors of a ring that are not receivers.
const BESIDE: u64 = 72;

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct BroadcastFigures {
    /// Receivers.
    pub receivers: u32,
    /// Rings of the server, all on one thread.
    pub rings: u32,
    /// By message: nanoseconds of the server's CPU a delivery.
    pub server_ns: Vec<f64>,
    /// By message: seconds until the last had it.
    pub seconds: Vec<f64>,
}

impl Broadcast {
    /// Starts the floor, gathers the receivers, and sends; reports progress to `report`. The
    /// receivers are left to the end of the process.
    ///
    /// # Errors
    /// [`Problem`]: what is asked for can't be done here, or a delivery was lost, doubled or wrong.
    pub fn run(&self, report: impl Fn(&str)) -> Result<BroadcastFigures, Problem> {
        let slots = self.slots()?;
        let mut command = Command::new(&self.server);
        command
            .arg(servers::BROADCAST)
            .args(["--size", &self.size.to_string(), "--parent", &std::process::id().to_string()])
            .args(["--rings", &self.rings.to_string(), "--slots", &slots.to_string()]);
        let Spawned { mut server, ports, pipes: _pipes } = Spawned::by(&mut command)?;
        report(&format!("{} receivers connect", self.connections));
        let port = *ports.first().ok_or_else(|| Problem("the server has no port".into()))?;
        let mut crowd = Crowd::gather(self.connections as usize, self.rings as usize, port)?;
        crowd.wait_until_accepted(server.id())?;
        if server.has_ended() {
            return Err(Problem("the server has ended; what it says is above".into()));
        }
        let mut figures = BroadcastFigures {
            receivers: self.connections,
            rings: self.rings,
            server_ns: vec![],
            seconds: vec![],
        };
        for number in 1..=self.rounds {
            let Round { server_ns, elapsed } =
                crowd.broadcast(u64::from(number), self.size as usize, server.id())?;
            report(&format!(
                "message {number}: {server_ns:.0} ns a delivery, {:.2} s",
                elapsed.as_secs_f64()
            ));
            figures.server_ns.push(server_ns);
            figures.seconds.push(elapsed.as_secs_f64());
        }
        crowd.finish()?;
        Ok(figures)
    }

    /// Places of a ring of the server's; the kernel spreads connections by hash, so they need some
    /// air, as far as there are descriptors.
    fn slots(&self) -> Result<u64, Problem> {
        if !(1..=RINGS_MAX).contains(&self.rings) {
            return Err(Problem(format!("--rings {}: give 1 to {RINGS_MAX}", self.rings)));
        }
        if !SIZES.contains(&self.size) {
            let (least, most) = (SIZES.start(), SIZES.end());
            return Err(Problem(format!("--size {}: give {least} to {most} bytes", self.size)));
        }
        if self.rounds == 0 || self.connections == 0 {
            return Err(Problem("no rounds, or no connections: give 1 or more".into()));
        }
        netpoll::uring::probe().map_err(|error| Problem::of("io_uring is not to be had here", error))?;
        let limit = raise_descriptors();
        let each = u64::from(self.connections.div_ceil(self.rings));
        if each + BESIDE > limit {
            let enough = u64::from(self.connections).div_ceil(limit.saturating_sub(BESIDE).max(1) * 94 / 100);
            return Err(Problem(format!(
                "{each} connections on a ring, and RLIMIT_NOFILE is {limit}: give --rings {enough}, or raise it"
            )));
        }
        Ok((each * 107 / 100 + 200).min(limit))
    }
}

/// Raises the soft limit of descriptors, which the server inherits, to the hard one, and returns
/// it.
fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_run_is_refused_with_its_flag() {
        let fine = Broadcast { server: PathBuf::new(), connections: 100, rings: 1, rounds: 1, size: 64 };
        let refused = |asked: Broadcast| asked.slots().unwrap_err().0;
        assert!(refused(Broadcast { rings: 0, ..fine.clone() }).contains("--rings 0"));
        assert!(refused(Broadcast { rings: 201, ..fine.clone() }).contains("1 to 200"));
        assert!(refused(Broadcast { size: 7, ..fine.clone() }).contains("--size 7"));
        assert!(refused(Broadcast { size: u32::MAX, ..fine.clone() }).contains("16384"));
        assert!(refused(Broadcast { rounds: 0, ..fine.clone() }).contains("rounds"));
        assert!(refused(Broadcast { connections: 0, ..fine }).contains("connections"));
    }
}
