//! Labels of the counts of workers: closed sets.

use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use netpoll::CloseReason;

/// Classes of operations that traffic is counted by: few and fixed, whatever clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OperationClass {
    /// Heartbeat and its reply.
    Heartbeat,
    /// Auth and its reply.
    Auth,
    /// SendMessage, Publish and their replies.
    Send,
    /// Rooms: join, leave, change.
    Room,
    /// Subscribe, unsubscribe.
    Subscribe,
    /// Pushes and deliveries.
    Push,
    /// Closed, Reconnect, Error.
    Notice,
    /// Application operations handed to the bus, and its replies.
    Application,
}

impl OperationClass {
    /// The class of an operation.
    #[inline]
    pub const fn of(operation: Operation) -> OperationClass {
        match operation {
            Operation::HEARTBEAT | Operation::HEARTBEAT_REPLY => OperationClass::Heartbeat,
            Operation::AUTH | Operation::AUTH_REPLY => OperationClass::Auth,
            Operation::SEND_MESSAGE
            | Operation::SEND_MESSAGE_REPLY
            | Operation::PUBLISH
            | Operation::PUBLISH_REPLY
            | Operation::DELIVER_ACK => OperationClass::Send,
            Operation::CHANGE_ROOM
            | Operation::CHANGE_ROOM_REPLY
            | Operation::JOIN
            | Operation::JOIN_REPLY
            | Operation::LEAVE
            | Operation::LEAVE_REPLY => OperationClass::Room,
            Operation::SUBSCRIBE
            | Operation::SUBSCRIBE_REPLY
            | Operation::UNSUBSCRIBE
            | Operation::UNSUBSCRIBE_REPLY => OperationClass::Subscribe,
            Operation::RAW | Operation::DELIVER => OperationClass::Push,
            Operation::RECONNECT | Operation::CLOSED | Operation::ERROR => OperationClass::Notice,
            _ => OperationClass::Application,
        }
    }

    /// All of them.
    pub const ALL: [OperationClass; 8] = [
        OperationClass::Heartbeat,
        OperationClass::Auth,
        OperationClass::Send,
        OperationClass::Room,
        OperationClass::Subscribe,
        OperationClass::Push,
        OperationClass::Notice,
        OperationClass::Application,
    ];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            OperationClass::Heartbeat => "heartbeat",
            OperationClass::Auth => "auth",
            OperationClass::Send => "send",
            OperationClass::Room => "room",
            OperationClass::Subscribe => "subscribe",
            OperationClass::Push => "push",
            OperationClass::Notice => "notice",
            OperationClass::Application => "application",
        }
    }
}

/// Why a connection ended, for metrics: the transport's reason, or the code that the server closed
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The transport ended.
    Transport(CloseReason),
    /// The server closed it with a code.
    Code(CloseCode),
}

/// Why a slow consumer was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlowReason {
    /// It took nothing for a time, and a message that may not be dropped found its queue full.
    Stalled,
    /// Replies to its own requests found its queue full.
    Replies,
    /// Buffers or pieces ran short, and it held most of them.
    Pressure,
    /// Memory was short, and its queue was the longest.
    Memory,
}

impl SlowReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [SlowReason; 4] =
        [SlowReason::Stalled, SlowReason::Replies, SlowReason::Pressure, SlowReason::Memory];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            SlowReason::Stalled => "stalled",
            SlowReason::Replies => "replies",
            SlowReason::Pressure => "pressure",
            SlowReason::Memory => "memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_operation_of_the_protocol_is_counted_in_a_class_of_the_protocol() {
        let mut classes = BTreeMap::new();
        for operation in Operation::ALL {
            let class = OperationClass::of(*operation);
            assert_ne!(class, OperationClass::Application, "{operation} is counted as an application's");
            let of_label = *classes.entry(operation.label()).or_insert(class);
            assert_eq!(of_label, class, "{operation}: a request and its reply are counted apart");
        }
        assert_eq!(OperationClass::of(Operation(1000)), OperationClass::Application);
    }

    #[test]
    fn classes_are_indexed_by_their_number_and_have_labels_of_their_own() {
        let labels: BTreeSet<_> = OperationClass::ALL.iter().map(|class| class.label()).collect();
        assert_eq!(labels.len(), OperationClass::ALL.len());
        assert!(OperationClass::ALL.iter().enumerate().all(|(index, class)| *class as usize == index));
    }
}
