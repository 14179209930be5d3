//! Requests that wait for workers: a number, a waiter, and a deadline.

use gateway_core::message::Inspection;
use gateway_proto::codes::ErrorCode;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a worker may take to answer.
pub const TICKET_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests waiting at a time.
const TICKETS_MAX: usize = 4096;
/// At most this many of them belong to lists of messages: a quarter is left to requests that need
/// one.
pub(super) const LIST_TICKETS_MAX: usize = TICKETS_MAX / 4 * 3;

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// Too many requests wait.
    TooMany,
    /// The workers took too long.
    TimedOut,
    /// The workers refused what was asked, each of them.
    Refused,
}

enum Waiting {
    /// For so many outcomes; the receivers so far, and how many were refusals.
    Outcomes { left: usize, receivers: u64, refused: usize, done: oneshot::Sender<Reached> },
    /// For a list.
    List(oneshot::Sender<Box<Inspection>>),
}

/// The sum of outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    receivers: u64,
    refused: usize,
}

/// All waiting requests.
#[derive(Default)]
pub(super) struct Tickets {
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// The last number given.
    last: AtomicU64,
    /// Requests that ran out of time.
    pub timeouts: AtomicU64,
}

/// A request's number, taken back when it is dropped.
pub(super) struct Ticket<'a, T> {
    tickets: &'a Tickets,
    number: u64,
    /// When it runs out.
    deadline: Instant,
    answer: oneshot::Receiver<T>,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open<T>(&self, waiting: Waiting, answer: oneshot::Receiver<T>) -> Result<Ticket<'_, T>, TicketError> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.lock();
        if all.len() >= TICKETS_MAX {
            return Err(TicketError::TooMany);
        }
        all.insert(number, waiting);
        Ok(Ticket { tickets: self, number, deadline: Instant::now() + TICKET_TIMEOUT, answer })
    }

    /// A ticket for `count` outcomes.
    ///
    /// # Errors
    /// [`TicketError::TooMany`].
    pub(super) fn outcomes(&self, count: usize) -> Result<Ticket<'_, Reached>, TicketError> {
        self.outcomes_until(count, Instant::now() + TICKET_TIMEOUT)
    }

    /// A ticket for `count` outcomes that may take until `deadline`.
    ///
    /// # Errors
    /// [`TicketError::TooMany`].
    pub(super) fn outcomes_until(
        &self,
        count: usize,
        deadline: Instant,
    ) -> Result<Ticket<'_, Reached>, TicketError> {
        let (done, answer) = oneshot::channel();
        let mut ticket =
            self.open(Waiting::Outcomes { left: count.max(1), receivers: 0, refused: 0, done }, answer)?;
        ticket.deadline = deadline;
        Ok(ticket)
    }

    /// A ticket for a list.
    ///
    /// # Errors
    /// [`TicketError::TooMany`].
    pub(super) fn list(&self) -> Result<Ticket<'_, Box<Inspection>>, TicketError> {
        let (done, answer) = oneshot::channel();
        self.open(Waiting::List(done), answer)
    }

    /// Takes a worker's outcome. Outcomes of a ticket that is gone are dropped. A target that
    /// does not exist has no receivers; any other error is a refusal.
    pub(super) fn outcome(&self, ticket: u64, result: Result<u32, ErrorCode>) {
        let mut all = self.lock();
        let Some(Waiting::Outcomes { left, receivers, refused, .. }) = all.get_mut(&ticket) else { return };
        *receivers += u64::from(result.unwrap_or(0));
        *refused += usize::from(result.is_err_and(|code| code != ErrorCode::NOT_FOUND));
        *left -= 1;
        if *left == 0
            && let Some(Waiting::Outcomes { receivers, refused, done, .. }) = all.remove(&ticket)
        {
            // The waiter may have given up.
            let _ = done.send(Reached { receivers, refused });
        }
    }

    /// Takes a worker's list.
    pub(super) fn inspected(&self, inspection: Box<Inspection>) {
        if let Some(Waiting::List(done)) = self.lock().remove(&inspection.ticket()) {
            let _ = done.send(inspection);
        }
    }
}

impl<T> Ticket<'_, T> {
    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// [`TicketError::TimedOut`].
    pub(super) async fn answer(mut self) -> Result<T, TicketError> {
        match tokio::time::timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => {
                self.tickets.timeouts.fetch_add(1, Ordering::Relaxed);
                Err(TicketError::TimedOut)
            }
        }
    }
}

impl Ticket<'_, Reached> {
    /// Waits for the outcomes: the receivers.
    ///
    /// # Errors
    /// [`TicketError::TimedOut`]; [`TicketError::Refused`] where there is no receiver, and a worker
    /// has refused the message.
    pub(super) async fn receivers(self) -> Result<u64, TicketError> {
        let Reached { receivers, refused } = self.answer().await?;
        if receivers == 0 && refused > 0 { Err(TicketError::Refused) } else { Ok(receivers) }
    }
}

impl<T> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        self.tickets.lock().remove(&self.number);
    }
}
