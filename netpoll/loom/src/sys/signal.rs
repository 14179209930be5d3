//! A signal as the kernel provides it: one that is given while no thread waits ends the next wait
//! at once.

use loom::sync::{Condvar, Mutex};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    given: Mutex<bool>,
    change: Condvar,
}

#[derive(Clone, Debug)]
pub(super) struct Signal(Arc<State>);

#[derive(Debug)]
pub(super) struct SignalWait(Arc<State>);

impl Signal {
    pub(super) fn new() -> io::Result<Signal> {
        Ok(Signal(Arc::default()))
    }

    pub(super) fn to_wait_for(&self) -> io::Result<SignalWait> {
        Ok(SignalWait(Arc::clone(&self.0)))
    }

    pub(super) fn signal(&self) {
        *self.0.given.lock().unwrap() = true;
        self.0.change.notify_one();
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("a model has no rings")
    }
}

impl SignalWait {
    /// Waits without a time limit: a signal that does not come is a deadlock, which fails the
    /// model.
    pub(super) fn wait(&self, _: Duration) -> io::Result<()> {
        let mut given = self.0.given.lock().unwrap();
        while !*given {
            given = self.0.change.wait(given).unwrap();
        }
        *given = false;
        Ok(())
    }
}
