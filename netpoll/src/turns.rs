//! Several owners of backends on one thread.
//!
//! A ring holds at most as many connections as RLIMIT_NOFILE has descriptors, so a million of them
//! take fifty rings, on however few processors. With a thread each, everything that concerns two
//! rings would wake a thread. Here the rings of a processor take turns on one thread, which sleeps
//! once for all:
//!
//! ```text
//!   pass: for each member: woken, due, or its ring is ready? ─ yes ─► turn
//!                          turned in the last pass?          ─ yes ─► begin_wait: submit
//!   a pass in which no member did anything ─► sleep until a ring, mailbox or time wakes one
//! ```
//!
//! A member turns at most once per pass, and a turn is bounded, so no member starves. What a turn
//! has queued is submitted when the member begins its wait, one pass later, or by its next turn if
//! there is one first: messages of other members of the thread that arrive meanwhile go out with
//! the same system call.
//!
//! A message from one member to another of the thread costs no system call, and neither does one
//! from elsewhere while the thread is awake ([`SharedWait`]).

use crate::{MonotonicClock, SharedWait, SharesThread, Timestamp};
use std::time::Duration;

/// The longest sleep, whatever the members say.
const WAIT: Duration = Duration::from_secs(1);

/// A moment after the end of any process.
const NEVER: Timestamp = Timestamp::from_nanos(u64::MAX);

/// An owner of a backend that shares its thread with other owners.
pub trait TakesTurns {
    /// The backend, which has joined the shared wait.
    type Backend: SharesThread;

    /// The backend.
    fn backend(&mut self) -> &mut Self::Backend;

    /// Does what there is to do, and polls without waiting. False when the member has ended.
    fn turn(&mut self) -> bool;

    /// Submits what turns have queued ([`SharesThread::flush_before_wait`]) and returns for how
    /// long nothing is due; `None` when the member has ended.
    fn begin_wait(&mut self) -> Option<Duration>;
}

struct Place<M> {
    member: M,
    /// When the member turns, whatever happens; never before it has begun its wait.
    due: Timestamp,
    /// The member has turned and has not begun its wait since.
    has_turned: bool,
}

impl<M: TakesTurns> Place<M> {
    fn turn(&mut self) -> bool {
        self.has_turned = true;
        self.due = NEVER;
        self.member.turn()
    }

    fn begin_wait(&mut self, now: Timestamp) -> bool {
        self.has_turned = false;
        let wait = self.member.begin_wait();
        self.due = now + wait.unwrap_or_default();
        wait.is_some()
    }
}

/// Runs `members`, whose wait slots are their places in the list, until all have ended. Each is
/// passed to `ended` when it has, while the others go on.
pub fn take_turns<M: TakesTurns>(shared: &SharedWait, members: Vec<M>, mut ended: impl FnMut(M)) {
    let place = |member| Some(Place { member, due: Timestamp::ZERO, has_turned: false });
    let mut places: Vec<_> = members.into_iter().map(place).collect();
    let clock = MonotonicClock::start();
    while places.iter().any(Option::is_some) {
        if !pass(shared, &mut places, clock.now(), &mut ended) {
            sleep(shared, &mut places, &clock);
        }
    }
}

/// Gives each member what it has to do; false when none had anything.
fn pass<M: TakesTurns>(
    shared: &SharedWait,
    places: &mut [Option<Place<M>>],
    now: Timestamp,
    ended: &mut impl FnMut(M),
) -> bool {
    let mut busy = false;
    for (slot, place) in places.iter_mut().enumerate() {
        let woken = shared.take_woken(slot);
        let Some(member) = place else { continue };
        let goes_on = match () {
            () if woken || member.due <= now || member.member.backend().is_ready() => member.turn(),
            () if member.has_turned => member.begin_wait(now),
            () => continue,
        };
        busy = true;
        if !goes_on && let Some(place) = place.take() {
            ended(place.member);
        }
    }
    busy
}

fn sleep<M: TakesTurns>(shared: &SharedWait, places: &mut [Option<Place<M>>], clock: &MonotonicClock) {
    let mut due = clock.now() + WAIT;
    for place in places.iter_mut().flatten() {
        due = due.min(place.due);
        place.member.backend().watch(true);
    }
    let is_busy = || places.iter_mut().flatten().any(|place| place.member.backend().is_ready());
    let slept = shared.sleep(due.since(clock.now()), is_busy);
    // Waiting on one's own descriptor can't fail; if it did, the thread would go on without
    // sleeping.
    debug_assert!(slept.is_ok(), "{slept:?}");
    places.iter_mut().flatten().for_each(|place| place.member.backend().watch(false));
}
