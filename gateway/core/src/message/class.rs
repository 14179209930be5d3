//! Classes of messages to receivers.

/// What the slow-consumer policy may do with a message when its receiver's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageClass {
    /// An answer to the client's own request. Never dropped.
    Reply,
    /// To a user or a connection.
    User,
    /// To a room.
    Room,
    /// To everyone.
    Broadcast,
}

impl MessageClass {
    /// All of them, for metrics.
    pub const ALL: [MessageClass; 4] =
        [MessageClass::Reply, MessageClass::User, MessageClass::Room, MessageClass::Broadcast];

    /// Name as a metric label and in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            MessageClass::Reply => "reply",
            MessageClass::User => "user",
            MessageClass::Room => "room",
            MessageClass::Broadcast => "broadcast",
        }
    }
}
