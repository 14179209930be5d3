//! What the server says to one connection.

use super::Handler;
use super::close::Goodbye;
use super::pressure::CLOSES_MAX;
use crate::io::rewrite_in_place;
use crate::metrics::{OperationClass, SlowReason};
use crate::session::Phase;
use crate::settings::BusMode;
use gateway_proto::body::{Error, HeartbeatReply, Reason};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Header;
use netpoll::{Backend, Buffer, ConnectionId, Priority, Queues, SendError, SharedBuffer};

/// Bytes of an answer up to which copying it costs less than a piece of its own.
const COPIED_MAX: usize = 256;

impl<B: Backend> Handler<B> {
    /// Queues bytes that must not be lost. When the connection's own queue is full, the peer does not take what it asks for,
    /// and the connection ends. When others' queues have used the store up, those that hold most end. Nothing follows a last word.
    pub(crate) fn send(&mut self, connection: ConnectionId, bytes: SharedBuffer) {
        if self.shard.sessions.get(connection).is_none_or(|session| session.phase == Phase::Closing) {
            return;
        }
        let mut bytes = bytes;
        for _ in 0..=CLOSES_MAX {
            bytes = match self.io.send(connection, bytes, Priority::Reply) {
                Ok(()) | Err(SendError::Closed(_)) => return,
                Err(SendError::Full(_)) => return self.close_slow(connection, SlowReason::Replies),
                Err(SendError::Exhausted(bytes)) => bytes,
            };
            self.io.metrics.store_refusals.add(1);
            if !self.make_room_in_store(connection) {
                break;
            }
        }
        self.close(connection, Goodbye::Closed(CloseCode::OVERLOAD, &"too much waits to be sent"));
    }

    /// Makes a frame whose body `write` fills. `None` when there is no block for it although all that hold such blocks have been
    /// asked to go.
    pub(super) fn encode(
        &mut self,
        connection: ConnectionId,
        websocket: bool,
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
            handler.io.frame(websocket, header, fill)
        })
    }

    /// Queues a frame whose body `write` fills.
    pub(crate) fn reply(&mut self, connection: ConnectionId, header: Header, write: impl FnOnce(&mut [u8])) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let websocket = session.websocket;
        self.io.metrics.count_sent(OperationClass::of(header.operation), header.frame_size());
        match self.encode(connection, websocket, header, write) {
            Some(bytes) => self.send(connection, bytes),
            None => self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD)),
        }
    }

    /// Refuses a request; the connection stays.
    pub(crate) fn refuse(
        &mut self,
        connection: ConnectionId,
        request: Header,
        code: ErrorCode,
        reason: &str,
    ) {
        self.io.metrics.errors.add(1);
        if !self.may_err(connection, code) {
            return;
        }
        let error = Error { code, operation: request.operation, reason: Reason::truncated(reason) };
        let header = Header {
            body_size: error.encoded_size() as u32,
            version: request.version,
            operation: gateway_proto::frame::Operation::ERROR,
            sequence: request.sequence,
        };
        self.reply(connection, header, |body| {
            error.emit(body);
        });
    }

    /// A heartbeat: answered with the size of the connection's first room.
    pub(crate) fn heartbeat(&mut self, connection: ConnectionId, header: Header) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let rooms = &self.shard.rooms;
        let online = session.rooms.primary.map_or(0, |member| rooms.total(rooms.room_of(member)));
        let reply = HeartbeatReply { online: i32::try_from(online).unwrap_or(i32::MAX) };
        self.reply(connection, header.reply(HeartbeatReply::SIZE as u32), |body| {
            reply.emit(body);
        });
    }

    /// An application operation, for the bus: the reply has the request's operation and sequence.
    pub(crate) fn application(
        &mut self,
        connection: ConnectionId,
        header: Header,
        buffer: Buffer,
        body_start: usize,
    ) {
        self.io.metrics.bus_requests.add(1);
        match self.context.settings.bus {
            BusMode::Acknowledge => self.reply(connection, Header { body_size: 0, ..header }, |_| {}),
            BusMode::Echo => self.echo_frame(connection, header, buffer, body_start),
        }
    }

    /// Sends a frame back: the bytes stay where they were received. Over WebSocket a client's mask leaves a gap between
    /// pipelined answers, so that each would be a piece of its own; small ones behind another are written side by side.
    fn echo_frame(&mut self, connection: ConnectionId, header: Header, buffer: Buffer, body_start: usize) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let websocket = session.websocket;
        if websocket
            && buffer.len() - body_start <= COPIED_MAX
            && self.io.queues().queued_bytes(connection) > 0
        {
            return self
                .reply(connection, header, |body| body.copy_from_slice(&buffer.as_slice()[body_start..]));
        }
        match rewrite_in_place(buffer, body_start, header, &[], websocket) {
            Ok((bytes, _)) => {
                self.io.metrics.count_sent(OperationClass::Application, header.frame_size());
                self.send(connection, bytes);
            }
            Err(buffer) => {
                self.io.metrics.payload_copies.add(1);
                self.reply(connection, header, |body| body.copy_from_slice(&buffer.as_slice()[body_start..]));
            }
        }
    }
}
