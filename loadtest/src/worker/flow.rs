//! One flow on one worker: its senders, its check, its counts.

use super::answers::Answers;
use super::control::{Interval, Window};
use super::recorder::Recorder;
use super::steps::Steps;
use crate::client::template::Template;
use crate::conservation::Checker;
use crate::load::Agenda;
use crate::permutation::Permutation;
use crate::plan::{Duty, FlowPlan, Pace, Path, ProtocolKind, Role, RunPlan, SERVICES};
use crate::stamp::filler;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::mpsc;

/// One of the flow's senders on this worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sender {
    /// Its turn in a round of all senders.
    pub(crate) position: u32,
    pub(crate) audience: u32,
    /// Connection or HTTP connection, the worker's own index.
    pub(crate) local: u32,
    /// Its next sequence number, and in an open loop the round.
    pub(crate) next: u32,
    pub(crate) slot: u16,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) index: u8,
    pub(crate) plan: FlowPlan,
    pub(crate) template: Template,
    pub(crate) filler: Vec<u8>,
    pub(crate) senders: Vec<Sender>,
    /// The sender that a connection is, in a closed loop over connections.
    pub(crate) sender_of: Vec<u32>,
    pub(crate) total_senders: u32,
    pub(crate) cursor: usize,
    pub(crate) room: Room,
    /// In an open loop, when operations are due, once its stage has begun.
    pub(crate) agenda: Option<Agenda>,
    /// The window of its stage, once it has begun.
    pub(crate) window: Option<Window>,
    /// Closed loop: senders whose wave is complete.
    pub(crate) idle: VecDeque<u32>,
    pub(crate) checker: Checker,
    pub(crate) recorder: Recorder,
    /// Operations that could not be sent (connection gone, queue full), and those that the server
    /// refused.
    pub(crate) not_sent: u64,
    pub(crate) refused: u64,
    /// Deliveries that are not owed because of those.
    pub(crate) excused: u64,
    pub(crate) answers: Answers,
}

/// Room for what is due: in the HTTP pipeline, in the pools. The server makes it, by its answers
/// and by taking what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// There was none at the last attempt. Completions make some, so there is nothing to do before
    /// they come.
    pub(crate) is_missing: bool,
    /// When there was none for the last time.
    missed_at: u64,
    /// Operations that waited for it, and the longest time that one did, in ns.
    pub(crate) held: (u64, u64),
}

impl Room {
    /// There was none at `now`.
    pub(crate) fn missing(&mut self, now: u64) {
        (self.is_missing, self.missed_at) = (true, now);
    }

    /// What was intended at `intended` leaves at `now`. Returns since when there was room for it.
    pub(crate) fn found(&mut self, intended: u64, now: u64) -> u64 {
        if self.missed_at > intended {
            self.held = (self.held.0 + 1, self.held.1.max(now.saturating_sub(intended)));
        }
        self.missed_at.max(intended)
    }
}

/// No sender.
pub(crate) const NO_SENDER: u32 = u32::MAX;

impl Flow {
    pub(crate) fn new(
        index: usize,
        plan: &RunPlan,
        duty: &Duty,
        template: Template,
        intervals: mpsc::Sender<Interval>,
    ) -> Flow {
        let flow = plan.flows[index].clone();
        let measured = duty.role == Role::Measured;
        let count = duty.count() as usize;
        let (senders, total_senders) = if measured { senders(&flow, plan, duty) } else { (Vec::new(), 1) };
        let mut sender_of = Vec::new();
        if matches!(flow.pace, Pace::Closed { .. }) && !matches!(flow.path, Path::Http(_)) {
            sender_of = vec![NO_SENDER; count];
            for (number, sender) in senders.iter().enumerate() {
                sender_of[sender.local as usize] = number as u32;
            }
        }
        // The stream has no answers where it has no frames.
        let answered =
            matches!(flow.path, Path::Publish | Path::Direct) && plan.protocol == ProtocolKind::Goim;
        let answers = match answered {
            true => Answers::of(count, senders.iter().map(|sender| sender.local)),
            false => Answers::default(),
        };
        Flow {
            index: index as u8,
            template,
            filler: filler(flow.payload_size.saturating_sub(crate::stamp::STAMP_SIZE)),
            idle: VecDeque::with_capacity(sender_of.len()),
            senders,
            sender_of,
            total_senders,
            cursor: 0,
            room: Room::default(),
            agenda: None,
            window: None,
            checker: Checker::new(plan.run, if measured { count } else { 0 }, flow.slots),
            recorder: Recorder::new(intervals),
            not_sent: 0,
            refused: 0,
            excused: 0,
            answers,
            plan: flow,
        }
    }

    /// The audience of the connection with this run-wide index.
    pub(crate) fn audience_of(&self, global: u32) -> u32 {
        global / self.plan.audience_size
    }

    /// Begins the flow's stage.
    pub(crate) fn begin(&mut self, window: Window) {
        self.window = Some(window);
        match &self.plan.pace {
            Pace::Open { load } => {
                let total = u64::from(self.total_senders);
                self.recorder.steps = Steps::new(&load.course, &window);
                self.agenda = Some(Agenda::new(load, window.traffic_start, window.start, total));
                self.turn_to_sender();
            }
            Pace::Closed { .. } if !self.sender_of.is_empty() => {
                self.idle.extend(0..self.senders.len() as u32);
            }
            Pace::Closed { .. } => {}
        }
    }

    /// How often connection `local` has sent: in an open loop at most so often, as its first sender
    /// is never behind another.
    pub(crate) fn sent_by(&self, local: u32) -> u32 {
        match self.sender_of.get(local as usize) {
            Some(sender) => self.senders.get(*sender as usize).map_or(0, |sender| sender.next),
            None if self.plan.path == Path::Service => self.answers.quiet,
            None => self.senders.first().map_or(0, |sender| sender.next),
        }
    }

    /// Answers to messages that are still to come.
    pub(crate) fn unanswered(&self) -> u64 {
        let due = if self.answers.are_due() { self.recorder.sent } else { 0 };
        due.saturating_sub(self.answers.counts.answered)
    }

    /// When the next operation is due; `None` in a closed loop.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.agenda.as_ref().filter(|_| !self.senders.is_empty()).map(Agenda::due)
    }

    /// Ends the flow's stage: what was due and not sent is as late as it is then. In a run that was
    /// cut short the window ends where it was cut.
    pub(crate) fn end(&mut self, window: &Window) {
        let (Some(agenda), Some(from)) = (&self.agenda, self.next_due()) else { return };
        let left_by = |time: u64| -> u64 {
            let (due, total) = (agenda.due_before(time), u64::from(self.total_senders));
            let left = |sender: &Sender| {
                let rounds = due.saturating_sub(u64::from(sender.position)).div_ceil(total);
                rounds.saturating_sub(u64::from(sender.next))
            };
            self.senders.iter().map(left).sum()
        };
        // Within a step the rate is about the same, so operations are at about even distances.
        let ends = self.recorder.steps.list().iter().map(|step| step.to);
        let ends: Vec<u64> =
            ends.filter(|end| (from..window.end).contains(end)).chain([window.end]).collect();
        let left: Vec<u64> = ends.iter().map(|end| left_by(*end)).collect();
        let all = left.last().copied().unwrap_or(0);
        let receivers = u64::from(self.plan.audience_size);
        let is_held = self.room.is_missing;
        if is_held && all > 0 {
            let longest = self.room.held.1.max(window.end.saturating_sub(from));
            self.room.held = (self.room.held.0 + all, longest);
        }
        let (mut begun, mut before) = (from, 0);
        for (end, left) in ends.into_iter().zip(left) {
            self.recorder.never_sent((begun, end), left - before, receivers, is_held, window);
            (begun, before) = (end, left);
        }
    }

    /// Moves on to the next sender.
    pub(crate) fn advance(&mut self) {
        self.senders[self.cursor].next += 1;
        self.cursor = (self.cursor + 1) % self.senders.len();
        self.turn_to_sender();
    }

    fn turn_to_sender(&mut self) {
        if let (Some(agenda), Some(sender)) = (&mut self.agenda, self.senders.get(self.cursor)) {
            agenda.turn_to(sender.next, sender.position);
        }
    }
}

/// The senders of a flow that belong to `duty`, in their order, and how many there are on all
/// workers.
fn senders(flow: &FlowPlan, plan: &RunPlan, duty: &Duty) -> (Vec<Sender>, u32) {
    match flow.path {
        Path::Direct => pairs(flow, plan, duty),
        Path::Service => serving(flow, plan, duty),
        Path::Http(_) => pushing(flow, plan, duty),
        Path::Echo | Path::Publish => publishing(flow, plan, duty),
    }
}

/// Connections that send: the first ones of each audience.
fn publishing(flow: &FlowPlan, plan: &RunPlan, duty: &Duty) -> (Vec<Sender>, u32) {
    let (mut senders, mut position) = (Vec::new(), 0);
    for audience in 0..flow.audiences(plan.connections) {
        // A small last audience has fewer members than slots.
        let slots = u32::from(flow.slots).min(flow.members(audience, plan.connections));
        for slot in 0..slots {
            if let Some(local) = duty.local(audience * flow.audience_size + slot) {
                senders.push(Sender { position, audience, local, next: 0, slot: slot as u16 });
            }
            position += 1;
        }
    }
    (senders, position.max(1))
}

/// HTTP connections that push: the turns go round the workers that have some.
fn pushing(flow: &FlowPlan, plan: &RunPlan, duty: &Duty) -> (Vec<Sender>, u32) {
    let (audiences, slots) = (flow.audiences(plan.connections), u32::from(flow.slots));
    let workers = plan.machinery.http_workers.clamp(1, duty.step);
    let (own, total) = (duty.first % duty.step, audiences * slots);
    let turns = flow.turns(plan.connections);
    let mine = (own..if own < workers { total } else { 0 }).step_by(workers as usize);
    let sender = |position| {
        let turn = position / slots;
        let audience = if flow.shuffled { turns.at(turn) } else { turn };
        let local = position / workers % plan.machinery.http_connections;
        Sender { position, audience, local, next: 0, slot: (position % slots) as u16 }
    };
    (mine.map(sender).collect(), total.max(1))
}

/// A few connections that push to all users: turn `p` belongs to connection `p` modulo their
/// number.
fn serving(flow: &FlowPlan, plan: &RunPlan, duty: &Duty) -> (Vec<Sender>, u32) {
    let (services, turns) = (SERVICES.min(plan.connections), flow.turns(plan.connections));
    let own = (0..services).filter_map(|service| Some((service, duty.local(service)?)));
    let mut senders: Vec<Sender> = Vec::new();
    for (service, local) in own {
        let positions = (service..plan.connections).step_by(services as usize);
        senders.extend(positions.map(|position| {
            let audience = turns.at(position);
            Sender { position, audience, local, next: 0, slot: 0 }
        }));
    }
    senders.sort_unstable_by_key(|sender| sender.position);
    (senders, plan.connections.max(1))
}

/// Every connection sends to a user: turn `p` belongs to client `a(p)` and user `b(p)`, for two
/// shuffles `a` and `b`.
fn pairs(flow: &FlowPlan, plan: &RunPlan, duty: &Duty) -> (Vec<Sender>, u32) {
    let clients = Permutation::new(plan.connections, 0x636c_6965);
    let users = flow.turns(plan.connections);
    let sender = |local| {
        let position = clients.inverse(duty.global(local));
        Sender { position, audience: users.at(position), local, next: 0, slot: 0 }
    };
    let mut senders: Vec<Sender> = (0..duty.count()).map(sender).collect();
    senders.sort_unstable_by_key(|sender| sender.position);
    (senders, plan.connections.max(1))
}
