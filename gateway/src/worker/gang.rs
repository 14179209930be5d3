//! Several workers on one thread.
//!
//! A ring holds as many connections as RLIMIT_NOFILE has descriptors, so a million of them take fifty rings, on however few
//! processors. With a thread each, every hop of a message between two workers would wake a thread. Here the workers of a
//! processor take turns on one, and it sleeps once for all:
//!
//! ```text
//!   pass: for each worker: woken, due, or has its ring something? ─ yes ─► turn
//!                          turned in the last pass?               ─ yes ─► settle: submit, say when it is due
//!   a pass in which nobody did anything ─► sleep until a ring or a mailbox has something, or the next is due
//! ```
//!
//! Each worker turns once a pass at most, and a turn is bounded, so nobody starves. What a turn has queued is submitted when
//! the worker settles, one pass later, or by its next turn if there is one first: what others of the thread have to say
//! to it meanwhile goes out with the same system call.
//!
//! A message from one worker to another on the same thread costs no system call, and neither does one from elsewhere while
//! the thread is awake ([`Gang`]). A worker that nothing happens to turns when it is due, four times a second.

use super::Worker;
use super::threads::{Employed, Plan, Seat};
use crate::alloc_guard::thread_allocations;
use netpoll::{Backend, Gang, MonotonicClock, SharesThread, Timestamp};
use std::io;
use std::time::Duration;

/// What a worker that has nothing to do would wait at most.
const WAIT: Duration = Duration::from_secs(1);

/// Longer than any process lives.
const NEVER: Timestamp = Timestamp::from_nanos(u64::MAX);

struct Member<B: Backend> {
    employed: Employed<B>,
    /// When it turns, whatever happens; never before it has settled.
    due: Timestamp,
    /// It has turned and not settled since.
    unsettled: bool,
}

impl<B: SharesThread> Worker<B> {
    /// Ends a time of turns: submits what they queued, declares to the mailbox that the worker sleeps, and returns for how
    /// long it would.
    fn rest(&mut self, wait: Duration) -> io::Result<Duration> {
        let before = thread_allocations();
        let wait = self.doze(wait);
        let settled = self.backend.settle(wait);
        self.allocations += thread_allocations() - before;
        settled
    }
}

impl<B: SharesThread> Member<B> {
    fn turn(&mut self) -> bool {
        self.unsettled = true;
        self.due = NEVER;
        let turned = self.employed.worker.turn(Duration::ZERO);
        self.employed.goes_on(turned)
    }

    fn settle(&mut self, now: Timestamp) -> bool {
        self.unsettled = false;
        match self.employed.worker.rest(WAIT) {
            Ok(wait) => {
                self.due = now + wait;
                true
            }
            Err(error) => self.employed.goes_on(Err(error)),
        }
    }

    fn backend(&mut self) -> &mut B {
        self.employed.worker.backend()
    }
}

/// Makes the backends of `seats` on this thread and runs their workers until all have ended.
pub(super) fn run<B: SharesThread>(
    plan: &Plan,
    seats: Vec<Seat>,
    make: impl Fn() -> io::Result<B>,
    describe: impl Fn(&B) -> String,
) {
    let gang = match Gang::new() {
        Ok(gang) => gang,
        Err(error) => {
            seats.first().and_then(|seat| seat.show(Err(error), &describe));
            return;
        }
    };
    let mut backends = Vec::with_capacity(seats.len());
    for (number, seat) in seats.iter().enumerate() {
        let backend = make().and_then(|mut backend| {
            backend.take_seat(gang.seat(number))?;
            Ok(backend)
        });
        let Some(backend) = seat.show(backend, &describe) else { return };
        backends.push(backend);
    }
    let mut members = Vec::with_capacity(seats.len());
    for (seat, backend) in seats.into_iter().zip(backends) {
        let Some(employed) = seat.employ(plan, backend) else { return };
        members.push(Some(Member { employed, due: Timestamp::ZERO, unsettled: false }));
    }
    let clock = MonotonicClock::start();
    while members.iter().any(Option::is_some) {
        if !pass(&gang, &mut members, clock.now()) {
            sleep(&gang, &mut members, &clock);
        }
    }
}

/// Lets each worker do what it has to; false when none had anything.
fn pass<B: SharesThread>(gang: &Gang, members: &mut [Option<Member<B>>], now: Timestamp) -> bool {
    let mut busy = false;
    for (number, place) in members.iter_mut().enumerate() {
        let woken = gang.take_woken(number);
        let Some(member) = place else { continue };
        let goes_on = match () {
            () if woken || member.due <= now || member.backend().is_ready() => member.turn(),
            () if member.unsettled => member.settle(now),
            () => continue,
        };
        busy = true;
        if !goes_on {
            *place = None;
        }
    }
    busy
}

fn sleep<B: SharesThread>(gang: &Gang, members: &mut [Option<Member<B>>], clock: &MonotonicClock) {
    let mut due = clock.now() + WAIT;
    for member in members.iter_mut().flatten() {
        due = due.min(member.due);
        member.backend().watch(true);
    }
    let is_busy = || members.iter_mut().flatten().any(|member| member.backend().is_ready());
    let slept = gang.sleep(due.since(clock.now()), is_busy);
    // One's own descriptor can't fail; if it did, the thread would go on without sleeping.
    debug_assert!(slept.is_ok(), "{slept:?}");
    members.iter_mut().flatten().for_each(|member| member.backend().watch(false));
}
