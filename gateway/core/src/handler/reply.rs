//! What the server answers to one connection.

use super::Handler;
use super::framing::Frame;
use super::goodbye::Goodbye;
use super::state::relief::CLOSES_MAX;
use crate::io::rewrite_in_place;
use crate::listener::Framing;
use crate::metrics::OperationClass;
use crate::session::Open;
use crate::settings::BusMode;
use gateway_proto::body::{Error, HeartbeatReply, Reason};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, ConnectionId, Priority, Queues, SendError, SharedBuffer};

/// Bytes of an answer up to which copying it costs less than a piece of its own.
const COPIED_MAX: usize = 256;

impl<B: Backend> Handler<B> {
    /// Queues bytes that must not be lost, for a connection that is not ending; false when it is
    /// ending now. When its own queue is full, it asks for more than it takes, and is left unread
    /// (`super::answers`). When others' queues have used the store up, those that hold most end.
    pub(super) fn send(&mut self, connection: ConnectionId, mut bytes: SharedBuffer) -> bool {
        for _ in 0..=CLOSES_MAX {
            bytes = match self.io.send(connection, bytes, Priority::Reply) {
                Ok(()) => return true,
                Err(SendError::Closed(_)) => return true, // its `Closed` is on its way
                Err(SendError::Full(bytes)) => return self.overfill(connection, bytes),
                Err(SendError::Exhausted(bytes)) => bytes,
            };
            self.io.metrics.store_refusals.add(1);
            if !self.make_room_in_store(connection) {
                break;
            }
        }
        self.close(connection, Goodbye::Closed(CloseCode::OVERLOAD, &"too much waits to be sent"));
        false
    }

    /// Makes a frame whose body `write` fills. `None` when there is no block for it although all
    /// that hold such blocks have been asked to go.
    pub(super) fn encode(
        &mut self,
        connection: ConnectionId,
        framing: Framing,
        header: Header,
        write: impl FnOnce(&mut [u8]),
    ) -> Option<SharedBuffer> {
        let mut write = Some(write);
        self.with_block(connection, header.frame_size(), |handler| {
            let fill = |body: &mut [u8]| {
                if let Some(write) = write.take() {
                    write(body);
                }
            };
            handler.io.frame(framing, header, fill)
        })
    }

    /// Queues a frame whose body `write` fills, for a connection that is not ending; false when it
    /// is ending now.
    fn send_frame(
        &mut self,
        (connection, framing): (ConnectionId, Framing),
        header: Header,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        self.io.metrics.count_sent(OperationClass::of(header.operation), header.frame_size());
        match self.encode(connection, framing, header, write) {
            Some(bytes) => self.send(connection, bytes),
            None => {
                self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
                false
            }
        }
    }

    /// Queues a frame whose body `write` fills. `None` when that ended the connection.
    pub(super) fn reply(
        &mut self,
        open: Open,
        header: Header,
        write: impl FnOnce(&mut [u8]),
    ) -> Option<Open> {
        let framing = self.shard.sessions.of(&open).framing;
        self.send_frame((open.connection(), framing), header, write).then_some(open)
    }

    /// Refuses a request. `None` when the connection has ended, for too many faulty requests or
    /// because it takes no answers.
    pub(super) fn refuse(
        &mut self,
        open: Open,
        request: Header,
        code: ErrorCode,
        reason: &str,
    ) -> Option<Open> {
        self.io.metrics.errors.add(1);
        let open = self.may_err(open, code)?;
        let (error, header) = error_frame(request, code, reason);
        self.reply(open, header, |body| {
            error.emit(body);
        })
    }

    /// Refuses a frame of a connection that has not logged in.
    pub(super) fn refuse_before_login(&mut self, connection: ConnectionId, request: Header, reason: &str) {
        self.io.metrics.errors.add(1);
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let to = (connection, session.framing);
        let (error, header) = error_frame(request, ErrorCode::NOT_AUTHENTICATED, reason);
        self.send_frame(to, header, |body| {
            error.emit(body);
        });
    }

    /// A heartbeat: answered with the size of the connection's first room.
    pub(super) fn heartbeat(&mut self, open: Open, header: Header) -> Option<Open> {
        let rooms = &self.shard.hosted_rooms;
        let primary = self.shard.sessions.of(&open).rooms().primary;
        let online = primary.map_or(0, |member| rooms.total(rooms.room_of(member)));
        let reply = HeartbeatReply { online: i32::try_from(online).unwrap_or(i32::MAX) };
        self.reply(open, header.reply(HeartbeatReply::SIZE as u32), |body| {
            reply.emit(body);
        })
    }

    /// An application operation, for the bus: the reply has the request's operation and sequence.
    #[inline(always)]
    pub(super) fn application(&mut self, open: Open, frame: Frame) -> Option<Open> {
        self.io.metrics.bus_requests.add(1);
        match self.context.settings.bus {
            BusMode::Acknowledge => self.reply(open, Header { body_size: 0, ..frame.header }, |_| {}),
            BusMode::Echo => self.echo_frame(open, frame),
        }
    }

    /// Sends a frame back: the bytes stay where they were received. Over WebSocket a client's mask
    /// leaves a gap between pipelined answers, so that each would be a piece of its own; small ones
    /// behind another are written side by side.
    #[inline(always)]
    fn echo_frame(&mut self, open: Open, frame: Frame) -> Option<Open> {
        let (connection, framing) = (open.connection(), self.shard.sessions.of(&open).framing);
        let header = frame.header;
        let is_small = frame.body().len() <= COPIED_MAX;
        if framing == Framing::WebSocket && is_small && self.io.queues().queued_bytes(connection) > 0 {
            return self.reply(open, header, |body| body.copy_from_slice(frame.body()));
        }
        let Frame { buffer, body_start, .. } = frame;
        match rewrite_in_place(buffer, body_start, header, &[], framing) {
            Ok(bytes) => {
                self.io.metrics.count_sent(OperationClass::Application, header.frame_size());
                self.send(connection, bytes).then_some(open)
            }
            Err(buffer) => {
                self.io.metrics.payload_copies.add(1);
                self.reply(open, header, |body| body.copy_from_slice(&buffer.as_slice()[body_start..]))
            }
        }
    }
}

/// An Error to `request`, and its header.
fn error_frame(request: Header, code: ErrorCode, reason: &str) -> (Error<'_>, Header) {
    let error = Error { code, operation: request.operation, reason: Reason::truncated(reason) };
    let header = Header {
        body_size: error.encoded_size() as u32,
        version: request.version,
        operation: Operation::ERROR,
        sequence: request.sequence,
    };
    (error, header)
}
