//! The operations: goim's below 18, the extensions in 100–199, applications elsewhere.

/// What a frame means (goim `api/protocol/operation.go`; extensions in 100–199).
///
/// Any 32-bit value can be on the wire, so this is a newtype and not an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub i32);

/// The protocol's own operations: one row each, so that none is without a metric label.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal;)*) => {
        impl Operation {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The protocol's own operations, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The metric label of one of [`Operation::ALL`].
            const fn own_label(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($label),)*
                    _ => None,
                }
            }
        }
    };
}

operations! {
    /// Client: still here. Empty body.
    HEARTBEAT = 2, "heartbeat";
    /// Body: [`crate::body::HeartbeatReply`].
    HEARTBEAT_REPLY = 3, "heartbeat";
    /// Client message to a user or a room. Body: [`crate::body::SendMessage`].
    SEND_MESSAGE = 4, "send_message";
    /// Body: [`crate::body::SendMessageReply`].
    SEND_MESSAGE_REPLY = 5, "send_message";
    /// The first frame of a connection. Body: the JSON of `auth`.
    AUTH = 7, "auth";
    /// Success; the body is empty, as goim's clients expect.
    AUTH_REPLY = 8, "auth";
    /// Server: an envelope with a body of whole frames.
    RAW = 9, "raw";
    /// Body: [`crate::body::ChangeRoom`].
    CHANGE_ROOM = 12, "change_room";
    /// Body: the request's, echoed.
    CHANGE_ROOM_REPLY = 13, "change_room";
    /// Push operations to accept. Body: [`crate::body::OperationList`].
    SUBSCRIBE = 14, "subscribe";
    /// Empty body.
    SUBSCRIBE_REPLY = 15, "subscribe";
    /// Push operations to accept no longer. Body: [`crate::body::OperationList`].
    UNSUBSCRIBE = 16, "unsubscribe";
    /// Empty body.
    UNSUBSCRIBE_REPLY = 17, "unsubscribe";
    /// Idempotent message. Body: [`crate::body::Publish`].
    PUBLISH = 100, "publish";
    /// Body: [`crate::body::PublishReply`].
    PUBLISH_REPLY = 101, "publish";
    /// Server: a published message. Body: [`crate::body::Deliver`].
    DELIVER = 102, "deliver";
    /// Client: how far it holds a stream. Body: [`crate::body::DeliverAck`].
    DELIVER_ACK = 103, "deliver_ack";
    /// Join a further room. Body: [`crate::body::Join`].
    JOIN = 104, "join";
    /// Body: [`crate::body::JoinReply`].
    JOIN_REPLY = 105, "join";
    /// Leave a joined room. Body: [`crate::body::Leave`].
    LEAVE = 106, "leave";
    /// Body: [`crate::body::LeaveReply`].
    LEAVE_REPLY = 107, "leave";
    /// Server: come back later. Body: [`crate::body::Reconnect`].
    RECONNECT = 110, "notice";
    /// Server: the last frame. Body: [`crate::body::Closed`].
    CLOSED = 111, "notice";
    /// Server: a request was refused. Body: [`crate::body::Error`].
    ERROR = 112, "notice";
}

impl Operation {
    /// The lowest operation that a push may carry.
    pub const PUSH_MIN: Self = Self(1000);

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
        match self.own_label() {
            Some(label) => label,
            None if self.is_push() => "push",
            None if self.is_application() => "application",
            None => "reserved",
        }
    }
}

impl core::fmt::Display for Operation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.0, self.label())
    }
}
