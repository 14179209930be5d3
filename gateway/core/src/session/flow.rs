//! The rate limit of one connection: its debt beyond what time has paid for, and the consequences.
//!
//! ```text
//!   a receive ─► + its bytes  ┐ debt ≤ burst ──────────────► handled
//!   a frame   ─► + its cost   ┘ debt > burst ──────────────► handled, and the socket is left unread until it no longer is
//!                                  │  for refuse_after ────► requests beyond the rate: Error 429
//!                                  └─ for close_after ─────► closed with 3004
//!   each sixteenth of a second: − a sixteenth of the rate
//! ```
//!
//! What counts for the last two steps is the time above the burst, less the time below it since: a
//! client that keeps to its rate is above only for moments, however near the burst it stays. A step
//! is left when nothing of that time remains, or when half of the burst is free. A debt is paid in
//! whole ticks, so up to a tick's payment beyond the burst is not above it.
//!
//! The token buckets are kept as debts, so that an idle connection's are zero and need no refill.
//! They are integers that time pays off in whole ticks of the clock that the session has anyway
//! (`heard_at`), so nothing is lost to rounding. What is received is charged and handled even
//! beyond the burst: it has been taken from the socket, and the sender pays by the length of the
//! stop.
//!
//! Bounds: a debt saturates at 2^32 units. All times are ticks of an [`CoarseInstant`].

mod allowance;

pub use allowance::Allowance;

use super::CoarseInstant;
use super::unread::Unread;
use crate::settings::RateLimits;
use gateway_proto::frame::Operation;

/// Units of debt that one message is: time pays by the sixteenth of a second.
const UNITS: u32 = CoarseInstant::PER_SECOND;

/// Members of a room for each message that a message to it counts as besides itself.
pub const MEMBERS_PER_MESSAGE: u32 = 64;
/// What a faulty request costs besides itself: its answer is several times as large.
pub const FAULT_COST: u32 = 8;

/// As how many messages a frame counts: as often as its work for others is larger than a
/// heartbeat's.
#[inline]
pub const fn cost(operation: Operation) -> u32 {
    match operation {
        Operation::CHANGE_ROOM
        | Operation::JOIN
        | Operation::LEAVE
        | Operation::SUBSCRIBE
        | Operation::UNSUBSCRIBE => 4,
        _ => 1,
    }
}

/// Treatment of a connection's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// They are handled.
    Within,
    /// They are handled, and then the socket is left unread for a while.
    Slowed,
    /// They are refused.
    Refused,
    /// The connection is closed.
    Closed,
}

/// The rate of one connection. See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Debt in units of messages.
    messages: u32,
    /// Debt in bytes.
    bytes: u32,
    /// Ticks for which the debt has exceeded the burst, less those for which it has not since;
    /// while `over`.
    above: u16,
    /// Buffers of the connection that wait for a later turn; the worker's backlog has them.
    waiting: u16,
    /// Faulty requests that have not been forgotten; before the login frames that are no login.
    faults: u8,
    /// Connections that share the user's rate with this one, itself included; 0: none that is
    /// known.
    sharers: u8,
    /// What follows from a debt that has exceeded the burst and has not been forgotten.
    excess: Excess,
    /// Why the socket is left unread.
    unread: Unread,
}

/// What a debt beyond the burst has led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Excess {
    /// Nothing: there was none, or it is forgotten.
    #[default]
    None,
    /// The time above the burst counts.
    Counted,
    /// The client has received a refusal since then; before that the connection is not closed.
    Refused,
}

const _: () = assert!(size_of::<Flow>() == 16, "a session has one");

impl Flow {
    /// What this connection may do; `lone` is the allowance of one that shares with none, made
    /// once.
    #[inline]
    pub fn allowance(&self, limits: &RateLimits, lone: &Allowance) -> Allowance {
        if self.sharers <= 1 { *lone } else { Allowance::new(limits, self.sharers) }
    }

    /// Connections of the user, as far as they are known; 0: none but this one.
    pub fn sharers(&self) -> u8 {
        self.sharers
    }

    /// The user has so many connections now.
    pub fn set_sharers(&mut self, sharers: u8) {
        self.sharers = sharers;
    }

    /// Time has passed from `then` to `now`: it pays for messages and bytes, and a second lets one
    /// fault be forgotten.
    pub fn pay(&mut self, then: CoarseInstant, now: CoarseInstant, allowance: &Allowance) {
        let ticks = now.ticks_since(then);
        if ticks == 0 {
            return;
        }
        // A stop may end late; that is no time in which the client has held back.
        let above = match () {
            () if !self.is_over() => 0,
            () if self.is_stopped() => ticks,
            () => self.ticks_to_burst(allowance).min(ticks),
        };
        self.messages = self.messages.saturating_sub(allowance.messages_per_tick.saturating_mul(ticks));
        self.bytes = self.bytes.saturating_sub(allowance.bytes_per_tick.saturating_mul(ticks));
        let seconds = now.seconds_since(then);
        self.faults = self.faults.saturating_sub(u8::try_from(seconds).unwrap_or(u8::MAX));
        if self.is_over() {
            let spent = u32::from(self.above).saturating_add(above).saturating_sub(ticks - above);
            self.above = u16::try_from(spent).unwrap_or(u16::MAX);
            let half =
                self.messages <= allowance.messages_burst / 2 && self.bytes <= allowance.bytes_burst / 2;
            if half || (self.above == 0 && !self.exceeds(allowance)) {
                (self.excess, self.above) = (Excess::None, 0);
            }
        }
    }

    /// Bytes were received.
    #[inline]
    pub fn charge_bytes(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_add(count as u32);
    }

    /// Bytes that were charged will be received once more.
    pub fn return_bytes(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_sub(count as u32);
    }

    /// Something was asked for that counts as `messages`.
    #[inline]
    pub fn charge(&mut self, messages: u32) {
        self.messages = self.messages.saturating_add(messages.saturating_mul(UNITS));
    }

    /// What a message to a room of `members` costs besides itself, by at most half a burst.
    fn room_cost(members: u32, allowance: &Allowance) -> u32 {
        (members / MEMBERS_PER_MESSAGE).min(allowance.messages_burst / 2 / UNITS)
    }

    /// A message to a room of `members` is charged for its deliveries; returns as how many
    /// messages. `None` when the debt is twice the burst already: then it is not to be made on
    /// credit.
    pub fn charge_room(&mut self, members: u32, allowance: &Allowance) -> Option<u32> {
        let cost = Self::room_cost(members, allowance);
        if cost > 0 && self.messages > allowance.messages_burst.saturating_mul(2) {
            return None;
        }
        self.charge(cost);
        Some(cost)
    }

    /// The room that `charged` messages were charged for has so many members.
    pub fn settle_room(&mut self, charged: u32, members: u32, allowance: &Allowance) {
        self.messages = self.messages.saturating_sub(charged.saturating_mul(UNITS));
        self.charge(Self::room_cost(members, allowance));
    }

    /// A faulty request, or before the login a frame that is none; false when more than `max` are
    /// remembered.
    pub fn fault(&mut self, max: u8) -> bool {
        self.charge(FAULT_COST);
        self.faults = self.faults.saturating_add(1);
        max == 0 || self.faults <= max
    }

    /// The login succeeded: what came before it is forgiven.
    pub fn logged_in(&mut self) {
        self.faults = 0;
    }

    /// Whether the debt exceeds the burst.
    #[inline]
    pub fn exceeds(&self, allowance: &Allowance) -> bool {
        self.ticks_to_burst(allowance) > 0
    }

    /// Whether the debt has exceeded the burst, and what follows from that has not been forgotten.
    /// While it is false every request is handled.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.excess != Excess::None
    }

    /// Notes that the debt exceeds the burst: the time above it counts from here on.
    pub fn note_excess(&mut self) {
        if self.excess == Excess::None {
            self.excess = Excess::Counted;
        }
    }

    /// What becomes of requests, when time has paid up to now.
    pub fn stage(&self, allowance: &Allowance, limits: &RateLimits) -> Stage {
        let for_long = |after: u32| after > 0 && u32::from(self.above) >= after;
        match () {
            () if !self.is_over() || !self.exceeds(allowance) => Stage::Within,
            () if for_long(limits.close_after_ticks) && self.excess == Excess::Refused => Stage::Closed,
            () if for_long(limits.refuse_after_ticks) => Stage::Refused,
            () => Stage::Slowed,
        }
    }

    /// Notes that a refusal is sent to the client; true when it is the first. However long the stop
    /// before it was, the client has the time from the first refusal on to slow down.
    pub fn note_refusal(&mut self, limits: &RateLimits) -> bool {
        let is_first = std::mem::replace(&mut self.excess, Excess::Refused) != Excess::Refused;
        if is_first {
            self.above = u16::try_from(limits.refuse_after_ticks).unwrap_or(u16::MAX).min(self.above);
        }
        is_first
    }

    /// Ticks until time has paid the debt down to the burst; 0: it is not above by more than a tick
    /// pays.
    pub fn ticks_to_burst(&self, allowance: &Allowance) -> u32 {
        let wait = |debt: u32, burst: u32, per_tick: u32| {
            debt.saturating_sub(burst).div_ceil(per_tick).saturating_sub(1)
        };
        let messages = wait(self.messages, allowance.messages_burst, allowance.messages_per_tick);
        messages.max(wait(self.bytes, allowance.bytes_burst, allowance.bytes_per_tick))
    }

    /// Whether the socket is left unread, for whatever reason.
    #[inline]
    pub fn is_unread(&self) -> bool {
        self.unread.has(!Unread::FINISHED)
    }

    /// Whether the socket is left unread for what has to wait.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.unread.has(Unread::HELD)
    }

    /// Notes that the socket is left unread for what has to wait, or no longer; false when that is
    /// nothing new.
    pub fn set_held(&mut self, held: bool) -> bool {
        self.unread.set(Unread::HELD, held)
    }

    /// Whether the socket is left unread until the client has read more of its answers.
    #[inline]
    pub fn awaits_uptake(&self) -> bool {
        self.unread.has(Unread::UPTAKE)
    }

    /// Notes that the socket is left unread until the client has read more of its answers, or no
    /// longer; false when that is nothing new.
    pub fn set_awaits_uptake(&mut self, awaits: bool) -> bool {
        self.unread.set(Unread::UPTAKE, awaits)
    }

    /// Whether the socket is left unread for the rate.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.unread.has(Unread::STOPPED)
    }

    /// Notes that the socket is left unread for the rate from now on, or no longer; false when that
    /// is nothing new.
    pub fn set_stopped(&mut self, stopped: bool) -> bool {
        self.unread.set(Unread::STOPPED, stopped)
    }

    /// Whether some of what was received waits for a later turn.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.unread.has(Unread::BEHIND)
    }

    /// Notes that some of what was received waits for a later turn, or no longer.
    pub fn set_behind(&mut self, behind: bool) {
        self.unread.set(Unread::BEHIND, behind);
    }

    /// Buffers of the connection that wait for a later turn. It stays behind while the last of
    /// them is handled.
    #[inline]
    pub fn waiting(&self) -> u16 {
        self.waiting
    }

    /// One more buffer waits. What is received before the socket is left unread bounds their
    /// number, at most the 2^15 buffers of a ring.
    pub fn begin_wait(&mut self) {
        debug_assert!(self.waiting < u16::MAX);
        self.waiting = self.waiting.saturating_add(1);
    }

    /// One that waited is handled.
    pub fn end_wait(&mut self) {
        debug_assert!(self.waiting > 0);
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Whether the peer has ended its side.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.unread.has(Unread::FINISHED)
    }

    /// Notes that the peer has ended its side.
    pub fn finish(&mut self) {
        self.unread.set(Unread::FINISHED, true);
    }

    /// Whether the peer has ended its side, and answers that others make are due.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.unread.has(Unread::DUE)
    }

    /// Notes that answers which others make are due to a peer that has ended its side, or no
    /// longer.
    pub fn set_due(&mut self, due: bool) {
        self.unread.set(Unread::DUE, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::Timestamp;

    fn limits() -> RateLimits {
        RateLimits {
            messages_per_second: 100,
            messages_burst: 200,
            bytes_per_second: 16_000,
            bytes_burst: 32_000,
            user_messages_per_second: 150,
            user_bytes_per_second: 0,
            ..RateLimits::default()
        }
    }

    fn at(millis: u64) -> CoarseInstant {
        CoarseInstant::of(Timestamp::from_nanos(millis * 1_000_000))
    }

    /// What became of messages, and when the connection was closed.
    #[derive(Debug, Default)]
    struct Offered {
        handled: u32,
        refused: u32,
        first_refusal: Option<u64>,
        closed: Option<u64>,
    }

    /// Sends `sends(millis)` messages every millisecond for `duration`, as a worker takes them: one
    /// at a time while the socket is read, which has room for 300.
    fn offer(limits: &RateLimits, duration: u64, sends: impl Fn(u64) -> u32) -> Offered {
        let (mut flow, allowance) = (Flow::default(), Allowance::new(limits, 1));
        let (mut then, mut waiting, mut offered) = (at(0), 0, Offered::default());
        for millis in 0..duration {
            let now = at(millis);
            waiting = (waiting + sends(millis)).min(300);
            if flow.is_stopped() && now.ticks_since(then) < flow.ticks_to_burst(&allowance) || waiting == 0 {
                continue;
            }
            flow.pay(then, now, &allowance);
            flow.set_stopped(false);
            then = now;
            for _ in 0..std::mem::take(&mut waiting) {
                flow.charge(1);
                match flow.stage(&allowance, limits) {
                    Stage::Within | Stage::Slowed => offered.handled += 1,
                    Stage::Refused => {
                        flow.note_refusal(limits);
                        offered.refused += 1;
                        offered.first_refusal.get_or_insert(millis);
                    }
                    Stage::Closed => {
                        offered.closed = Some(millis);
                        return offered;
                    }
                }
            }
            if flow.exceeds(&allowance) {
                flow.note_excess();
                flow.set_stopped(true);
            }
        }
        offered
    }

    #[test]
    fn over_time_exactly_the_rate_passes_however_much_is_offered() {
        let limits = RateLimits { refuse_after_ticks: 0, close_after_ticks: 0, ..limits() };
        for per_step in [1, 7, 160] {
            let offered = offer(&limits, 60_000, |millis| if millis % 5 == 0 { per_step } else { 0 });
            // What was taken from the socket is handled, and the burst besides.
            let bounds = 60 * 100..=60 * 100 + 200 + 7 + 300;
            assert!(bounds.contains(&offered.handled), "{per_step} at a time: {offered:?}");
            assert_eq!((offered.refused, offered.closed), (0, None));
        }
    }

    #[test]
    fn a_rate_below_one_a_tick_is_kept_too() {
        let off = RateLimits { refuse_after_ticks: 0, close_after_ticks: 0, ..limits() };
        let limits = RateLimits { messages_per_second: 1, messages_burst: 1, ..off };
        let offered = offer(&limits, 100_000, |millis| u32::from(millis % 900 == 0));
        assert!((100..=105).contains(&offered.handled), "{offered:?}");
    }

    #[test]
    fn a_client_that_keeps_to_its_rate_is_never_refused_however_near_the_burst_it_stays() {
        let limits = limits();
        for (step, per_step) in [(100, 10), (10, 1), (500, 50), (1000, 100)] {
            // The burst less one step is spent at once; some steps come late, together with the
            // next.
            for late in [0, 3] {
                let sends = |millis: u64| match (millis, millis % step, millis / step) {
                    (0, ..) => 200 - per_step,
                    (_, 0, number) if late > 0 && number % late == 0 => 0,
                    (_, 0, number) if late > 0 && number % late == 1 && number > 1 => 2 * per_step,
                    (_, 0, _) => per_step,
                    _ => 0,
                };
                let offered = offer(&limits, 120_000, sends);
                let sent: u32 = (0..120_000).map(sends).sum();
                assert_eq!(
                    (offered.refused, offered.closed),
                    (0, None),
                    "{per_step} each {step} ms: {offered:?}"
                );
                assert_eq!(offered.handled, sent);
            }
        }
    }

    #[test]
    fn a_burst_that_is_too_large_is_forgotten_by_a_client_that_keeps_to_its_rate_then() {
        let offered = offer(&limits(), 120_000, |millis| match millis {
            0 => 450,
            _ if millis > 2600 && millis % 100 == 0 => 9,
            _ => 0,
        });
        assert_eq!((offered.refused, offered.closed), (0, None), "{offered:?}");
    }

    #[test]
    fn whoever_sends_half_as_much_again_is_refused_and_then_closed() {
        let offered = offer(&limits(), 60_000, |millis| if millis % 20 == 0 { 3 } else { 0 });
        // The burst lasts for four seconds of that.
        let (refused, closed) = (offered.first_refusal.unwrap(), offered.closed.unwrap());
        assert!((8_500..11_000).contains(&refused), "{offered:?}");
        assert!((18_000..24_000).contains(&closed), "{offered:?}");
    }

    #[test]
    fn a_burst_passes_at_once_and_time_pays_for_it() {
        let mut flow = Flow::default();
        let allowance = Allowance::new(&limits(), 1);
        flow.charge(200);
        assert!(!flow.exceeds(&allowance));
        flow.charge(6);
        assert!(!flow.exceeds(&allowance), "a tick pays for these");
        flow.charge(1);
        flow.note_excess();
        assert_eq!(flow.stage(&allowance, &limits()), Stage::Slowed);
        assert_eq!(flow.ticks_to_burst(&allowance), 1);
        flow.pay(at(0), at(62), &allowance);
        assert!(flow.is_over(), "a moment above is remembered for as long");
        flow.pay(at(62), at(1000), &allowance);
        assert!(!flow.is_over());
        flow.pay(at(1000), at(3000), &allowance);
        assert_eq!(flow, Flow::default(), "nothing is owed");
    }

    #[test]
    fn whoever_goes_on_is_slowed_then_refused_then_closed() {
        let limits = limits();
        let offered = offer(&limits, 60_000, |_| 1);
        let (refused, closed) = (offered.first_refusal.unwrap(), offered.closed.unwrap());
        assert!((5000..8000).contains(&refused), "the burst, and five seconds above it: {offered:?}");
        assert!(closed >= refused + 10_000, "ten seconds to heed it: {offered:?}");
        assert!(closed < 60_000 && offered.handled >= 200 && offered.refused > 0, "{offered:?}");
    }

    #[test]
    fn a_connection_is_refused_before_it_is_closed() {
        let limits = limits();
        let (mut flow, allowance) = (Flow::default(), Allowance::new(&limits, 1));
        flow.charge(20_000);
        flow.note_excess();
        assert_eq!(flow.stage(&allowance, &limits), Stage::Slowed);
        // The stop alone was longer than the time to be closed.
        flow.pay(at(0), at(90_000), &allowance);
        assert_eq!(flow.stage(&allowance, &limits), Stage::Refused);
        assert_eq!(flow.stage(&allowance, &limits), Stage::Refused, "a look is no refusal");
        assert!(flow.note_refusal(&limits) && !flow.note_refusal(&limits));
        flow.pay(at(90_000), at(99_900), &allowance);
        assert_eq!(flow.stage(&allowance, &limits), Stage::Refused, "ten seconds to heed it");
        flow.pay(at(99_900), at(100_000), &allowance);
        assert_eq!(flow.stage(&allowance, &limits), Stage::Closed);
    }

    #[test]
    fn bytes_count_as_messages_do() {
        let mut flow = Flow::default();
        let allowance = Allowance::new(&limits(), 1);
        flow.charge_bytes(32_000 + 2_000);
        flow.note_excess();
        assert_eq!(flow.stage(&allowance, &limits()), Stage::Slowed);
        assert_eq!(flow.ticks_to_burst(&allowance), 1);
        flow.return_bytes(2_000);
        assert_eq!(flow.ticks_to_burst(&allowance), 0);
        flow.charge_bytes(usize::MAX);
        assert!(flow.ticks_to_burst(&allowance) > 4_000_000, "a debt saturates");
    }

    #[test]
    fn a_users_connections_share_its_rate_and_a_lone_one_keeps_its_own() {
        let limits = limits();
        let of = |sharers| Allowance::new(&limits, sharers);
        assert_eq!(of(0), of(1));
        assert_eq!((of(1).messages_per_tick, of(1).messages_burst), (100, 200 * 16));
        assert_eq!((of(3).messages_per_tick, of(3).messages_burst), (50, 100 * 16));
        assert_eq!((of(250).messages_per_tick, of(250).messages_burst), (1, 16), "never nothing");
        assert_eq!(of(3).bytes_per_tick, of(1).bytes_per_tick, "without a user's limit");
        let user_only = RateLimits { messages_per_second: 0, ..limits };
        assert_eq!(Allowance::new(&user_only, 3).messages_burst, 66 * 16);
        let off = Allowance::new(&RateLimits::NONE, 7);
        let mut flow = Flow::default();
        flow.charge(1 << 30);
        flow.charge_bytes(1 << 31);
        assert_eq!((flow.exceeds(&off), flow.ticks_to_burst(&off)), (false, 0), "no limit at all");
    }

    #[test]
    fn a_message_to_a_room_costs_its_deliveries_and_is_never_impossible() {
        let (mut flow, limits) = (Flow::default(), limits());
        let allowance = Allowance::new(&limits, 1);
        assert_eq!(flow.charge_room(63, &allowance), Some(0), "a small room costs nothing more");
        assert_eq!((flow.charge_room(5000, &allowance), flow.messages), (Some(78), 78 * 16));
        flow.settle_room(78, 5000, &allowance);
        assert_eq!(flow.messages, 78 * 16, "it was as large as it was taken for");
        flow.settle_room(78, 2, &allowance);
        assert_eq!(flow.messages, 0, "it was small");
        flow.settle_room(16, 64_000, &allowance);
        assert_eq!(flow.messages, 100 * 16, "half a burst at most");
        let mut flow = Flow::default();
        let sent = (0..20).filter(|_| flow.charge_room(10_000_000, &allowance).is_some()).count();
        assert_eq!(sent, 5, "half a burst each, up to twice the burst and once beyond");
        assert!(
            flow.charge_room(10, &allowance).is_some(),
            "what costs others nothing is not refused for that"
        );
    }

    #[test]
    fn a_second_forgets_a_fault() {
        let mut flow = Flow::default();
        let allowance = Allowance::new(&limits(), 1);
        assert!((0..10).all(|_| flow.fault(10)) && !flow.fault(10));
        flow.pay(at(500), at(1500), &allowance);
        assert!(flow.fault(11) && !flow.fault(11));
        assert!((0..1000).all(|_| flow.fault(0)), "0: no limit");
    }
}
