//! The generator of a dispatch measurement: one message a write, at random times.

use super::{DelayClient, Delays, monotonic_nanos};
use crate::client::{NO_SAMPLES, Problem};
use crate::cpu;
use gateway_proto::auth::AuthRequest;
use gateway_proto::frame::{HEADER_SIZE, Header, Operation};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Payload of a message, in bytes; the stamp is its front.
pub const SIZE: usize = 64;
const FRAME_SIZE: usize = HEADER_SIZE + SIZE;
/// An operation of the application: echoed.
const ECHO: Operation = Operation(200);
/// Messages a second of the first look at what one costs.
const FIRST_RATE: f64 = 20_000.0;
/// Looks at the load, each of this length, before the window.
const LOOKS: usize = 3;
const LOOK: Duration = Duration::from_millis(150);
/// The share of the server's processor that is wanted.
const HALF: f64 = 0.5;
/// A generator that sends less than this share of what was due is late.
const ON_TIME: f64 = 0.98;
/// How long the last answers may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The figures of one window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadFigures {
    /// Half of the delays were at most so many microseconds.
    pub p50_us: f64,
    /// 99 of 100 were.
    pub p99_us: f64,
    /// 999 of 1000 were.
    pub p999_us: f64,
    /// Messages with a counted delay.
    pub samples: u64,
    /// Messages a second.
    pub rate: f64,
    /// Share of its processor that the server used.
    pub server_share: f64,
    /// Half of the peer's writes, which are in the delays, took at most so many microseconds.
    pub write_p50_us: f64,
    /// Share of a processor that other processes used, of the two the larger.
    pub foreign: f64,
    /// The generator did not send what was due.
    pub late: bool,
}

/// The connections, and what is on its way on them.
pub struct Load {
    streams: Vec<TcpStream>,
    /// What each connection has sent last, and whether its answer is outstanding.
    sent: Vec<[u8; FRAME_SIZE]>,
    outstanding: VecDeque<usize>,
    is_busy: Vec<bool>,
    next: usize,
    writes: Histogram<u64>,
    random: u64,
    messages: u64,
}

/// The processes and processors to watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) server: u32,
    /// Processor of the server, and of the generator.
    pub(crate) processors: (usize, usize),
}

/// Processor times at one instant.
struct Times {
    at: Instant,
    server: Duration,
    client: Duration,
    cores: (Duration, Duration),
}

impl Times {
    fn now(watched: Watched) -> Result<Times, Problem> {
        let gone = |error| Problem::of("the server is gone", error);
        let (server_cpu, client_cpu) = watched.processors;
        Ok(Times {
            at: Instant::now(),
            server: cpu::of_process(watched.server).map_err(gone)?,
            client: cpu::of_this_thread(),
            cores: (cpu::busy(server_cpu)?, cpu::busy(client_cpu)?),
        })
    }

    fn seconds_since(&self, before: &Times) -> f64 {
        (self.at - before.at).as_secs_f64()
    }

    fn server_share(&self, before: &Times) -> f64 {
        self.server.saturating_sub(before.server).as_secs_f64() / self.seconds_since(before)
    }

    fn foreign(&self, before: &Times) -> f64 {
        let others = |core: Duration, own: Duration| core.saturating_sub(own).as_secs_f64();
        let server = others(self.cores.0 - before.cores.0, self.server.saturating_sub(before.server));
        let client = others(self.cores.1 - before.cores.1, self.client - before.client);
        server.max(client) / self.seconds_since(before)
    }
}

impl Load {
    /// Connects `count` clients to `port` of this machine, and logs them in.
    ///
    /// # Errors
    /// The system's, or a server that answers otherwise.
    pub fn connect(count: usize, port: u16) -> Result<Load, Problem> {
        let writes = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .map_err(|error| Problem::of("histogram", error))?;
        let mut streams = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
            let mut body = [0; 256];
            let request = AuthRequest { mid: number as i64 + 1, ..AuthRequest::default() };
            let size = request.emit(&mut body).unwrap_or(0);
            let head = Header::new(Operation::AUTH, 1, size as u32).to_bytes();
            stream.write_all(&[&head[..], &body[..size]].concat())?;
            let mut reply = [0; HEADER_SIZE];
            stream.read_exact(&mut reply)?;
            if reply != Header::new(Operation::AUTH_REPLY, 1, 0).to_bytes() {
                return Err(Problem(format!("a login was answered by {reply:02x?}")));
            }
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        let mut frame = [0; FRAME_SIZE];
        frame[..HEADER_SIZE].copy_from_slice(&Header::new(ECHO, 1, SIZE as u32).to_bytes());
        Ok(Load {
            sent: vec![frame; count],
            outstanding: VecDeque::with_capacity(count),
            is_busy: vec![false; count],
            streams,
            next: 0,
            writes,
            random: 0x9e37_79b9_7f4a_7c15,
            messages: 0,
        })
    }

    /// Finds the rate of half load, and measures a window of `length` at it.
    ///
    /// # Errors
    /// An answer that differs from its request; a server that is gone; a window without samples.
    pub(crate) fn measure(
        &mut self,
        length: Duration,
        watched: Watched,
        delays: &mut DelayClient,
    ) -> Result<LoadFigures, Problem> {
        let mut rate = FIRST_RATE;
        for _ in 0..LOOKS {
            let before = Times::now(watched)?;
            self.offer(rate, LOOK)?;
            let share = Times::now(watched)?.server_share(&before);
            rate *= (HALF / share.max(0.01)).clamp(0.25, 4.0);
        }
        let asked = |delays: &mut DelayClient| {
            delays.ask().map_err(|error| Problem::of("the server publishes no delays", error))
        };
        let counted = asked(delays)?;
        self.writes.reset();
        let (begin, before) = (Times::now(watched)?, self.messages);
        let due = self.offer(rate, length)?;
        let end = Times::now(watched)?;
        let sent = self.messages - before;
        let counted: Delays = asked(delays)?.since(&counted);
        let quantile = |share| counted.quantile_us(share).ok_or_else(|| Problem(NO_SAMPLES.into()));
        Ok(LoadFigures {
            p50_us: quantile(0.5)?,
            p99_us: quantile(0.99)?,
            p999_us: quantile(0.999)?,
            samples: counted.count(),
            rate: sent as f64 / end.seconds_since(&begin),
            server_share: end.server_share(&begin),
            write_p50_us: self.writes.value_at_quantile(0.5) as f64 / 1e3,
            foreign: end.foreign(&begin),
            late: (sent as f64) < due * ON_TIME,
        })
    }

    /// Sends messages at `rate` a second for `length`, reads their answers, and waits for the last
    /// ones; returns how many were due.
    fn offer(&mut self, rate: f64, length: Duration) -> Result<f64, Problem> {
        let begin = Instant::now();
        let (mut due, mut count) = (self.gap(rate), 0.0);
        loop {
            let now = begin.elapsed();
            if now >= length {
                break;
            }
            if due <= now {
                count += 1.0;
                due += self.gap(rate);
                self.send()?;
            } else {
                self.read()?;
            }
        }
        let until = Instant::now() + ANSWERS_WITHIN;
        while !self.outstanding.is_empty() {
            self.read()?;
            if Instant::now() > until {
                return Err(Problem(format!("{} messages were not answered", self.outstanding.len())));
            }
        }
        Ok(count)
    }

    /// A random gap with the mean of `rate` (xorshift64*).
    fn gap(&mut self, rate: f64) -> Duration {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        let share = (bits as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-share.ln() / rate)
    }

    /// Sends a message on the next connection that waits for none; none is sent where all wait.
    fn send(&mut self) -> Result<(), Problem> {
        let count = self.streams.len();
        let free = (0..count).map(|step| (self.next + step) % count).find(|number| !self.is_busy[*number]);
        let Some(number) = free else { return Ok(()) };
        self.next = (number + 1) % count;
        let begin = monotonic_nanos();
        self.sent[number][HEADER_SIZE..HEADER_SIZE + 8].copy_from_slice(&begin.to_be_bytes());
        self.streams[number].write_all(&self.sent[number])?;
        self.writes.saturating_record(monotonic_nanos() - begin);
        self.is_busy[number] = true;
        self.outstanding.push_back(number);
        self.messages += 1;
        Ok(())
    }

    /// Reads the answer that has been outstanding longest, if it is there.
    fn read(&mut self) -> Result<(), Problem> {
        let Some(number) = self.outstanding.front().copied() else { return Ok(()) };
        let mut reply = [0; FRAME_SIZE];
        match self.streams[number].read(&mut reply) {
            // What the server writes at once arrives at once on loopback.
            Ok(FRAME_SIZE) if reply == self.sent[number] => {
                self.outstanding.pop_front();
                self.is_busy[number] = false;
                Ok(())
            }
            Ok(count) => Err(Problem(format!(
                "connection {number}: {count} bytes came, {:02x?}, and not the {FRAME_SIZE} that were sent",
                &reply[..count.min(24)]
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
