//! One message to very many receivers, over several rings a side: what the bare send to each costs
//! where none of them is in a cache.
//!
//! On loopback the sender's time includes the receiver's wake-up, so these receivers wait as those
//! of `loadtest` do: the rings of a processor take turns on one thread, which sleeps when none has
//! anything.
//!
//! ```text
//!   Crowd ─ message ─► its threads: connection 0 of the first sends it; members receive it
//!         ◄─ done ───
//! ```

use super::echo::difference;
use super::fleet::{Fleet, loopback};
use super::{Problem, Protocol};
use crate::cpu;
use netpoll::{SharedWait, SharesThread, TakesTurns, UringBackend, take_turns};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long a message may make no progress.
const STALL: Duration = Duration::from_secs(20);
/// A server that uses less than this in a [`LOOK`] has nothing to do except polling its rings.
const QUIET: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(200);
/// Connections from one address: a quarter of its ports, because `connect()` searches long when
/// most are taken.
const PORTS_OF_SOURCE: usize = 16_000;
const SOURCES_MIN: usize = 8;

/// The figures of one message to all.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Nanoseconds of the server's CPU per delivery.
    pub server_ns: f64,
    /// From the write to the last delivery.
    pub elapsed: Duration,
}

/// The receivers. The very first connection is the sender, and receives nothing.
///
/// Their threads end with the process: closing very many connections in order takes minutes.
pub struct Crowd {
    threads: Vec<ReceiverThread>,
    receivers: usize,
}

/// A thread of receivers, and the channel on which it reports.
struct ReceiverThread {
    messages: Sender<Arc<[u8]>>,
    done: Receiver<Result<(), Problem>>,
}

/// The receivers of one ring.
struct Member {
    fleet: Fleet<UringBackend>,
    /// Its slot in the ring group.
    slot: usize,
    /// Whether its connection 0 is the sender.
    sends: bool,
    message: Arc<[u8]>,
    /// Bytes of the message that each connection has received.
    offsets: Vec<u32>,
    /// Connections that have not received all of it.
    waiting: usize,
    progress_at: Instant,
    problem: Option<Problem>,
}

impl Crowd {
    /// Connects `count` receivers, and the sender, from `rings` rings to `port` of this machine.
    ///
    /// # Errors
    /// [`Problem`]: the system's errors, or a server that does not accept them all.
    pub fn gather(count: usize, rings: usize, port: u16) -> Result<Crowd, Problem> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut left = count + 1;
        let mut shares = Vec::with_capacity(rings);
        for number in 0..rings {
            shares.push(left.div_ceil(rings - number));
            left -= shares[number];
        }
        let sources = loopback((count / PORTS_OF_SOURCE).max(SOURCES_MIN) as u32);
        let mut threads = Vec::with_capacity(processors);
        for (number, shares) in shares.chunks(rings.div_ceil(processors)).enumerate() {
            let ((messages, inbox), (outbox, done)) = (channel(), channel());
            let opening =
                Opening { shares: shares.to_vec(), port, sources: sources.clone(), sends: number == 0 };
            std::thread::Builder::new()
                .name(format!("receivers-{number}"))
                .spawn(move || work(&opening, &inbox, &outbox))?;
            threads.push(ReceiverThread { messages, done });
        }
        let crowd = Crowd { threads, receivers: count };
        crowd.wait()?;
        Ok(crowd)
    }

    /// Checks all connections once more: nothing may have arrived since the last message.
    ///
    /// # Errors
    /// [`Problem`]: a delivery too many.
    pub fn finish(&mut self) -> Result<(), Problem> {
        self.publish(&Arc::default())
    }

    /// Passes a message to all threads, and waits until they have received it.
    fn publish(&self, message: &Arc<[u8]>) -> Result<(), Problem> {
        for thread in &self.threads {
            // The wait reports a thread that has ended.
            let _ = thread.messages.send(Arc::clone(message));
        }
        self.wait()
    }

    /// Waits until all threads have reported.
    fn wait(&self) -> Result<(), Problem> {
        let gone = |_| Problem("a thread of receivers has ended; what it says is above".into());
        self.threads.iter().try_for_each(|thread| thread.done.recv().map_err(gone)?)
    }

    /// Waits until `server`, a process, has accepted all: the client's side is connected before
    /// that, because the kernel answers.
    ///
    /// # Errors
    /// [`Problem`]: the server stays busy.
    pub fn wait_until_accepted(&self, server: u32) -> Result<(), Problem> {
        let until = Instant::now() + STALL;
        let mut before = cpu::of_process(server)?;
        while Instant::now() < until {
            std::thread::sleep(LOOK);
            let now = cpu::of_process(server)?;
            if now.saturating_sub(before) < QUIET {
                return Ok(());
            }
            before = now;
        }
        Err(Problem("the server does not come to rest".into()))
    }

    /// Sends a message of `size` bytes, at least 8, and waits until all have it; `server` is the
    /// process to measure.
    ///
    /// # Errors
    /// [`Problem`], for example a delivery that is lost, doubled or wrong.
    pub fn broadcast(&mut self, round: u64, size: usize, server: u32) -> Result<Round, Problem> {
        let mut payload: Vec<u8> = (0..size.max(8)).map(|at| at as u8).collect();
        payload[..8].copy_from_slice(&round.to_be_bytes());
        let message: Arc<[u8]> = payload.into();
        let before = cpu::of_process(server)?;
        let sent_at = Instant::now();
        self.publish(&message)?;
        let used = cpu::of_process(server)?.saturating_sub(before);
        Ok(Round {
            server_ns: used.as_nanos() as f64 / self.receivers.max(1) as f64,
            elapsed: sent_at.elapsed(),
        })
    }
}

/// The connections that a thread opens.
struct Opening {
    /// Connections of each ring.
    shares: Vec<usize>,
    port: u16,
    sources: Vec<Ipv4Addr>,
    /// Whether the sender is one of them.
    sends: bool,
}

/// A receiver thread: opens its share, then takes part in each message.
fn work(opening: &Opening, messages: &Receiver<Arc<[u8]>>, done: &Sender<Result<(), Problem>>) {
    let (shared, mut members) = match assemble(opening) {
        Ok(assembled) => assembled,
        Err(problem) => return drop(done.send(Err(problem))),
    };
    let _ = done.send(Ok(()));
    for message in messages {
        members.iter_mut().for_each(|member| member.begin(&message));
        let mut ended = Vec::with_capacity(members.len());
        take_turns(&shared, members, |member| ended.push(member));
        ended.sort_by_key(|member| member.slot); // a place in the list is a slot
        members = ended;
        let problem = members.iter_mut().find_map(|member| member.problem.take());
        if done.send(problem.map_or(Ok(()), Err)).is_err() {
            return;
        }
    }
}

fn assemble(opening: &Opening) -> Result<(SharedWait, Vec<Member>), Problem> {
    let shared = SharedWait::new()?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, opening.port));
    let mut members = Vec::with_capacity(opening.shares.len());
    for (slot, share) in opening.shares.iter().enumerate() {
        let mut fleet = Fleet::over_uring(*share)?;
        fleet.come_from(opening.sources.clone());
        fleet.join_wait(shared.slot(slot))?;
        fleet.open(server, Protocol::Raw, *share, false)?;
        members.push(Member {
            fleet,
            slot,
            sends: opening.sends && slot == 0,
            message: Arc::default(),
            offsets: vec![0; *share],
            waiting: 0,
            progress_at: Instant::now(),
            problem: None,
        });
    }
    Ok((shared, members))
}

impl Member {
    fn begin(&mut self, message: &Arc<[u8]>) {
        self.message = Arc::clone(message);
        self.progress_at = Instant::now();
        if message.is_empty() {
            self.waiting = 0; // a last look: what comes now is one too many
            return;
        }
        self.offsets.fill(0);
        self.waiting = self.offsets.len() - usize::from(self.sends);
        if self.sends {
            let sent = self.fleet.prepare(message).and_then(|bytes| self.fleet.send(0, bytes));
            self.problem = sent.err();
        }
    }

    /// Whether there is something to wait for; a problem ends the wait.
    fn goes_on(&mut self, turned: Result<(), Problem>) -> bool {
        self.problem = self.problem.take().or(turned.err());
        self.problem.is_none() && self.waiting > 0
    }

    fn receive(&mut self) -> Result<(), Problem> {
        let before = self.waiting;
        let (message, offsets, waiting) = (&self.message, &mut self.offsets, &mut self.waiting);
        self.fleet.turn(Duration::ZERO, |_, _, arrival| {
            let is_sender = self.sends && arrival.number == 0;
            let expected = if is_sender { &[][..] } else { &message[..] };
            let taken = take(expected, &mut offsets[arrival.number], arrival.buffer.as_slice());
            let wrong = |what| Problem(format!("connection {}, {what}", arrival.number));
            *waiting -= usize::from(taken.map_err(wrong)?);
            Ok(())
        })?;
        if self.waiting < before {
            self.progress_at = Instant::now();
        } else if self.progress_at.elapsed() > STALL {
            return Err(Problem(format!(
                "{before} of a ring's {} wait for the message in vain",
                self.offsets.len()
            )));
        }
        Ok(())
    }
}

impl TakesTurns for Member {
    type Backend = UringBackend;

    fn backend(&mut self) -> &mut UringBackend {
        &mut self.fleet.line
    }

    fn turn(&mut self) -> bool {
        let turned = self.receive();
        self.goes_on(turned)
    }

    fn begin_wait(&mut self) -> Option<Duration> {
        let flushed = self.fleet.line.flush_before_wait(Duration::from_secs(1));
        let wait = flushed.as_ref().map_or(Duration::ZERO, |wait| *wait);
        self.goes_on(flushed.map(drop).map_err(Problem::from)).then_some(wait)
    }
}

/// Compares received bytes with the expected ones; true when they are complete.
fn take(expected: &[u8], offset: &mut u32, bytes: &[u8]) -> Result<bool, String> {
    let begin = *offset as usize;
    let end = begin + bytes.len();
    if expected.get(begin..end) != Some(bytes) {
        let rest = &expected[begin.min(expected.len())..];
        return Err(format!("byte {begin}: {}", difference(rest, bytes)));
    }
    *offset = end as u32;
    Ok(end == expected.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_whole_in_parts_wrong_or_one_too_many() {
        let mut offset = 0;
        assert_eq!(take(b"message", &mut offset, b"mess"), Ok(false));
        assert_eq!(take(b"message", &mut offset, b"age"), Ok(true));
        assert!(take(b"message", &mut offset, b"message").is_err());
        assert!(take(b"message", &mut 0, b"messagE").is_err());
        assert!(take(b"message", &mut 0, b"messagemessage").is_err());
        assert!(take(b"", &mut 0, b"m").is_err(), "the sender gets nothing");
    }
}
