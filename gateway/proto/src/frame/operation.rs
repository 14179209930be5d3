//! The operations: goim's below 18, the extensions in 100–199, applications elsewhere.

/// What a frame means (goim `api/protocol/operation.go`; extensions in 100–199).
///
/// Any 32-bit value can be on the wire, so this is a newtype and not an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub i32);

#[rustfmt::skip]
impl Operation {
    /// Client: still here. Empty body.
    pub const HEARTBEAT: Self = Self(2);
    /// Body: [`crate::body::HeartbeatReply`].
    pub const HEARTBEAT_REPLY: Self = Self(3);
    /// Client message to a user or a room. Body: [`crate::body::SendMessage`].
    pub const SEND_MESSAGE: Self = Self(4);
    /// Body: [`crate::body::SendMessageReply`].
    pub const SEND_MESSAGE_REPLY: Self = Self(5);
    /// The first frame of a connection. Body: the JSON of `auth`.
    pub const AUTH: Self = Self(7);
    /// Success; the body is empty, as goim's clients expect.
    pub const AUTH_REPLY: Self = Self(8);
    /// Server: an envelope with a body of whole frames.
    pub const RAW: Self = Self(9);
    /// Body: [`crate::body::ChangeRoom`].
    pub const CHANGE_ROOM: Self = Self(12);
    /// Body: the request's, echoed.
    pub const CHANGE_ROOM_REPLY: Self = Self(13);
    /// Push operations to accept. Body: [`crate::body::OperationList`].
    pub const SUBSCRIBE: Self = Self(14);
    /// Empty body.
    pub const SUBSCRIBE_REPLY: Self = Self(15);
    /// Push operations to accept no longer. Body: [`crate::body::OperationList`].
    pub const UNSUBSCRIBE: Self = Self(16);
    /// Empty body.
    pub const UNSUBSCRIBE_REPLY: Self = Self(17);
    /// Idempotent message. Body: [`crate::body::Publish`].
    pub const PUBLISH: Self = Self(100);
    /// Body: [`crate::body::PublishReply`].
    pub const PUBLISH_REPLY: Self = Self(101);
    /// Server: a published message. Body: [`crate::body::Deliver`].
    pub const DELIVER: Self = Self(102);
    /// Client: how far it holds a stream. Body: [`crate::body::DeliverAck`].
    pub const DELIVER_ACK: Self = Self(103);
    /// Join a further room. Body: [`crate::body::Join`].
    pub const JOIN: Self = Self(104);
    /// Body: [`crate::body::JoinReply`].
    pub const JOIN_REPLY: Self = Self(105);
    /// Leave a joined room. Body: [`crate::body::Leave`].
    pub const LEAVE: Self = Self(106);
    /// Body: [`crate::body::LeaveReply`].
    pub const LEAVE_REPLY: Self = Self(107);
    /// Server: come back later. Body: [`crate::body::Reconnect`].
    pub const RECONNECT: Self = Self(110);
    /// Server: the last frame. Body: [`crate::body::Closed`].
    pub const CLOSED: Self = Self(111);
    /// Server: a request was refused. Body: [`crate::body::Error`].
    pub const ERROR: Self = Self(112);

    /// The lowest operation that a push may carry.
    pub const PUSH_MIN: Self = Self(1000);
}

impl Operation {
    /// Whether a client's frame goes to the services behind the gateway: neither goim's own (0–17)
    /// nor an extension (100–199). Negative operations mean nothing and are not passed on.
    #[must_use]
    pub const fn is_application(self) -> bool {
        self.0 > 17 && !matches!(self.0, 100..=199)
    }

    /// Whether receivers may see it as a push: 1000 or more. User pushes and broadcasts of such an
    /// operation reach only connections that accept it.
    #[must_use]
    pub const fn is_push(self) -> bool {
        self.0 >= Self::PUSH_MIN.0
    }

    /// The operation of the reply: goim numbers it one higher, and applications' replies keep the
    /// operation (see [`Operation::is_application`]).
    #[must_use]
    pub const fn reply(self) -> Self {
        if self.is_application() { self } else { Self(self.0.saturating_add(1)) }
    }

    /// The metric label: one of a small closed set, whatever the value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self.0 {
            2 | 3 => "heartbeat",
            4 | 5 => "send_message",
            7 | 8 => "auth",
            9 => "raw",
            12 | 13 => "change_room",
            14 | 15 => "subscribe",
            16 | 17 => "unsubscribe",
            100 | 101 => "publish",
            102 => "deliver",
            103 => "deliver_ack",
            104 | 105 => "join",
            106 | 107 => "leave",
            110..=112 => "notice",
            1000.. => "push",
            _ if self.is_application() => "application",
            _ => "reserved",
        }
    }
}

impl core::fmt::Display for Operation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.0, self.label())
    }
}
