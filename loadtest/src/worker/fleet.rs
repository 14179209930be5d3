//! A worker's connections: opening them by the clock or as fast as allowed, giving up,
//! reconnecting.

use crate::client::{Link, Stage};
use crate::histogram::{growing, merge, record};
use crate::plan::{ConnectPlan, Duty};
use crate::schedule::Schedule;
use hdrhistogram::Histogram;
use netpoll::{Buffer, CloseReason, ConnectionId, TimerWheel, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// One connection. With its entries in the parallel tables, well under 200 B.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: Option<ConnectionId>,
    /// The front of a frame whose rest has not come.
    pub(crate) partial: Option<Buffer>,
    pub(crate) link: Link,
    /// Before it is ready: when its connect was intended. Afterwards: when its last wave left.
    pub(crate) begun: u64,
    pub(crate) pulse: Pulse,
    /// Messages of the present wave without an answer.
    pub(crate) outstanding: u16,
    pub(crate) attempts: u8,
    /// It closed by the clock, and is on its way back.
    pub(crate) takes_turn: bool,
}

const _: () = assert!(size_of::<Connection>() <= 96);

/// The heartbeats of a connection, by number: each number has its time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulse {
    /// The next to be sent.
    pub(crate) next: u32,
    /// The next to be answered; those from it to `next` are under way.
    pub(crate) awaited: u32,
}

impl Pulse {
    /// Heartbeats behind the last answer.
    pub(crate) fn under_way(self) -> u64 {
        u64::from(self.next - self.awaited)
    }
}

/// What happened to connections, apart from messages.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FleetStats {
    /// From the intended start to a ready connection.
    #[serde(with = "crate::histogram::wire")]
    pub(crate) ready: Histogram<u64>,
    /// From the intended start to the end of the TCP handshake.
    #[serde(with = "crate::histogram::wire")]
    pub(crate) connected: Histogram<u64>,
    /// When the first connect was due.
    pub(crate) first_started: u64,
    /// Connections that a ramp made ready, and when the last of them was.
    pub(crate) opened: u64,
    pub(crate) opened_by: u64,
    pub(crate) retried: u64,
    /// Connections that closed because this side asked for it, and the time from asking to the
    /// backend's confirmation.
    pub(crate) departed: u64,
    #[serde(with = "crate::histogram::wire")]
    pub(crate) parting: Histogram<u64>,
    pub(crate) established: u64,
    pub(crate) given_up: u64,
    /// Why connections failed before they were ready.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Why ready connections closed that this side did not close.
    pub(crate) lost: BTreeMap<String, u64>,
}

/// When timers fire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    pub(crate) tick: Duration,
    /// How far ahead the wheel's clock is. The wheels of all workers tick at different times:
    /// otherwise they would send what is due within a tick all at once, and each message would wait
    /// behind a burst.
    ahead: Duration,
}

impl Ticks {
    /// When a timer that is set to `due` fires: at the first tick after it.
    pub(crate) fn after(&self, due: u64) -> u64 {
        let (tick, ahead) = (self.tick.as_nanos() as u64, self.ahead.as_nanos() as u64);
        ((due + ahead) / tick + 1) * tick - ahead
    }
}

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) connections: Vec<Connection>,
    /// The connection that a backend's slot belongs to; `connections.len() + n` is HTTP connection
    /// `n`.
    owners: Vec<u32>,
    timers: TimerWheel,
    pub(crate) ticks: Ticks,
    pub(crate) stats: FleetStats,
    pub(crate) ready_count: u32,
    pub(crate) under_way: usize,
    /// The first connection that was never started.
    next: u32,
    again: VecDeque<u32>,
    plan: ConnectPlan,
    schedule: Option<Schedule>,
    duty: Duty,
}

/// What follows from a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// It will be tried again, or was given up.
    Failed,
    /// It was ready.
    WasReady,
    /// It was ready, and this side asked for its close.
    Left,
}

impl Fleet {
    /// The connections of `duty`, over a backend of so many slots.
    pub(crate) fn new(duty: Duty, plan: ConnectPlan, slots: usize, tick: Duration) -> Fleet {
        let count = duty.count() as usize;
        let connection = |_| Connection {
            id: None,
            partial: None,
            link: Link::new(),
            begun: 0,
            pulse: Pulse::default(),
            outstanding: 0,
            attempts: 0,
            takes_turn: false,
        };
        Fleet {
            connections: (0..count).map(connection).collect(),
            owners: vec![u32::MAX; slots],
            timers: TimerWheel::new(count.max(1), tick),
            ticks: Ticks { tick, ahead: tick * (duty.first % duty.step) / duty.step },
            stats: FleetStats::new(),
            ready_count: 0,
            under_way: 0,
            next: 0,
            again: VecDeque::new(),
            plan,
            schedule: None,
            duty,
        }
    }

    /// Starts a ramp: every connection that is closed is opened.
    pub(crate) fn begin(&mut self, now: u64) {
        self.stats.first_started = now;
        self.next = 0;
        self.schedule = self.plan.rate.map(|rate| Schedule::new(now, rate));
    }

    /// Begins another stage at `now`, with counts of its own. Returns those until then.
    pub(crate) fn turn_page(&mut self, now: u64) -> FleetStats {
        let fresh = FleetStats { first_started: now, ..FleetStats::new() };
        std::mem::replace(&mut self.stats, fresh)
    }

    /// The next connection to open at `now` and when that was intended.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<(u32, u64)> {
        if self.under_way >= self.plan.in_flight {
            return None;
        }
        while let Some(local) = self.again.pop_front() {
            let connection = &self.connections[local as usize];
            if connection.link.stage == Stage::Closed {
                return Some((local, connection.begun));
            }
        }
        while self.connections.get(self.next as usize)?.link.stage != Stage::Closed {
            self.next += 1;
        }
        let intended = self.next_due().unwrap_or(now);
        if intended > now {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, intended))
    }

    /// Sets the timer of connection `local` to `due`, which may be a tick late.
    pub(crate) fn set_timer(&mut self, local: usize, due: u64) {
        self.timers.set(local, Timestamp::from_nanos(due) + self.ticks.ahead);
    }

    /// The next connection whose timer is due.
    pub(crate) fn take_expired(&mut self, now: u64) -> Option<usize> {
        self.timers.expire(Timestamp::from_nanos(now) + self.ticks.ahead)
    }

    /// How long no timer is due, at most `within`.
    pub(crate) fn until_expiry(&self, now: u64, within: Duration) -> Duration {
        self.timers.next_expiry(Timestamp::from_nanos(now) + self.ticks.ahead, within)
    }

    /// When the next connection of a ramp is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let schedule = self.schedule.filter(|_| self.under_way < self.plan.in_flight)?;
        let waiting = (self.next as usize) < self.connections.len();
        // Connections are numbered over the workers, so the ramp is even over all of them.
        waiting.then(|| {
            schedule.intended(u64::from(self.duty.global(self.next) - self.duty.first % self.duty.step))
        })
    }

    /// Whether there is still something to open.
    pub(crate) fn is_opening(&self) -> bool {
        self.under_way > 0 || !self.again.is_empty() || (self.next as usize) < self.connections.len()
    }

    /// The owner of a slot: a connection, or (`Err`) the HTTP connection of that number.
    pub(crate) fn owner(&self, id: ConnectionId) -> Option<Result<u32, usize>> {
        let owner = *self.owners.get(id.index())?;
        match (owner as usize).checked_sub(self.connections.len()) {
            None => (self.connections[owner as usize].id == Some(id)).then_some(Ok(owner)),
            Some(_) if owner == u32::MAX => None,
            Some(pusher) => Some(Err(pusher)),
        }
    }

    /// Notes the slot of HTTP connection `pusher`.
    pub(crate) fn own_pusher(&mut self, id: ConnectionId, pusher: usize) {
        self.owners[id.index()] = (self.connections.len() + pusher) as u32;
    }

    /// Notes that connection `local` is being opened.
    pub(crate) fn opening(&mut self, local: u32, id: ConnectionId, intended: u64, now: u64) {
        self.owners[id.index()] = local;
        let connection = &mut self.connections[local as usize];
        connection.id = Some(id);
        connection.begun = intended;
        connection.link = Link::new();
        connection.link.stage = Stage::Connecting;
        self.under_way += 1;
        self.set_timer(local as usize, now + self.plan.timeout.as_nanos() as u64);
    }

    /// Notes that connection `local` is ready; `opening`: in a ramp.
    pub(crate) fn became_ready(&mut self, local: u32, now: u64, opening: bool) {
        let connection = &mut self.connections[local as usize];
        if opening {
            record(&mut self.stats.ready, now.saturating_sub(connection.begun));
            self.stats.opened += 1;
            self.stats.opened_by = now;
        }
        connection.attempts = 0;
        self.timers.cancel(local as usize);
        self.under_way -= 1;
        self.ready_count += 1;
        self.stats.established += 1;
    }

    /// Notes an attempt that failed for `reason`; it is tried again as long as the plan allows.
    pub(crate) fn attempt_failed(&mut self, local: u32, reason: &str) {
        count(&mut self.stats.failures, reason);
        let connection = &mut self.connections[local as usize];
        if connection.attempts < self.plan.retries {
            connection.attempts += 1;
            self.stats.retried += 1;
            self.again.push_back(local);
        } else {
            self.stats.given_up += 1;
        }
    }

    /// Notes that connection `local`, which was ready, closed because this side asked for it at
    /// `begun`.
    pub(crate) fn departed(&mut self, begun: u64, now: u64) {
        self.stats.departed += 1;
        self.stats.opened_by = self.stats.opened_by.max(now);
        record(&mut self.stats.parting, now.saturating_sub(begun));
    }

    /// Notes that connection `local` closed.
    pub(crate) fn closed(&mut self, local: u32, reason: CloseReason) -> Aftermath {
        let connection = &mut self.connections[local as usize];
        let stage = std::mem::replace(&mut connection.link.stage, Stage::Closed);
        connection.id = None;
        connection.partial = None;
        connection.outstanding = 0;
        connection.pulse = Pulse::default();
        self.timers.cancel(local as usize);
        if matches!(stage, Stage::Ready | Stage::Leaving) {
            self.ready_count -= 1;
            return if stage == Stage::Leaving { Aftermath::Left } else { Aftermath::WasReady };
        }
        self.under_way -= 1;
        let at = match stage {
            Stage::Upgrading => " during the upgrade",
            Stage::Authenticating => " during auth",
            Stage::Joining => " while joining rooms",
            _ => "",
        };
        // Before it is ready, only the timer closes it from this side.
        let why = if reason == CloseReason::Local { "timed out" } else { reason.label() };
        self.attempt_failed(local, &format!("{why}{at}"));
        Aftermath::Failed
    }

    /// Opens connection `local` again, as of `intended`.
    pub(crate) fn reopen(&mut self, local: u32, intended: u64) {
        self.connections[local as usize].begun = intended;
        self.again.push_back(local);
    }
}

impl FleetStats {
    /// Adds what another stage or worker counted; the beginning is the earliest, the end the
    /// latest.
    pub(crate) fn add(&mut self, other: &FleetStats) {
        merge(&mut self.ready, &other.ready);
        merge(&mut self.connected, &other.connected);
        merge(&mut self.parting, &other.parting);
        self.first_started = self.first_started.min(other.first_started);
        self.opened_by = self.opened_by.max(other.opened_by);
        self.opened += other.opened;
        self.retried += other.retried;
        self.departed += other.departed;
        self.established += other.established;
        self.given_up += other.given_up;
        for (from, into) in [(&other.failures, &mut self.failures), (&other.lost, &mut self.lost)] {
            from.iter().for_each(|(what, number)| *into.entry(what.clone()).or_insert(0) += number);
        }
    }

    pub(crate) fn new() -> FleetStats {
        FleetStats {
            ready: growing(),
            connected: growing(),
            first_started: 0,
            opened: 0,
            opened_by: 0,
            retried: 0,
            departed: 0,
            parting: growing(),
            established: 0,
            given_up: 0,
            failures: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }
}

/// Counts one more of `what`.
pub(crate) fn count(counts: &mut BTreeMap<String, u64>, what: &str) {
    match counts.get_mut(what) {
        Some(number) => *number += 1,
        None => drop(counts.insert(what.to_owned(), 1)),
    }
}
