//! The generator's end of a bare port: connections are hardware addresses, and payloads are frames.
//!
//! Nothing is acknowledged or repeated. The link loses nothing: frames that its ring has no room
//! for wait here.

use super::wire::{HEADER_SIZE, Kind, PAYLOAD_MAX, header, number, transmit};
use crate::client::Line;
use crate::tally::Resent;
use dpdk_backend::backend::{Clock, SystemClock};
use dpdk_backend::device::{Device, Received};
use dpdk_backend::ffi::Queue;
use netpoll::{
    BufferPools, Completion, Completions, ConnectError, ConnectionId, PoolsConfig, SendError, SharedBuffer,
    Timestamp, Waker,
};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Frames taken from the port at once.
const BURST: usize = 32;
/// At most so many bursts per poll.
const BURSTS_PER_POLL: usize = 8;

/// What waits to be sent.
struct Waiting {
    number: u32,
    kind: Kind,
    /// `None` for a frame without payload.
    payload: Option<SharedBuffer>,
    /// Bytes of it that have left.
    sent: usize,
}

/// A queue of a port as a line.
pub struct Frames {
    queue: Queue,
    pools: BufferPools,
    clock: SystemClock,
    waker: Waker,
    received: Vec<Received>,
    waiting: VecDeque<Waiting>,
    /// Connections begun.
    count: u32,
    busy: Duration,
    /// When the last poll ended: what the owner does until the next one is work.
    handed_over: Option<Timestamp>,
}

impl Frames {
    /// A line over `queue`, which is fresh, and which sleeps for at most `idle_sleep_max`.
    ///
    /// # Errors
    /// Memory is short.
    pub(super) fn new(mut queue: Queue, pools: &PoolsConfig, idle_sleep_max: Duration) -> io::Result<Frames> {
        let memory = queue.receive_memory().ok_or_else(|| io::Error::other("the port has no memory"))?;
        Ok(Frames {
            pools: BufferPools::over(pools, memory)?,
            queue,
            clock: SystemClock::sleeping_at_most(idle_sleep_max),
            waker: Waker::flag(),
            received: Vec::with_capacity(BURST),
            waiting: VecDeque::new(),
            count: 0,
            busy: Duration::ZERO,
            handed_over: None,
        })
    }

    /// One round without waiting; whether a frame moved.
    fn turn(&mut self, now: Timestamp, batch: &mut Completions) -> bool {
        let mut moved = false;
        while let Some(one) = self.waiting.front_mut() {
            if !one.leave(&mut self.queue, now) {
                break;
            }
            moved = true;
            self.waiting.pop_front();
        }
        self.queue.transmit_burst(now);
        for _ in 0..BURSTS_PER_POLL {
            if batch.room() < BURST {
                break;
            }
            self.queue.receive_burst(now, &mut self.pools, &mut self.received);
            let count = self.received.len();
            moved |= count > 0;
            for mut received in self.received.drain(..) {
                let frame = received.buffer.as_slice();
                let Some((number, kind)) = number(frame).zip(Kind::of(frame)) else { continue };
                let connection = ConnectionId::new(number, 0);
                received.buffer.advance(HEADER_SIZE);
                batch.push(match kind {
                    Kind::Join => Completion::Connected { connection },
                    Kind::Message => Completion::Received { connection, buffer: received.buffer },
                });
            }
            if count < BURST {
                break;
            }
        }
        moved
    }
}

impl Waiting {
    /// Passes the frames to the port; returns whether all have left.
    fn leave(&mut self, queue: &mut Queue, now: Timestamp) -> bool {
        let mut frame = [0; HEADER_SIZE + PAYLOAD_MAX];
        frame[..HEADER_SIZE].copy_from_slice(&header(self.number, self.kind));
        let payload = self.payload.as_deref().unwrap_or_default();
        loop {
            let part = &payload[self.sent..payload.len().min(self.sent + PAYLOAD_MAX)];
            let end = HEADER_SIZE + part.len();
            frame[HEADER_SIZE..end].copy_from_slice(part);
            if !transmit(queue, now, &frame[..end]) {
                return false;
            }
            self.sent += part.len();
            if self.sent == payload.len() {
                return true;
            }
        }
    }
}

impl Line for Frames {
    fn connect(&mut self, _: Option<SocketAddr>, _: SocketAddr) -> Result<ConnectionId, ConnectError> {
        let number = self.count;
        self.count += 1;
        self.waiting.push_back(Waiting { number, kind: Kind::Join, payload: None, sent: 0 });
        Ok(ConnectionId::new(number, 0))
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        batch.admit(batch.room());
        let start = self.clock.now();
        if let Some(since) = self.handed_over.take() {
            self.busy += start.since(since);
        }
        let mut round = start;
        loop {
            let moved = self.turn(round, batch);
            let now = self.clock.now();
            if moved {
                self.clock.busy();
                self.busy += now.since(round);
            }
            if !batch.is_empty() || now.since(start) >= wait {
                self.handed_over = Some(now);
                return Ok(());
            }
            if !moved {
                self.clock.idle(wait, &self.waker);
            }
            round = self.clock.now();
        }
    }

    fn send(&mut self, connection: ConnectionId, bytes: SharedBuffer) -> Result<(), SendError> {
        let number = connection.index() as u32;
        self.waiting.push_back(Waiting { number, kind: Kind::Message, payload: Some(bytes), sent: 0 });
        Ok(())
    }

    fn pools(&mut self) -> &mut BufferPools {
        &mut self.pools
    }

    fn busy(&mut self) -> Option<Duration> {
        Some(self.busy)
    }

    fn resent(&mut self) -> Option<Resent> {
        None
    }
}
