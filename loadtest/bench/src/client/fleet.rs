//! The connections of one measurement.

use super::Line;
use super::wire::{Protocol, Step};
use netpoll::epoll::EpollBackend;
use netpoll::{
    BackendConfig, Completion, Completions, ConnectError, ConnectionId, PoolSize, PoolsConfig, SharedBuffer,
    SharesThread, UringBackend, UringConfig, WaitSlot,
};
use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// At most so many connects are under way: fewer than any server's backlog.
const CONNECTS_MAX: usize = 256;
/// Source addresses of loopback that connections come from, in turn.
const SOURCES: u32 = 8;
/// At most so many completions per turn.
pub(crate) const BATCH: usize = 1024;
/// How long everything may take to become ready, and how many connections may take a second more.
const READY_WITHIN: Duration = Duration::from_secs(20);
const READY_A_SECOND: u64 = 2000;

/// Why a measurement failed: the server's fault or the system's.
#[derive(Debug)]
pub struct Problem(pub String);

impl Problem {
    /// A problem, with the action that failed.
    pub fn of(what: &str, error: impl Display) -> Problem {
        Problem(format!("{what}: {error}"))
    }
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem(error.to_string())
    }
}

/// A connection that is not ready yet.
struct Opening {
    steps: VecDeque<Step>,
    got: Vec<u8>,
}

/// Connections that are ready, numbered from 0.
pub struct Fleet<L> {
    pub(super) line: L,
    /// The source addresses of connections, in turn; empty: the line chooses.
    sources: Vec<Ipv4Addr>,
    batch: Completions,
    /// How long a turn may wait while connections open.
    wait: Duration,
    /// Ids by number, and numbers by the ids' index.
    pub(super) ids: Vec<ConnectionId>,
    numbers: Vec<u32>,
}

/// What arrived on the connection of a number.
pub(super) struct Arrival {
    pub(super) number: usize,
    /// When this turn's wait ended.
    pub(super) at: Instant,
    pub(super) buffer: netpoll::Buffer,
}

impl Fleet<UringBackend> {
    /// A fleet of `count` connections over io_uring, the cheaper client.
    ///
    /// # Errors
    /// io_uring cannot be used.
    pub fn over_uring(count: usize) -> io::Result<Self> {
        let line = UringBackend::new(&backend_config(count), &UringConfig::default())?;
        Ok(Fleet::over(line, loopback(SOURCES), count))
    }

    /// Sets the source addresses of connections, in turn.
    pub(super) fn come_from(&mut self, sources: Vec<Ipv4Addr>) {
        self.sources = sources;
    }

    /// Shares its thread with others: joins their shared wait, and never waits by itself.
    ///
    /// # Errors
    /// The system's errors.
    pub(super) fn join_wait(&mut self, slot: WaitSlot) -> io::Result<()> {
        self.wait = Duration::ZERO;
        self.line.join_wait(slot)
    }
}

impl Fleet<EpollBackend> {
    /// A fleet of `count` connections over epoll.
    ///
    /// # Errors
    /// The system's errors.
    pub fn over_epoll(count: usize) -> io::Result<Self> {
        Ok(Fleet::over(EpollBackend::new(&backend_config(count))?, loopback(SOURCES), count))
    }
}

/// 127.0.0.2 and up.
pub(super) fn loopback(count: u32) -> Vec<Ipv4Addr> {
    (0..count).map(|number| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 2)) + number)).collect()
}

fn backend_config(count: usize) -> BackendConfig {
    BackendConfig {
        connections_max: count + 8,
        batch_max: BATCH,
        pools: PoolsConfig {
            receive: PoolSize { size: 4096, count: 1024 },
            blocks: vec![PoolSize { size: 512, count: 1024 }, PoolSize { size: 128 << 10, count: 64 }],
            huge_pages: false,
        },
        send_pieces_shared: 4 * count + 1024,
        send_queue_bytes_max: 1 << 20,
        copy_break: 0,
        idle_demote: None,
    }
}

impl<L: Line> Fleet<L> {
    /// A fleet of `count` connections over `line`, from these addresses in turn; without any, from
    /// those that the line chooses.
    pub(crate) fn over(line: L, sources: Vec<Ipv4Addr>, count: usize) -> Fleet<L> {
        Fleet {
            line,
            sources,
            batch: Completions::with_capacity(BATCH),
            wait: Duration::from_millis(100),
            ids: Vec::with_capacity(count),
            numbers: vec![u32::MAX; count + 4096],
        }
    }

    /// Opens `count` connections to `server` and makes them ready.
    ///
    /// # Errors
    /// [`Problem`], for example a server that does not answer as it should.
    pub fn open(
        &mut self,
        server: SocketAddr,
        protocol: Protocol,
        count: usize,
        room: bool,
    ) -> Result<(), Problem> {
        let deadline = Instant::now() + READY_WITHIN + Duration::from_secs(count as u64 / READY_A_SECOND);
        let mut openings: Vec<Opening> = Vec::with_capacity(count);
        let (mut connecting, mut ready) = (0, 0);
        while ready < count {
            while openings.len() < count && connecting < CONNECTS_MAX {
                self.connect(server, openings.len())?;
                let steps = protocol.steps(openings.len(), room).into();
                openings.push(Opening { steps, got: vec![] });
                connecting += 1;
            }
            if Instant::now() > deadline {
                return Err(Problem(format!("only {ready} of {count} connections became ready")));
            }
            for completion in self.poll(self.wait)? {
                let number = match &completion {
                    Completion::Connected { connection } | Completion::Received { connection, .. } => {
                        self.number(*connection)
                    }
                    other => return Err(Problem(format!("while opening: {other:?}"))),
                };
                let opening = &mut openings[number];
                if let Completion::Received { buffer, .. } = completion {
                    if !opening.advance(buffer.as_slice())? {
                        continue;
                    }
                } else {
                    connecting -= 1;
                }
                match opening.steps.front() {
                    Some(step) => self.send_bytes(number, &step.request)?,
                    None => ready += 1,
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, server: SocketAddr, number: usize) -> Result<(), Problem> {
        let source = self.sources.get(number % self.sources.len().max(1));
        let id =
            self.line.connect(source.map(|source| (*source, 0).into()), server).map_err(
                |error| match error {
                    ConnectError::TableFull => Problem("the generator's table is full".into()),
                    ConnectError::Io(error) => Problem::of("connect", error),
                },
            )?;
        self.ids.push(id);
        self.numbers[id.index()] = number as u32;
        Ok(())
    }

    fn number(&self, id: ConnectionId) -> usize {
        self.numbers[id.index()] as usize
    }

    /// One turn; returns the whole batch.
    fn poll(&mut self, wait: Duration) -> Result<Vec<Completion>, Problem> {
        self.line.poll(wait, &mut self.batch).map_err(|error| Problem::of("poll", error))?;
        Ok(self.batch.drain().collect())
    }

    /// One turn of a measurement: `handle` gets what arrived.
    pub(super) fn turn(
        &mut self,
        wait: Duration,
        mut handle: impl FnMut(&mut L, &[ConnectionId], Arrival) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.line.poll(wait, &mut self.batch).map_err(|error| Problem::of("poll", error))?;
        let at = Instant::now();
        for completion in self.batch.drain() {
            match completion {
                Completion::Received { connection, buffer } => {
                    let number = self.numbers[connection.index()] as usize;
                    handle(&mut self.line, &self.ids, Arrival { number, at, buffer })?;
                }
                Completion::Sent { .. } | Completion::PeerFinished { .. } => {}
                other => return Err(Problem(format!("while measuring: {other:?}"))),
            }
        }
        Ok(())
    }

    /// Bytes that can be sent again and again.
    pub(super) fn prepare(&mut self, bytes: &[u8]) -> Result<SharedBuffer, Problem> {
        let buffer = self.line.pools().copy(bytes).ok_or_else(|| Problem("no block is free".into()))?;
        Ok(buffer.freeze())
    }

    pub(super) fn send(&mut self, number: usize, bytes: SharedBuffer) -> Result<(), Problem> {
        self.line.send(self.ids[number], bytes).map_err(|error| Problem(format!("send: {error:?}")))
    }

    fn send_bytes(&mut self, number: usize, bytes: &[u8]) -> Result<(), Problem> {
        let bytes = self.prepare(bytes)?;
        self.send(number, bytes)
    }
}

impl Opening {
    /// Takes bytes in; true when a step is complete.
    fn advance(&mut self, bytes: &[u8]) -> Result<bool, Problem> {
        self.got.extend_from_slice(bytes);
        let complete = self.steps.front().map_or(Some(false), |step| step.reply.matches(&self.got));
        match complete {
            None => Ok(false),
            Some(true) => {
                self.steps.pop_front();
                self.got.clear();
                Ok(true)
            }
            Some(false) => Err(Problem(format!(
                "while opening, the server said {:?}",
                String::from_utf8_lossy(&self.got)
            ))),
        }
    }
}
