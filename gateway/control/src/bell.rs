//! One wake-up for many pushes.
//!
//! Waking a sleeping worker costs more than making a push. So pushes are left in its mailbox, and a
//! task of its own wakes the workers when all tasks that were ready have had their say.

use super::workers::{MailboxFull, Workers};
use gateway_core::address::WorkerId;
use gateway_core::message::Message;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// A worker that was sent so many is woken at once: it can begin while more are made.
const UNTOLD_MAX: u32 = 64;

/// Who has to be woken.
pub(super) struct Bell {
    /// By worker: messages in its mailbox that it was not woken for.
    untold: Box<[AtomicU32]>,
    pulled: Notify,
}

impl Bell {
    pub(super) fn new(workers: usize) -> Bell {
        Bell { untold: (0..workers).map(|_| AtomicU32::new(0)).collect(), pulled: Notify::new() }
    }

    /// Leaves a message in the worker's mailbox, to be woken for soon.
    ///
    /// # Errors
    /// [`MailboxFull`]; the message is dropped.
    pub(super) fn send(
        &self,
        workers: &Workers,
        worker: WorkerId,
        message: Message,
    ) -> Result<(), MailboxFull> {
        let sent = workers.push(worker, message);
        let Some(untold) = self.untold.get(worker.index()) else { return sent };
        let before = untold.fetch_add(1, Ordering::Relaxed);
        if sent.is_err() || before >= UNTOLD_MAX {
            untold.store(0, Ordering::Relaxed);
            workers.wake(worker);
        } else if before == 0 {
            self.pulled.notify_one();
        }
        sent
    }

    /// Waits until somebody is to be woken, and does it.
    pub(super) async fn ring(&self, workers: &Workers) {
        self.pulled.notified().await;
        for (worker, untold) in workers.ids().zip(&self.untold) {
            if untold.swap(0, Ordering::Relaxed) > 0 {
                workers.wake(worker);
            }
        }
    }
}
