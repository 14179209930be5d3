//! Reasons for which connections to the control port end.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer ended or reset it.
    Peer,
    /// Nothing came for `control.idle_timeout_ms`.
    Idle,
    /// A head did not come in time.
    HeadTimeout,
    /// A body did not come in time.
    BodyTimeout,
    /// The peer did not take an answer.
    Unread,
    /// Its place was needed.
    Evicted,
    /// There was no memory for a request.
    Busy,
    /// The request was refused before it was read to its end.
    Refused,
    /// The last answer said that it ends.
    Answered,
}

impl End {
    /// All of them, in their order.
    pub const ALL: [End; 9] = [
        End::Peer,
        End::Idle,
        End::HeadTimeout,
        End::BodyTimeout,
        End::Unread,
        End::Evicted,
        End::Busy,
        End::Refused,
        End::Answered,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            End::Peer => "peer",
            End::Idle => "idle",
            End::HeadTimeout => "head_timeout",
            End::BodyTimeout => "body_timeout",
            End::Unread => "unread",
            End::Evicted => "evicted",
            End::Busy => "busy",
            End::Refused => "refused",
            End::Answered => "answered",
        }
    }
}
