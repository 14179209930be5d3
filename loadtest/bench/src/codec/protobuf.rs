//! The messages as protobuf has them: what `prost-build` would write for this file.
//!
//! ```proto
//! message Envelope { int32 sequence = 1; oneof body { Heartbeat heartbeat = 2; Push push = 3; … }}
//! message Push     { int32 operation = 1; bytes payload = 2; }
//! ```
//!
//! An envelope names its message by the field of the `oneof`, which takes the place of the frame's
//! operation; the frame's version has no counterpart.

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(int32, tag = "1")]
    pub(super) sequence: i32,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "2")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "3")]
    Push(Push),
    #[prost(message, tag = "4")]
    Send(Send),
    #[prost(message, tag = "5")]
    SendReply(SendReply),
    #[prost(message, tag = "6")]
    Deliver(Deliver),
    #[prost(message, tag = "7")]
    Login(Login),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Heartbeat {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Push {
    #[prost(int32, tag = "1")]
    pub(super) operation: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Send {
    #[prost(string, tag = "1")]
    pub(super) room: String,
    #[prost(bool, tag = "2")]
    pub(super) not_to_self: bool,
    #[prost(bool, tag = "3")]
    pub(super) quiet: bool,
    #[prost(int32, tag = "4")]
    pub(super) push_operation: i32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SendReply {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(uint32, tag = "2")]
    pub(super) receivers: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Deliver {
    #[prost(string, tag = "1")]
    pub(super) room: String,
    #[prost(string, tag = "2")]
    pub(super) sender: String,
    #[prost(uint32, tag = "3")]
    pub(super) epoch: u32,
    #[prost(uint64, tag = "4")]
    pub(super) offset: u64,
    #[prost(uint64, tag = "5")]
    pub(super) server_time_ms: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Login {
    #[prost(int64, tag = "1")]
    pub(super) mid: i64,
    #[prost(string, tag = "2")]
    pub(super) room: String,
    #[prost(string, tag = "3")]
    pub(super) platform: String,
    #[prost(int32, repeated, tag = "4")]
    pub(super) accepts: Vec<i32>,
    #[prost(string, tag = "5")]
    pub(super) token: String,
}
