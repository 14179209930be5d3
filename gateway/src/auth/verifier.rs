//! The threads that check tokens.
//!
//! One bounded lane a thread. A worker chooses a lane by the connection, and the next one when that is full. Pushing
//! into a lane takes no lock and no allocation; a sleeping thread is woken through its event descriptor.

use super::policy::{Bearer, TokenPolicy};
use super::{AuthError, Claims, Verdict};
use crate::address::WorkerId;
use crate::metrics::{Counter, Histogram};
use crate::worker::message::{Message, VerifyRequest};
use gateway_proto::auth::{AuthRequest, SCRATCH_SIZE_MAX};
use netpoll::{BufferPools, Mailbox, MailboxSender, PoolSize, PoolsConfig, Waker, mailbox};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A verdict waits this long for room in a full worker mailbox; then the login runs into its timeout.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// User ids on their way to workers at most, a thread.
const UIDS_MAX: u32 = 4096;

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub struct VerifySender {
    /// At least one.
    lanes: Arc<[MailboxSender<VerifyRequest>]>,
}

impl VerifySender {
    /// Hands a request over. Never blocks, never allocates.
    ///
    /// # Errors
    /// The request itself when all lanes are full: the login is refused as [`AuthError::Overload`].
    pub fn send(&self, request: VerifyRequest) -> Result<(), VerifyRequest> {
        let first = request.address.connection().index();
        let mut request = request;
        for offset in 0..self.lanes.len() {
            match self.lanes[(first + offset) % self.lanes.len()].send(request) {
                Ok(()) => return Ok(()),
                Err(back) => request = back,
            }
        }
        Err(request)
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(MailboxSender::len).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The verifier's end of the queue.
#[derive(Debug)]
pub struct VerifyQueue(Vec<(Mailbox<VerifyRequest>, Waker)>);

impl VerifyQueue {
    /// The work without its threads, for who calls it otherwise.
    ///
    /// # Errors
    /// When memory for the pools can't be had.
    pub fn into_lanes(self, policy: Arc<TokenPolicy>) -> io::Result<Vec<Lane>> {
        let policy = Arc::new(RwLock::new(policy));
        self.0.into_iter().map(|(mailbox, _)| Lane::new(mailbox, Arc::clone(&policy))).collect()
    }
}

/// A queue for `requests_max` requests in `threads` lanes.
///
/// # Errors
/// When no descriptor is free.
pub fn verify_queue(threads: usize, requests_max: usize) -> io::Result<(VerifySender, VerifyQueue)> {
    let threads = threads.max(1);
    let mut senders = Vec::new();
    let mut lanes = Vec::new();
    for _ in 0..threads {
        let waker = Waker::event_fd()?;
        let (sender, lane) = mailbox(requests_max.div_ceil(threads).max(1), waker.clone());
        senders.push(sender);
        lanes.push((lane, waker));
    }
    Ok((VerifySender { lanes: senders.into() }, VerifyQueue(lanes)))
}

/// What a verifier thread counts.
#[derive(Debug, Default)]
pub struct VerifierMetrics {
    /// Logins accepted.
    pub accepted: Counter,
    /// Logins refused, in the order of `AuthError::ALL`.
    pub refused: [Counter; AuthError::ALL.len()],
    /// Verdicts that found no room in a worker's mailbox in time.
    pub lost: Counter,
    /// Time that a check takes.
    pub check_time: Histogram,
}

/// The running threads.
#[derive(Debug)]
pub struct Verifier {
    policy: Arc<RwLock<Arc<TokenPolicy>>>,
    metrics: Vec<Arc<VerifierMetrics>>,
    stop: Arc<AtomicBool>,
    threads: Vec<(JoinHandle<()>, Waker)>,
}

impl Verifier {
    /// Starts a thread for each lane. Verdicts go to `workers`, by the worker of the address.
    ///
    /// # Errors
    /// When memory for the pools, or a thread, can't be had.
    pub fn start(
        queue: VerifyQueue,
        policy: Arc<TokenPolicy>,
        workers: &[MailboxSender<Message>],
    ) -> io::Result<Verifier> {
        let mut verifier = Verifier {
            policy: Arc::new(RwLock::new(policy)),
            metrics: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for (index, (mailbox, waker)) in queue.0.into_iter().enumerate() {
            let lane = Lane::new(mailbox, Arc::clone(&verifier.policy))?;
            let metrics = Arc::clone(&lane.metrics);
            let thread = LaneThread {
                lane,
                waker: waker.clone(),
                workers: workers.to_vec(),
                stop: Arc::clone(&verifier.stop),
            };
            let builder = std::thread::Builder::new().name(format!("verifier-{index}"));
            verifier.threads.push((builder.spawn(move || thread.run())?, waker));
            verifier.metrics.push(metrics);
        }
        Ok(verifier)
    }

    /// Takes new keys; requests from now on are checked with them.
    pub fn set_policy(&self, policy: Arc<TokenPolicy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<TokenPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the threads count.
    pub fn metrics(&self) -> &[Arc<VerifierMetrics>] {
        &self.metrics
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (thread, waker) in self.threads.drain(..) {
            waker.wake();
            // A thread that panicked has said so on stderr already.
            let _ = thread.join();
        }
    }
}

/// What so many verifiers reserve: their lanes, and pools for user ids.
pub(crate) fn reserved_bytes(threads: usize, requests_max: usize) -> usize {
    let threads = threads.max(1);
    let lane = requests_max.div_ceil(threads) * (size_of::<VerifyRequest>() + 8);
    threads * (lane + pools_config().bytes())
}

fn pools_config() -> PoolsConfig {
    let uids = PoolSize { size: gateway_proto::auth::UID_SIZE_MAX as u32, count: UIDS_MAX };
    PoolsConfig { receive: PoolSize { size: 64, count: 1 }, blocks: vec![uids], huge_pages: false }
}

/// One lane: its requests, and what checking them takes.
#[derive(Debug)]
pub struct Lane {
    mailbox: Mailbox<VerifyRequest>,
    policy: Arc<RwLock<Arc<TokenPolicy>>>,
    pools: BufferPools,
    scratch: Vec<u8>,
    metrics: Arc<VerifierMetrics>,
}

impl Lane {
    fn new(mailbox: Mailbox<VerifyRequest>, policy: Arc<RwLock<Arc<TokenPolicy>>>) -> io::Result<Lane> {
        let pools = BufferPools::new(&pools_config())?;
        let metrics = Arc::new(VerifierMetrics::default());
        Ok(Lane { mailbox, policy, pools, scratch: vec![0; SCRATCH_SIZE_MAX], metrics })
    }

    /// Checks the next token that waits: the verdict, and the worker that it is for. `None` when none waits.
    pub fn next_verdict(&mut self) -> Option<(WorkerId, Verdict)> {
        let VerifyRequest { address, sequence, body } = self.mailbox.pop()?;
        let start = Instant::now();
        let result = self.check(body.as_slice());
        self.metrics.check_time.record(start.elapsed().as_nanos() as u64, 1);
        match &result {
            Ok(_) => self.metrics.accepted.add(1),
            Err(error) => self.metrics.refused[*error as usize].add(1),
        }
        Some((address.worker(), Verdict { connection: address.connection(), sequence, body, result }))
    }

    /// Whether no verdict holds any of the lane's memory.
    pub fn is_unused(&mut self) -> bool {
        self.pools.is_full()
    }

    fn check(&mut self, body: &[u8]) -> Result<Claims, AuthError> {
        let policy = Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner));
        let request = AuthRequest::parse(body, &mut self.scratch).map_err(|_| AuthError::Malformed)?;
        let Bearer { mid, uid, expires_at, service } = policy.check_request(&request)?;
        let uid = match uid {
            Some(uid) => Some(self.pools.copy(uid.as_bytes()).ok_or(AuthError::Overload)?.freeze()),
            None => None,
        };
        // Clocks may differ at the end of a session as much as at its beginning.
        let expires_at = expires_at.saturating_add(policy.leeway_s as i64);
        let expires_at = u32::try_from(expires_at).unwrap_or(u32::MAX);
        Ok(Claims { mid, uid, expires_at, service })
    }
}

/// A lane's thread.
struct LaneThread {
    lane: Lane,
    waker: Waker,
    workers: Vec<MailboxSender<Message>>,
    stop: Arc<AtomicBool>,
}

impl LaneThread {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            while let Some((worker, verdict)) = self.lane.next_verdict() {
                self.hand_over(worker.index(), verdict);
            }
            if self.lane.mailbox.prepare_sleep() {
                self.waker.wait(Duration::from_secs(1));
                self.lane.mailbox.finish_sleep();
            }
        }
    }

    fn hand_over(&self, worker: usize, verdict: Verdict) {
        let Some(worker) = self.workers.get(worker) else { return };
        let start = Instant::now();
        let mut message = Message::Verified(verdict);
        while let Err(back) = worker.send(message) {
            if start.elapsed() > HAND_OVER_MAX || self.stop.load(Ordering::Acquire) {
                return self.lane.metrics.lost.add(1);
            }
            message = back;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
