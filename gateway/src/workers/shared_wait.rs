//! Several workers on one thread ([`netpoll::take_turns`]): a ring each, and one wait for all.
//!
//! An idle worker turns when it is due, four times a second.

use super::Spawn;
use super::startup::{Startup, TurningWorker};
use netpoll::{SharedWait, SharesThread, TakesTurns, take_turns};
use std::io;
use std::time::Duration;

/// Longest wait of a worker that has nothing to do.
const WAIT: Duration = Duration::from_secs(1);

impl<B: SharesThread> TakesTurns for TurningWorker<B> {
    type Backend = B;

    fn backend(&mut self) -> &mut B {
        self.worker.backend()
    }

    fn turn(&mut self) -> bool {
        let turned = self.worker.turn(Duration::ZERO);
        self.goes_on(turned)
    }

    fn begin_wait(&mut self) -> Option<Duration> {
        match self.worker.flush_and_wait(WAIT) {
            Ok(wait) => Some(wait),
            Err(error) => self.goes_on(Err(error)).then_some(Duration::ZERO),
        }
    }
}

/// Makes the backends of `startups` on this thread and runs their workers until all have ended.
pub(super) fn run<B: SharesThread>(
    spawn: &Spawn,
    startups: Vec<Startup>,
    make: impl Fn() -> io::Result<B>,
    describe: impl Fn(&B) -> String,
) {
    let shared = match SharedWait::new() {
        Ok(shared) => shared,
        Err(error) => {
            startups.first().and_then(|startup| startup.report(Err(error), &describe));
            return;
        }
    };
    let mut backends = Vec::with_capacity(startups.len());
    for (number, startup) in startups.iter().enumerate() {
        let backend = make().and_then(|mut backend| {
            backend.join_wait(shared.slot(number))?;
            Ok(backend)
        });
        let Some(backend) = startup.report(backend, &describe) else { return };
        backends.push(backend);
    }
    let mut members = Vec::with_capacity(startups.len());
    for (startup, backend) in startups.into_iter().zip(backends) {
        let Some(member) = startup.wire(spawn, backend) else { return };
        members.push(member);
    }
    take_turns(&shared, members, drop);
}
