//! Kicks of many connections: of all, or of those with certain tokens.
//!
//! A signing key that is no longer to be trusted is removed by a reload, and no new login passes
//! with it; the sessions that it opened stay until their tokens end. These close them: by the key's
//! id, or by the time of issue.

use super::control::Control;
use super::encoder::EncodeError;
use super::reply::ApiError;
use super::tickets::TicketError;
use gateway_core::message::{Filter, KickTarget, Message};
use gateway_proto::body::REASON_SIZE_MAX;
use gateway_proto::codes::CloseCode;
use netpoll::SharedBuffer;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Longest time of an order, from a worker with a full mailbox to the last connection of the last
/// worker.
const ORDER_MAX: Duration = Duration::from_secs(60);
/// A full mailbox is tried again after this time.
const AGAIN: Duration = Duration::from_millis(2);

/// The connections that a request means, if it means many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Many {
    /// `"all": true`.
    All,
    /// `"kid": …`.
    KeyId(String),
    /// `"issued_before": …`, in seconds since 1970.
    IssuedBefore(u32),
}

impl Many {
    /// What a journal says.
    pub(super) fn describe(&self) -> String {
        match self {
            Many::All => "all".into(),
            Many::KeyId(id) => format!("kid {id}"),
            Many::IssuedBefore(time) => format!("issued before {time}"),
        }
    }

    fn filter(&self, control: &Control) -> Result<Filter, ApiError> {
        match self {
            Many::All => Ok(Filter::All),
            Many::IssuedBefore(time) => Ok(Filter::IssuedBefore(*time)),
            Many::KeyId(id) => {
                let policy = control.verifier.as_ref().map(gateway_auth::Verifier::policy);
                let number = policy.and_then(|policy| policy.keys.number_of(id));
                let why = "no key with this kid is in force, or has sessions";
                number.map(Filter::TokenKey).ok_or_else(|| ApiError::not_found(why))
            }
        }
    }

    /// Closes the connections; returns how many. The order is carried out also when its caller was
    /// answered before.
    ///
    /// # Errors
    /// [`ApiError`]: nothing was ordered, or, with `worker_timeout`, the order is under way.
    pub(super) async fn kick(
        &self,
        control: &Arc<Control>,
        code: CloseCode,
        reason: Option<&str>,
    ) -> Result<u64, ApiError> {
        let target = KickTarget::Many(self.filter(control)?);
        let encode = |error: EncodeError| ApiError::encode(error, REASON_SIZE_MAX);
        let reason = reason.filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| control.text(reason)).transpose().map_err(encode)?;
        let permit = Arc::clone(&control.sweeps).try_acquire_owned().map_err(|_| ApiError::kicks_busy())?;
        let carried_out = tokio::spawn(carry_out(Arc::clone(control), target, code, reason, permit));
        // Before the request's own time is over, which would say less.
        let patience = control.config().control.request_timeout * 9 / 10;
        match tokio::time::timeout(patience, carried_out).await {
            Ok(Ok(closed)) => Ok(closed?),
            Ok(Err(_)) | Err(_) => Err(TicketError::TimedOut.into()),
        }
    }
}

/// Hands the order to every worker, and waits until each has gone through its connections. The
/// permit is given back only then, so workers never have more orders than there are permits.
async fn carry_out(
    control: Arc<Control>,
    target: KickTarget,
    code: CloseCode,
    reason: Option<SharedBuffer>,
    permit: OwnedSemaphorePermit,
) -> Result<u64, TicketError> {
    let deadline = Instant::now() + ORDER_MAX;
    let ticket = control.tickets.outcomes_until(control.workers.count(), deadline)?;
    for worker in control.workers.ids() {
        loop {
            let (reason, ticket) = (reason.clone(), ticket.number());
            if control.workers.send(worker, Message::Kick { target, code, reason, ticket }).is_ok() {
                break;
            }
            if Instant::now() >= deadline {
                tracing::error!(
                    worker = worker.0,
                    "the worker's mailbox stays full; it did not get an order to kick"
                );
                return Err(TicketError::TimedOut);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    let closed = ticket.receivers().await;
    drop(permit);
    closed
}
