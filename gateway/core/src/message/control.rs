//! What a worker sends to the control thread.

use super::Inspection;
use crate::address::{Address, WorkerId};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::preface::Preface;
use netpoll::{CloseReason, MailboxSender, Timestamp};

/// A worker's end of the control thread's mailbox: takes no lock, allocates nothing, never blocks.
pub type ControlSender = MailboxSender<ControlMessage>;

/// To the control thread.
#[derive(Debug)]
pub enum ControlMessage {
    /// What became of a request with a ticket; a broadcast gives one a worker.
    Outcome {
        /// Number of the request.
        ticket: u64,
        /// Connections reached, or why none was.
        result: Result<u32, ErrorCode>,
    },
    /// A list that was asked for.
    Inspected(Box<Inspection>),
    /// Something for the audit journal.
    Audit(AuditEvent),
    /// A worker has ended.
    Stopped(WorkerId),
}

/// An entry of the audit journal, as the worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct AuditEvent {
    /// When, on the worker's clock.
    pub at: Timestamp,
    /// Which connection.
    pub address: Address,
    /// What.
    pub kind: AuditKind,
    /// goim's user id, if any.
    pub mid: i64,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// A client has logged in.
    Connected,
    /// It is gone, and not because the server closed it.
    Disconnected(CloseReason),
    /// It was closed by the server with a code.
    Kicked(CloseCode),
    /// Its login was refused.
    Refused(CloseCode),
    /// It began in another protocol.
    Foreign(Preface),
}
