//! The network's clock, its events, and the choice of the next turn.

use super::link::{Links, Phase, SocketId};
use super::trace::Trace;
use super::{FaultConfig, Mutation, Rng};
use crate::{CloseReason, ConnectionId, Waker};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a SYN that found a full backlog waits for its next try, and how many tries there are.
const SYN_RETRY: Duration = Duration::from_secs(1);
const SYN_ATTEMPTS_MAX: u8 = 6;
/// How long an unanswered connect takes to fail.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An event to come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Syn {
        from: SocketId,
        attempt: u8,
    },
    Established(SocketId),
    ConnectFailed(SocketId, CloseReason),
    Arrive {
        to: SocketId,
        count: u32,
    },
    Fin {
        to: SocketId,
    },
    Reset {
        to: SocketId,
    },
    /// A readiness that was held back.
    Ready(SocketId),
    /// A connection reaches its backlog.
    Backlog {
        listener: u32,
        socket: SocketId,
    },
    Wake {
        host: u16,
    },
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    /// Ties are broken by age.
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    /// The earliest event is the greatest: the heap's top.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Events to come, by time; those of one time in the order in which they were scheduled.
#[derive(Debug, Default)]
struct Schedule {
    events: BinaryHeap<Scheduled>,
    sequence: u64,
}

impl Schedule {
    fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Scheduled { at, sequence: self.sequence, event });
    }

    fn next_at(&self) -> Option<u64> {
        self.events.peek().map(|scheduled| scheduled.at)
    }

    fn pop(&mut self) -> Option<Event> {
        self.events.pop().map(|scheduled| scheduled.event)
    }
}

/// What the network knows about one backend.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) waker: Waker,
    /// Sockets with news, each once (`End::flagged`).
    pub(super) ready: VecDeque<SocketId>,
    pub(super) listeners: Vec<u32>,
    /// A wake-up has arrived, or the harness asked for a turn.
    pub(super) woken: bool,
    /// A delayed wake-up is under way.
    wake_comes: bool,
    /// The backend wants a turn at this moment, whatever happens.
    pub(super) deadline: u64,
    /// The backend has work that its last poll did not get to.
    pub(super) left_over: bool,
    /// The backend would take a connection from a backlog.
    pub(super) accepts: bool,
    alive: bool,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) host: u16,
    pub(super) address: SocketAddr,
    pub(super) backlog: VecDeque<SocketId>,
    pub(super) backlog_max: usize,
    pub(super) window: Option<usize>,
}

/// The network.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) now: u64,
    schedule: Schedule,
    pub(super) rng: Rng,
    pub(super) faults: FaultConfig,
    pub(super) mutation: Option<Mutation>,
    pub(super) links: Links,
    pub(super) hosts: Vec<Host>,
    pub(super) listeners: Vec<Listener>,
    /// The listeners that share an address, as SO_REUSEPORT allows.
    pub(super) groups: BTreeMap<SocketAddr, Vec<u32>>,
    pub(super) next_port: u16,
    pub(super) trace: Trace,
    /// Hosts with something to do, computed anew at each step.
    due: Vec<usize>,
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Core {
    pub(super) fn new(seed: u64, faults: FaultConfig) -> Core {
        Core {
            now: 0,
            schedule: Schedule::default(),
            rng: Rng::new(seed),
            faults,
            mutation: None,
            links: Links::default(),
            hosts: Vec::new(),
            listeners: Vec::new(),
            groups: BTreeMap::new(),
            next_port: 0,
            trace: Trace::new(),
            due: Vec::new(),
        }
    }

    pub(super) fn add_host(&mut self) -> (usize, Waker) {
        let waker = Waker::flag();
        self.hosts.push(Host {
            waker: waker.clone(),
            ready: VecDeque::new(),
            listeners: Vec::new(),
            woken: false,
            wake_comes: false,
            deadline: 0,
            left_over: false,
            accepts: true,
            alive: true,
        });
        (self.hosts.len() - 1, waker)
    }

    /// Removes a dropped backend: its addresses are free again. The backend closes its own
    /// connections.
    pub(super) fn remove_host(&mut self, host: usize) {
        self.hosts[host].alive = false;
        self.close_listeners(host);
    }

    /// Frees a host's addresses; what waited in its backlogs is reset.
    pub(super) fn close_listeners(&mut self, host: usize) {
        for listener in std::mem::take(&mut self.hosts[host].listeners) {
            let entry = &mut self.listeners[listener as usize];
            let (address, waiting) = (entry.address, std::mem::take(&mut entry.backlog));
            if let Some(group) = self.groups.get_mut(&address) {
                group.retain(|other| *other != listener);
            }
            waiting.into_iter().for_each(|socket| self.abort(socket));
        }
        self.groups.retain(|_, group| !group.is_empty());
    }

    // --- chance ---

    pub(super) fn chance(&mut self, fault: impl FnOnce(&FaultConfig) -> f64) -> bool {
        let probability = fault(&self.faults);
        self.rng.chance(probability)
    }

    /// When a segment that leaves now arrives.
    pub(super) fn arrival(&mut self) -> u64 {
        let jitter = nanos(self.faults.jitter) as usize;
        let drawn = if jitter == 0 { 0 } else { self.rng.below(jitter) as u64 };
        self.now + nanos(self.faults.latency) + drawn
    }

    /// A moment in the nearer future, later than now.
    pub(super) fn later(&mut self) -> u64 {
        let bound = nanos(self.faults.delay_max).max(1) as usize;
        self.now + 1 + self.rng.below(bound) as u64
    }

    /// Whether the mutation is on and strikes: one time in eight.
    pub(super) fn mutates(&mut self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation) && self.rng.below(8) == 0
    }

    // --- events ---

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.schedule.push(at.max(self.now), event);
    }

    pub(super) fn next_event_at(&self) -> Option<u64> {
        self.schedule.next_at()
    }

    /// Runs every event that is due, and takes in wake-ups.
    pub(super) fn run_due(&mut self) {
        while self.next_event_at().is_some_and(|at| at <= self.now) {
            if let Some(event) = self.schedule.pop() {
                self.happen(event);
            }
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].waker.take() {
                self.wake(host);
            }
        }
    }

    fn wake(&mut self, host: usize) {
        if self.chance(|faults| faults.wake_delay) {
            if !std::mem::replace(&mut self.hosts[host].wake_comes, true) {
                let at = self.later();
                self.schedule(at, Event::Wake { host: host as u16 });
            }
        } else {
            self.hosts[host].woken = true;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Syn { from, attempt } => self.syn(from, attempt),
            Event::Established(id) => {
                if let Some(end) = self.links.end_mut(id).filter(|end| end.phase == Phase::Connecting) {
                    end.phase = Phase::Open;
                    self.announce(id);
                }
            }
            Event::ConnectFailed(id, reason) => {
                if let Some(end) = self.links.end_mut(id).filter(|end| end.phase == Phase::Connecting) {
                    end.error = Some(reason);
                    self.announce(id);
                }
            }
            Event::Arrive { to, count } => self.arrive(to, count as usize),
            Event::Fin { to } => {
                if let Some(end) = self.links.end_mut(to).filter(|end| end.phase != Phase::Absent) {
                    end.incoming.ended = true;
                    self.announce(to);
                }
            }
            Event::Reset { to } => self.broken(to),
            Event::Ready(id) => self.announce(id),
            Event::Backlog { listener, socket } => self.enter_backlog(listener, socket),
            Event::Wake { host } => {
                let host = &mut self.hosts[host as usize];
                host.wake_comes = false;
                host.woken = true;
            }
        }
    }

    /// Puts the socket on its owner's ready list.
    pub(super) fn announce(&mut self, id: SocketId) {
        if self.mutates(Mutation::LoseWakeup) {
            return;
        }
        let Some(end) = self.links.end_mut(id) else { return };
        if end.token.is_some() && !std::mem::replace(&mut end.flagged, true) {
            self.hosts[end.host as usize].ready.push_back(id);
        }
    }

    fn syn(&mut self, from: SocketId, attempt: u8) {
        let Some(link) = self.links.link(from) else { return };
        let remote = link.remote;
        let Some(group) = self.groups.get(&remote) else {
            let at = self.arrival();
            return self.schedule(at, Event::ConnectFailed(from, CloseReason::Refused));
        };
        let listener = group[self.rng.below(group.len())];
        let entry = &self.listeners[listener as usize];
        if entry.backlog.len() >= entry.backlog_max {
            let (wait, event) = match attempt {
                SYN_ATTEMPTS_MAX => (Duration::ZERO, Event::ConnectFailed(from, CloseReason::TimedOut)),
                _ => (SYN_RETRY, Event::Syn { from, attempt: attempt + 1 }),
            };
            return self.schedule(self.now + nanos(wait), event);
        }
        let (host, window) = (entry.host, entry.window);
        let established_at = self.arrival();
        let capacities = [self.draw_window(window), self.draw_window(window)];
        let socket = from.peer();
        if let Some(end) = self.links.end_mut(socket) {
            end.phase = Phase::Open;
            end.host = host;
            end.incoming.capacity = capacities[0];
        }
        if let Some(end) = self.links.end_mut(from) {
            end.incoming.capacity = capacities[1];
            end.incoming.last_arrival = established_at; // nothing overtakes the SYN-ACK
        }
        self.schedule(established_at, Event::Established(from));
        match self.chance(|faults| faults.accept_delay) {
            true => {
                let at = self.later();
                self.schedule(at, Event::Backlog { listener, socket });
            }
            false => self.enter_backlog(listener, socket),
        }
    }

    fn draw_window(&mut self, fixed: Option<usize>) -> usize {
        let (least, most) = self.faults.window;
        let drawn = least + self.rng.below(most.saturating_sub(least) + 1);
        fixed.unwrap_or(drawn).max(1)
    }

    fn enter_backlog(&mut self, listener: u32, socket: SocketId) {
        let entry = &mut self.listeners[listener as usize];
        match self.hosts[entry.host as usize].alive {
            true => entry.backlog.push_back(socket),
            false => self.abort(socket),
        }
    }

    fn arrive(&mut self, to: SocketId, count: usize) {
        let Some(end) = self.links.end_mut(to) else { return };
        if end.phase == Phase::Absent {
            // RFC 9293, 3.10.7.1: a segment for a connection that does not exist is answered by a
            // reset.
            let at = self.arrival();
            return self.schedule(at, Event::Reset { to: to.peer() });
        }
        // A reset may have dropped what was under way.
        end.incoming.arrived = (end.incoming.arrived + count).min(end.incoming.bytes.len());
        self.trace.record(self.now, "arrive", to.place(), count as u32);
        self.announce(to);
    }

    /// Handles an arriving reset: what had arrived before may still be read, what is under way is
    /// lost.
    fn broken(&mut self, to: SocketId) {
        let Some(end) = self.links.end_mut(to).filter(|end| end.phase != Phase::Absent) else { return };
        end.incoming.bytes.truncate(end.incoming.arrived);
        end.error.get_or_insert(CloseReason::PeerReset);
        self.trace.record(self.now, "reset", to.place(), 0);
        self.announce(to);
    }

    /// Starts the handshake of a new link, or its failure.
    pub(super) fn begin_connect(&mut self, id: SocketId) {
        if self.chance(|faults| faults.connect_timeout) {
            let at = self.now + nanos(CONNECT_TIMEOUT);
            return self.schedule(at, Event::ConnectFailed(id, CloseReason::TimedOut));
        }
        let at = self.arrival();
        match self.chance(|faults| faults.refuse) {
            true => self.schedule(at, Event::ConnectFailed(id, CloseReason::Refused)),
            false => self.schedule(at, Event::Syn { from: id, attempt: 1 }),
        }
    }

    // --- turns ---

    pub(super) fn has_backlog(&self, host: usize) -> bool {
        self.hosts[host].listeners.iter().any(|l| !self.listeners[*l as usize].backlog.is_empty())
    }

    /// Whether the host has ready sockets, or work left.
    fn has_work(&self, host: usize) -> bool {
        let entry = &self.hosts[host];
        entry.alive
            && (entry.woken
                || entry.left_over
                || !entry.ready.is_empty()
                || (entry.accepts && self.has_backlog(host)))
    }

    pub(super) fn is_due(&self, host: usize) -> bool {
        self.has_work(host) || (self.hosts[host].alive && self.hosts[host].deadline <= self.now)
    }

    /// Whether nothing will happen any more, apart from deadlines.
    pub(super) fn is_quiet(&self) -> bool {
        self.schedule.next_at().is_none() && !(0..self.hosts.len()).any(|host| self.has_work(host))
    }

    /// The next host to give a turn; lets time pass until there is one.
    pub(super) fn step(&mut self) -> Option<usize> {
        loop {
            self.run_due();
            let alive = (0..self.hosts.len()).filter(|host| self.hosts[*host].alive);
            let stray = self.faults.stray_turn;
            let mut due = std::mem::take(&mut self.due);
            due.clear();
            due.extend(alive.filter(|host| self.is_due(*host)));
            if !due.is_empty() && self.rng.chance(stray) {
                due.clear();
                due.extend((0..self.hosts.len()).filter(|host| self.hosts[*host].alive));
            }
            let chosen = (!due.is_empty()).then(|| due[self.rng.below(due.len())]);
            self.due = due;
            if let Some(host) = chosen {
                self.trace.record(self.now, "turn", host as u32, 0);
                return Some(host);
            }
            let deadlines = self.hosts.iter().filter(|host| host.alive).map(|host| host.deadline);
            let next = deadlines.chain(self.next_event_at()).min().filter(|at| *at < u64::MAX)?;
            self.now = self.now.max(next);
        }
    }

    /// Lets time pass until `host` is due; not at all when nothing would ever make it so.
    pub(super) fn sleep(&mut self, host: usize) {
        loop {
            self.run_due();
            let next = self.next_event_at().unwrap_or(u64::MAX).min(self.hosts[host].deadline);
            if self.is_due(host) || next == u64::MAX {
                return;
            }
            self.now = self.now.max(next);
        }
    }

    /// Lets time pass until something happens, at most `limit`.
    pub(super) fn advance(&mut self, limit: Duration) {
        let end = self.now.saturating_add(nanos(limit));
        self.now = self.next_event_at().map_or(end, |at| at.clamp(self.now, end));
        self.run_due();
    }

    /// The id of the next ready socket, if there is one.
    pub(super) fn next_ready(&mut self, host: usize) -> Option<ConnectionId> {
        loop {
            let count = self.hosts[host].ready.len();
            if count > 1 && self.chance(|faults| faults.shuffle) {
                let other = self.rng.below(count);
                self.hosts[host].ready.swap(0, other);
            }
            let id = self.hosts[host].ready.pop_front()?;
            // A socket that was closed in the meantime has left its entry in the list.
            if let Some(end) = self.links.end_mut(id) {
                end.flagged = false;
                if end.token.is_some() {
                    return end.token;
                }
            }
        }
    }
}
