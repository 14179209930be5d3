//! Kicks of many: of all connections, or of those that came with certain tokens.
//!
//! A signing key that is no longer to be trusted is removed by a reload, and no new login passes with it; the sessions that it
//! opened stay until their tokens end. These close them: by the key's id, or by the time of issue.

use super::Control;
use super::encoder::EncodeError;
use super::reply::ApiError;
use crate::worker::message::{Filter, KickTarget, Message};
use gateway_proto::body::REASON_SIZE_MAX;
use gateway_proto::codes::CloseCode;

/// Whom a request means, if it means many.
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
                let policy = control.verifier.as_ref().map(crate::auth::Verifier::policy);
                let number = policy.and_then(|policy| policy.keys.number_of(id));
                let why = "no key with this kid was in force since the start";
                number.map(Filter::TokenKey).ok_or_else(|| ApiError::not_found(why))
            }
        }
    }

    /// Closes them; returns how many.
    pub(super) async fn kick(
        &self,
        control: &Control,
        code: CloseCode,
        reason: Option<&str>,
    ) -> Result<u64, ApiError> {
        let target = KickTarget::Many(self.filter(control)?);
        let encode = |error: EncodeError| ApiError::encode(error, REASON_SIZE_MAX);
        let reason = reason.filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| control.text(reason)).transpose().map_err(encode)?;
        let ticket = control.tickets.outcomes(control.workers.count())?;
        for worker in control.workers.ids() {
            let (reason, ticket) = (reason.clone(), ticket.number());
            control.workers.send(worker, Message::Kick { target, code, reason, ticket })?;
        }
        Ok(ticket.answer().await?)
    }
}
