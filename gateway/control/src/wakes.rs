//! One wake-up for many pushes.
//!
//! Waking a sleeping worker costs more than making a push. So pushes are left in its mailbox, and a
//! task of its own wakes the workers when all tasks that were ready have run.

use super::workers::{MailboxFull, Workers};
use gateway_core::address::WorkerId;
use gateway_core::message::Message;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// A worker with this many is woken at once: it can begin while more are made.
const UNWOKEN_MAX: u32 = 64;

/// Workers with pushes that they were not woken for.
pub(super) struct WakeCoalescer {
    /// By worker: messages in its mailbox that it was not woken for.
    unwoken: Box<[AtomicU32]>,
    due: Notify,
}

impl WakeCoalescer {
    pub(super) fn new(workers: usize) -> WakeCoalescer {
        WakeCoalescer { unwoken: (0..workers).map(|_| AtomicU32::new(0)).collect(), due: Notify::new() }
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
        let Some(unwoken) = self.unwoken.get(worker.index()) else { return sent };
        let before = unwoken.fetch_add(1, Ordering::Relaxed);
        if sent.is_err() || before >= UNWOKEN_MAX {
            unwoken.store(0, Ordering::Relaxed);
            workers.wake(worker);
        } else if before == 0 {
            self.due.notify_one();
        }
        sent
    }

    /// Waits until a worker has such pushes, and wakes all workers that have.
    pub(super) async fn wake_due(&self, workers: &Workers) {
        self.due.notified().await;
        for (worker, unwoken) in workers.ids().zip(&self.unwoken) {
            if unwoken.swap(0, Ordering::Relaxed) > 0 {
                workers.wake(worker);
            }
        }
    }
}
