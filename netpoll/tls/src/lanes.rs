//! Threads that run handshakes, so that no worker signs or allocates for one.
//!
//! ```text
//!   worker ─ Request {connection, bytes, machine} ─► lane ─► thread: Machine::step
//!      ▲                                                         │
//!      └── worker's mailbox ◄─ Answer {connection, step, output} ┘
//! ```
//!
//! A lane is a bounded queue with a thread. A request goes to the lane of its connection or, when
//! that is full, to another; when all are full it comes back, and the worker leaves the connection
//! unread. What a peer is to be sent lies in blocks of the lane's own pools, which return when the
//! peer's socket has taken them. Time limits are the worker's.

use crate::handshake::{Acceptor, HandshakeError, Machine, Step};
use netpoll::{
    Buffer, BufferPools, ConnectionId, Mailbox, MailboxSender, PoolSize, PoolsConfig, SharedBuffer, Waker,
    mailbox,
};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most bytes that one step may have to send: a flight with a long chain of certificates.
const OUTPUT_SIZE_MAX: usize = 64 << 10;
/// Blocks of a lane for what peers are to be sent: most flights fit the small ones.
const OUTPUT_BLOCKS: [PoolSize; 3] = [
    PoolSize { size: 1 << 10, count: 1024 },
    PoolSize { size: 4 << 10, count: 1024 },
    PoolSize { size: OUTPUT_SIZE_MAX as u32, count: 16 },
];

/// Longest wait of an answer for room in a full worker mailbox. Then it is dropped, and the
/// connection's own time limit ends it.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// At most this many answers per thread wait for room in workers' mailboxes. At the bound no
/// further step is taken.
const HELD_MAX: usize = 1024;
/// Interval at which waiting answers are sent again.
const RETRY_EVERY: Duration = Duration::from_micros(200);

/// A step of a handshake, on its way to a lane.
pub struct Request {
    /// The worker that has the connection.
    pub worker: u16,
    /// The connection.
    pub connection: ConnectionId,
    /// Which of the acceptors begins the handshake: one for each listener.
    pub acceptor: u16,
    /// The handshake under way; `None` begins one.
    pub machine: Option<Box<Machine>>,
    /// What has come from the peer: whole records at its front.
    pub bytes: Buffer,
}

/// What a step has led to.
pub struct Answer {
    /// The connection.
    pub connection: ConnectionId,
    /// The request's bytes behind those that the step took, if any. Behind [`Step::Done`] they are
    /// the record layer's.
    pub rest: Option<Buffer>,
    /// What the peer is to be sent first, whatever the step led to.
    pub output: Option<SharedBuffer>,
    /// What the step led to.
    pub step: Step,
}

/// Hands requests to lanes. Cheap to clone; one per worker.
#[derive(Clone)]
pub struct Lanes {
    senders: Arc<[MailboxSender<Request>]>,
}

impl Lanes {
    /// Hands a request over. Never blocks, never allocates.
    ///
    /// # Errors
    /// The request itself when all lanes are full.
    pub fn send(&self, request: Request) -> Result<(), Request> {
        let first = request.connection.index();
        let mut request = request;
        for offset in 0..self.senders.len() {
            let lane = &self.senders[(first + offset) % self.senders.len()];
            match lane.send(request) {
                Ok(()) => return Ok(()),
                Err(back) => request = back,
            }
        }
        Err(request)
    }

    /// Requests that wait, roughly.
    pub fn len(&self) -> usize {
        self.senders.iter().map(MailboxSender::len).sum()
    }

    /// Whether no request waits, just as roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes `count` lanes for `requests_max` requests in all. `acceptors` may be replaced at any time:
/// handshakes under way go on with what they began with.
///
/// # Errors
/// When memory for the pools, or a descriptor, can't be had.
pub fn lanes(
    count: usize,
    requests_max: usize,
    acceptors: &SharedAcceptors,
) -> io::Result<(Lanes, Vec<Lane>)> {
    let count = count.max(1);
    let (mut senders, mut lanes) = (vec![], vec![]);
    for _ in 0..count {
        let waker = Waker::event_fd()?;
        let (sender, requests) = mailbox(requests_max.div_ceil(count).max(1), waker.clone());
        senders.push(sender);
        lanes.push(Lane::new(requests, waker, acceptors.clone())?);
    }
    Ok((Lanes { senders: senders.into() }, lanes))
}

/// The acceptors of all listeners, for all lanes.
#[derive(Clone)]
pub struct SharedAcceptors(Arc<RwLock<Arc<[Acceptor]>>>);

impl SharedAcceptors {
    /// These acceptors, one for each listener.
    pub fn new(acceptors: Vec<Acceptor>) -> SharedAcceptors {
        SharedAcceptors(Arc::new(RwLock::new(acceptors.into())))
    }

    /// Replaces all acceptors at once.
    pub fn replace(&self, acceptors: Vec<Acceptor>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = acceptors.into();
    }

    fn begin(&self, index: u16) -> Option<Box<Machine>> {
        let acceptors = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        acceptors.get(usize::from(index))?.begin().ok()
    }
}

/// One lane: its requests, and the memory of its answers.
pub struct Lane {
    requests: Mailbox<Request>,
    waker: Waker,
    acceptors: SharedAcceptors,
    pools: BufferPools,
    /// What a step writes, before it lies in a block.
    scratch: Vec<u8>,
}

impl Lane {
    fn new(requests: Mailbox<Request>, waker: Waker, acceptors: SharedAcceptors) -> io::Result<Lane> {
        let receive = PoolSize { size: 64, count: 1 };
        let pools = PoolsConfig { receive, blocks: OUTPUT_BLOCKS.to_vec(), huge_pages: false };
        let scratch = Vec::with_capacity(OUTPUT_SIZE_MAX);
        Ok(Lane { requests, waker, acceptors, pools: BufferPools::new(&pools)?, scratch })
    }

    /// Takes the next step that is waiting. Returns the answer and the worker that it is for;
    /// `None` when nothing waits. For a caller with a schedule of its own; threads do the same.
    pub fn next_answer(&mut self) -> Option<(u16, Answer)> {
        let Request { worker, connection, acceptor, machine, mut bytes } = self.requests.pop()?;
        self.scratch.clear();
        let (taken, mut step) = match machine.or_else(|| self.acceptors.begin(acceptor)) {
            Some(machine) => machine.step(bytes.as_slice(), &mut self.scratch),
            None => (0, Step::Failed(HandshakeError::Internal)),
        };
        bytes.advance(taken);
        let rest = Some(bytes).filter(|bytes| !bytes.is_empty());
        let mut output = None;
        if !self.scratch.is_empty() {
            output = self.pools.copy(&self.scratch).map(Buffer::freeze);
            if output.is_none() {
                step = Step::Failed(HandshakeError::Overload);
            }
        }
        Some((worker, Answer { connection, rest, output, step }))
    }

    /// Whether no answer holds any of the lane's memory.
    pub fn is_unused(&mut self) -> bool {
        self.pools.is_full()
    }
}

/// What the threads count.
#[derive(Debug, Default)]
pub struct LaneCounts {
    /// Steps taken.
    pub steps: AtomicU64,
    /// Answers that did not fit into a worker's mailbox in time.
    pub lost: AtomicU64,
}

/// The running threads. Dropping it ends them.
pub struct HandshakeThreads {
    stop: Arc<AtomicBool>,
    counts: Vec<Arc<LaneCounts>>,
    threads: Vec<(JoinHandle<()>, Waker)>,
}

impl HandshakeThreads {
    /// Starts a thread for each lane. Answers go to `workers`, by the worker of the request.
    ///
    /// # Errors
    /// When a thread can't be had.
    pub fn start<M: From<Answer> + Send + 'static>(
        lanes: Vec<Lane>,
        workers: &[MailboxSender<M>],
    ) -> io::Result<HandshakeThreads> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut started = HandshakeThreads { stop, counts: vec![], threads: vec![] };
        for (index, lane) in lanes.into_iter().enumerate() {
            let (waker, counts) = (lane.waker.clone(), Arc::new(LaneCounts::default()));
            let thread = LaneThread {
                lane,
                held: VecDeque::with_capacity(HELD_MAX),
                workers: workers.to_vec(),
                stop: Arc::clone(&started.stop),
                counts: Arc::clone(&counts),
            };
            let thread = netpoll::spawn_thread(format!("handshake-{index}"), move || thread.run())?;
            started.threads.push((thread, waker));
            started.counts.push(counts);
        }
        Ok(started)
    }

    /// What each thread has counted.
    pub fn counts(&self) -> &[Arc<LaneCounts>] {
        &self.counts
    }
}

impl Drop for HandshakeThreads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (thread, waker) in self.threads.drain(..) {
            waker.wake();
            // A panic was reported on stderr already.
            let _ = thread.join();
        }
    }
}

/// An answer that waits because its worker's mailbox is full.
struct Held<M> {
    worker: usize,
    message: M,
    since: Instant,
}

struct LaneThread<M> {
    lane: Lane,
    held: VecDeque<Held<M>>,
    workers: Vec<MailboxSender<M>>,
    stop: Arc<AtomicBool>,
    counts: Arc<LaneCounts>,
}

impl<M: From<Answer>> LaneThread<M> {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            self.hand_over_held();
            while self.held.len() < HELD_MAX
                && !self.stop.load(Ordering::Relaxed)
                && let Some((worker, answer)) = self.lane.next_answer()
            {
                self.counts.steps.fetch_add(1, Ordering::Relaxed);
                self.hand_over(usize::from(worker), answer.into());
            }
            if !self.held.is_empty() {
                std::thread::sleep(RETRY_EVERY);
            } else if self.lane.requests.prepare_sleep() {
                self.lane.waker.wait(Duration::from_secs(1));
                self.lane.requests.finish_sleep();
            }
        }
    }

    fn hand_over(&mut self, worker: usize, message: M) {
        let Some(sender) = self.workers.get(worker) else { return };
        if let Err(message) = sender.send(message) {
            self.held.push_back(Held { worker, message, since: Instant::now() });
        }
    }

    fn hand_over_held(&mut self) {
        for _ in 0..self.held.len() {
            let Some(Held { worker, message, since }) = self.held.pop_front() else { return };
            match self.workers[worker].send(message) {
                Ok(()) => {}
                Err(_) if since.elapsed() > HAND_OVER_MAX => {
                    self.counts.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(message) => self.held.push_back(Held { worker, message, since }),
            }
        }
    }
}
