//! Threads that check tokens.
//!
//! One bounded lane a thread ([`gateway_core::message::VerifySender`]).

use super::policy::{Bearer, TokenPolicy, unix_now_ms};
use gateway_core::address::WorkerId;
use gateway_core::message::{
    AuthError, Claims, Message, NextRequest, ROOMS_SIZE_MAX, Verdict, VerifyLane, VerifyQueue, VerifyRequest,
    VerifySender,
};
use gateway_core::metrics::{Counter, Histogram};
use gateway_proto::auth::{AuthRequest, SCRATCH_SIZE_MAX, UID_SIZE_MAX};
use netpoll::{BufferPools, MailboxSender, PoolSize, PoolsConfig, SharedBuffer, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait of a verdict for room in a full worker mailbox. Then it is dropped, and the login
/// times out.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// At most this many verdicts per thread wait for room in workers' mailboxes. At the bound no
/// further token is checked.
const HELD_MAX: usize = 4096;

/// Interval at which waiting verdicts are sent again.
const RETRY_EVERY: Duration = Duration::from_micros(200);

/// At most this many user ids per thread are on their way to workers, and at most this many of them
/// with rooms.
const UIDS_MAX: u32 = 4096;
const ROOMS_MAX: u32 = 256;

/// Makes the lanes of `queue` without their threads, for a caller with a schedule of its own.
///
/// # Errors
/// When memory for the pools can't be had.
pub fn lanes(queue: VerifyQueue, policy: Arc<TokenPolicy>) -> io::Result<Vec<Lane>> {
    let policy = Arc::new(RwLock::new(policy));
    queue.into_lanes().map(|(requests, _)| Lane::new(requests, Arc::clone(&policy))).collect()
}

/// What a verifier thread counts.
#[derive(Debug, Default)]
pub struct VerifierMetrics {
    /// Logins accepted.
    pub accepted: Counter,
    /// Logins refused, in the order of `AuthError::ALL`.
    pub refused: [Counter; AuthError::ALL.len()],
    /// Tokens that were not checked, for their connections had ended.
    pub withdrawn: Counter,
    /// Verdicts that did not fit into a worker's mailbox in time.
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
    /// Starts a thread for each lane, its nice value `nice` above the caller's. Verdicts go to
    /// `workers`, by the worker of the address.
    ///
    /// # Errors
    /// When memory for the pools, or a thread, can't be had.
    pub fn start(
        queue: VerifyQueue,
        policy: Arc<TokenPolicy>,
        workers: &[MailboxSender<Message>],
        nice: u8,
    ) -> io::Result<Verifier> {
        let mut verifier = Verifier {
            policy: Arc::new(RwLock::new(policy)),
            metrics: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for (index, (requests, waker)) in queue.into_lanes().enumerate() {
            let lane = Lane::new(requests, Arc::clone(&verifier.policy))?;
            let metrics = Arc::clone(&lane.metrics);
            let thread = LaneThread {
                lane,
                held: VecDeque::with_capacity(HELD_MAX),
                waker: waker.clone(),
                workers: workers.to_vec(),
                stop: Arc::clone(&verifier.stop),
            };
            let run = move || {
                // Where it is refused, tokens are checked at the workers' priority.
                let _ = netpoll::lower_current_priority(nice);
                thread.run();
            };
            let thread = netpoll::spawn_thread(format!("verifier-{index}"), run)?;
            verifier.threads.push((thread, waker));
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
            // A panic was reported on stderr already.
            let _ = thread.join();
        }
    }
}

/// Memory that this many verifiers reserve: their lanes, and pools for user ids.
pub fn reserved_bytes(threads: usize, requests_max: usize) -> usize {
    let threads = threads.max(1);
    let lane = requests_max.div_ceil(threads) * VerifySender::BYTES_PER_REQUEST;
    threads * (lane + pools_config().bytes())
}

fn pools_config() -> PoolsConfig {
    let uids = PoolSize { size: UID_SIZE_MAX as u32, count: UIDS_MAX };
    let rooms = PoolSize { size: (UID_SIZE_MAX + ROOMS_SIZE_MAX) as u32, count: ROOMS_MAX };
    PoolsConfig { receive: PoolSize { size: 64, count: 1 }, blocks: vec![uids, rooms], huge_pages: false }
}

/// One lane: its requests, and what checking them takes.
#[derive(Debug)]
pub struct Lane {
    requests: VerifyLane,
    policy: Arc<RwLock<Arc<TokenPolicy>>>,
    pools: BufferPools,
    scratch: Vec<u8>,
    metrics: Arc<VerifierMetrics>,
}

impl Lane {
    fn new(requests: VerifyLane, policy: Arc<RwLock<Arc<TokenPolicy>>>) -> io::Result<Lane> {
        let pools = BufferPools::new(&pools_config())?;
        let metrics = Arc::new(VerifierMetrics::default());
        Ok(Lane { requests, policy, pools, scratch: vec![0; SCRATCH_SIZE_MAX], metrics })
    }

    /// Checks the next waiting token at `now_ms`, milliseconds since 1970. Returns the verdict and
    /// the worker that it is for; `None` when no token waits.
    pub fn next_verdict(&mut self, now_ms: u64) -> Option<(WorkerId, Verdict)> {
        let VerifyRequest { address, pending, sequence, body } = self.next_request()?;
        let start = Instant::now();
        let result = self.check(body.as_slice(), now_ms);
        self.metrics.check_time.record(start.elapsed().as_nanos() as u64, 1);
        match &result {
            Ok(_) => self.metrics.accepted.add(1),
            Err(error) => self.metrics.refused[*error as usize].add(1),
        }
        let connection = address.connection();
        Some((address.worker(), Verdict { connection, pending, sequence, body, result }))
    }

    fn next_request(&mut self) -> Option<VerifyRequest> {
        loop {
            match self.requests.pop()? {
                NextRequest::Check(request) => return Some(request),
                NextRequest::Withdrawn(_) => self.metrics.withdrawn.add(1),
            }
        }
    }

    /// Whether no verdict holds any of the lane's memory.
    pub fn is_unused(&mut self) -> bool {
        self.pools.is_full()
    }

    fn check(&mut self, body: &[u8], now_ms: u64) -> Result<Claims, AuthError> {
        let policy = Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner));
        let request = AuthRequest::parse(body, &mut self.scratch).map_err(|_| AuthError::Malformed)?;
        let bearer = policy.check_request(&request, now_ms)?;
        let uid = bearer.uid.as_deref().unwrap_or_default();
        let text = match uid.len() + bearer.rooms.len() {
            0 => None,
            _ => Some(self.keep(&[uid.as_bytes(), bearer.rooms.as_bytes()]).ok_or(AuthError::Overload)?),
        };
        let Bearer { mid, valid_for_ms, issued_at, key_number, service, .. } = bearer;
        let uid_size = uid.len() as u8; // at most 128
        Ok(Claims { mid: mid.unwrap_or(0), text, uid_size, valid_for_ms, issued_at, key_number, service })
    }

    /// A block with these texts; `None` when none is free.
    fn keep(&mut self, texts: &[&[u8]]) -> Option<SharedBuffer> {
        let mut block = self.pools.take(texts.iter().map(|text| text.len()).sum())?;
        for text in texts {
            block.append(text);
        }
        Some(block.freeze())
    }
}

/// A verdict that waits because its worker's mailbox is full.
struct Held {
    worker: usize,
    message: Message,
    since: Instant,
}

/// A lane's thread.
struct LaneThread {
    lane: Lane,
    held: VecDeque<Held>,
    waker: Waker,
    workers: Vec<MailboxSender<Message>>,
    stop: Arc<AtomicBool>,
}

impl LaneThread {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            self.hand_over_held();
            while self.held.len() < HELD_MAX
                && let Some((worker, verdict)) = self.lane.next_verdict(unix_now_ms())
            {
                self.hand_over(worker.index(), verdict);
            }
            if !self.held.is_empty() {
                std::thread::sleep(RETRY_EVERY);
            } else if self.lane.requests.prepare_sleep() {
                self.waker.wait(Duration::from_secs(1));
                self.lane.requests.finish_sleep();
            }
        }
    }

    /// Verdicts for a worker with a full mailbox wait; those for other workers do not wait behind
    /// them.
    fn hand_over(&mut self, worker: usize, verdict: Verdict) {
        let Some(sender) = self.workers.get(worker) else { return };
        if let Err(message) = sender.send(Message::Verified(verdict)) {
            self.held.push_back(Held { worker, message, since: Instant::now() });
        }
    }

    fn hand_over_held(&mut self) {
        for _ in 0..self.held.len() {
            let Some(Held { worker, message, since }) = self.held.pop_front() else { return };
            match self.workers[worker].send(message) {
                Ok(()) => {}
                Err(_) if since.elapsed() > HAND_OVER_MAX => self.lane.metrics.lost.add(1),
                Err(message) => self.held.push_back(Held { worker, message, since }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::hs_policy;
    use gateway_core::address::Address;
    use gateway_core::message::{PendingLogins, verify_queue};
    use gateway_core::sources::Sources;
    use netpoll::{ConnectionId, mailbox};

    /// A worker that takes nothing: its verdicts are dropped in the end, and their address may log
    /// in again.
    #[test]
    fn a_verdict_that_is_given_up_counts_for_its_address_no_longer() {
        let (requests, queue) = verify_queue(1, 16).unwrap();
        let (worker, mailbox) = mailbox(1, Waker::event_fd().unwrap());
        assert!(
            worker.send(Message::Reload(Arc::new(gateway_core::settings::Reloadable::default()))).is_ok(),
            "now it is full"
        );
        let (mailbox_of_lane, waker) = queue.into_lanes().next().unwrap();
        let mut thread = LaneThread {
            lane: Lane::new(mailbox_of_lane, Arc::new(RwLock::new(Arc::new(hs_policy())))).unwrap(),
            held: VecDeque::new(),
            waker,
            workers: vec![worker],
            stop: Arc::default(),
        };
        let sources = Arc::new(Sources::new(16));
        let pending = PendingLogins::new(Arc::clone(&sources));
        let source = sources.source("192.0.2.1".parse().unwrap());
        let mut pools = BufferPools::new(&pools_config()).unwrap();
        for index in 0..3 {
            let address = Address::new(WorkerId(0), ConnectionId::new(index, 1));
            let body = pools.copy(b"{}").unwrap();
            requests
                .send(VerifyRequest { address, pending: pending.begin(source), sequence: 1, body })
                .unwrap();
            let (worker, verdict) = thread.lane.next_verdict(unix_now_ms()).unwrap();
            thread.hand_over(worker.index(), verdict);
        }
        thread.hand_over_held();
        assert_eq!((pending.due(), sources.of(source), thread.held.len()), (3, 3, 3), "not yet");
        for held in thread.held.iter_mut().take(2) {
            held.since = Instant::now().checked_sub(2 * HAND_OVER_MAX).unwrap();
        }
        thread.hand_over_held();
        assert_eq!((pending.due(), sources.of(source), thread.lane.metrics.lost.get()), (1, 1, 2));
        drop(thread);
        assert_eq!((pending.due(), sources.is_empty()), (0, true), "nor does one whose verifier has ended");
        drop(mailbox);
    }
}
