//! Several workers on one thread ([`netpoll::take_turns`]): many rings, few processors.

use super::{Worker, WorkerResult};
use crate::client::Protocol;
use netpoll::{SharedWait, SharesThread, TakesTurns, take_turns};
use std::io;
use std::time::Duration;

struct Member<B, P> {
    worker: Worker<B, P>,
    failed: Option<io::Error>,
}

impl<B: SharesThread, P: Protocol> Member<B, P> {
    fn kept<T>(&mut self, done: io::Result<T>) -> Option<T> {
        done.map_err(|error| self.failed = Some(error)).ok()
    }
}

impl<B: SharesThread, P: Protocol> TakesTurns for Member<B, P> {
    type Backend = B;

    fn backend(&mut self) -> &mut B {
        &mut self.worker.backend
    }

    fn turn(&mut self) -> bool {
        let turned = self.worker.turn(Duration::ZERO);
        self.kept(turned).unwrap_or(false)
    }

    fn begin_wait(&mut self) -> Option<Duration> {
        let flushed = self.worker.backend.flush_before_wait(self.worker.time_to_wait());
        self.kept(flushed)
    }
}

/// Runs `workers`, whose backends have joined the shared wait in this order, until the coordinator
/// orders the end.
///
/// # Errors
/// What made one of their backends unusable.
pub(crate) fn run_together<B: SharesThread, P: Protocol>(
    shared: &SharedWait,
    workers: Vec<Worker<B, P>>,
) -> io::Result<Vec<WorkerResult>> {
    let mut results = Vec::with_capacity(workers.len());
    let members = workers.into_iter().map(|worker| Member { worker, failed: None }).collect();
    take_turns(shared, members, |member| {
        results.push(match member.failed {
            Some(error) => Err(error),
            None => Ok(member.worker.into_result().0),
        });
    });
    results.into_iter().collect()
}
