//! Handling completions.

use super::fleet::{Aftermath, Connection, Pulse, count};
use super::flow::Flow;
use super::pacemaker::Pacemaker;
use super::stage::Beats;
use super::{Worker, WorkerStats};
use crate::client::feed::feed;
use crate::client::goim::{UNASKED, WRONG_OPERATION, WRONG_SEQUENCE};
use crate::client::{Carrier, HALF_FRAME, Notice, Protocol, Sink, Stage};
use crate::conservation::Verdict;
use crate::histogram::record;
use crate::http::read_responses;
use crate::numbers::{Arrival, BEATS, number_of, ticket};
use crate::plan::{FlowKind, Path, Role, StageKind};
use crate::stamp::{STAMP_SIZE, Stamp};
use crate::worker::control::Window;
use netpoll::{Backend, Buffer, CloseReason, Completion, ConnectionId};
use std::io::Write;

impl<B: Backend, P: Protocol> Worker<B, P> {
    pub(super) fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Received { connection, buffer } => match self.fleet.owner(connection) {
                Some(Ok(local)) => self.received(local, connection, buffer),
                Some(Err(pusher)) => self.answered(pusher, connection, buffer),
                None => {}
            },
            Completion::Connected { connection } => match self.fleet.owner(connection) {
                Some(Ok(local)) => self.connected(local),
                Some(Err(pusher)) => self.pushers[pusher].ready = true,
                None => {}
            },
            Completion::Closed { connection, reason } => match self.fleet.owner(connection) {
                Some(Ok(local)) => self.closed(local, reason),
                Some(Err(pusher)) => self.pusher_closed(pusher, reason),
                None => {}
            },
            Completion::Accepted { .. } | Completion::Sent { .. } | Completion::PeerFinished { .. } => {}
        }
    }

    // --- the life of a connection ---

    fn connected(&mut self, local: u32) {
        let now = self.now();
        let begun = self.fleet.connections[local as usize].begun;
        record(&mut self.fleet.stats.connected, now.saturating_sub(begun));
        self.say_hello(local, now);
    }

    fn say_hello(&mut self, local: u32, now: u64) {
        self.scratch.clear();
        let link = &mut self.fleet.connections[local as usize].link;
        self.protocol.hello(self.to.duty.global(local), link, &mut self.scratch);
        let ready = link.stage == Stage::Ready;
        if !self.scratch.is_empty() {
            self.send_scratch(local);
        }
        if ready {
            self.became_ready(local, now);
        }
    }

    fn became_ready(&mut self, local: u32, now: u64) {
        let kind = self.stage_kind();
        self.fleet.became_ready(local, now, self.window.is_none() || kind == StageKind::Reconnect);
        self.arm_heartbeat(local, now);
        self.turn_is_over(local, now);
    }

    fn closed(&mut self, local: u32, reason: CloseReason) {
        let Connection { begun: intended, pulse, partial, link, .. } =
            &self.fleet.connections[local as usize];
        let intended = *intended;
        self.stats.beats.void += pulse.under_way();
        // A connection that is left while something is on its way may have any part of it.
        let left =
            link.stage == Stage::Leaving || (link.stage == Stage::Ready && reason == CloseReason::Local);
        if partial.is_some() && !left {
            count(&mut self.counts.violations, HALF_FRAME);
        }
        let now = self.now();
        let reopened = match self.fleet.closed(local, reason) {
            Aftermath::Failed => return,
            Aftermath::Left => {
                self.fleet.departed(intended, now);
                self.fleet.connections[local as usize].takes_turn.then_some(intended)
            }
            Aftermath::WasReady => {
                count(&mut self.fleet.stats.lost, reason.label());
                (self.to.duty.role == Role::Churn).then_some(now)
            }
        };
        if self.stage_kind() == StageKind::Disconnect {
            self.departures.in_flight = self.departures.in_flight.saturating_sub(1);
        }
        reopened.into_iter().for_each(|intended| self.fleet.reopen(local, intended));
    }

    // --- bytes ---

    fn received(&mut self, local: u32, id: ConnectionId, buffer: Buffer) {
        let now = self.now();
        if self.window.map_or(0, |window| window.stage + 1) < self.to.control.started() {
            self.follow_phase(now); // another worker may have started sooner, and sent
        }
        let connection = &mut self.fleet.connections[local as usize];
        if self.to.duty.role == Role::Slow && self.window.is_some() {
            return self.held.push(buffer);
        }
        let before = connection.link.stage;
        let mut partial = connection.partial.take();
        let global = self.to.duty.global(local);
        self.scratch.clear();
        let mut inbox = Inbox {
            flows: &mut self.flows,
            counts: &mut self.counts,
            beats: &mut self.stats.beats,
            owed: &mut self.scratch,
            window: self.window,
            receiver: Receiver { local, global, measured: self.to.duty.role == Role::Measured },
            connections: self.to.plan.connections,
            now,
            begun: connection.begun,
            outstanding: connection.outstanding,
            pacemaker: self.pacemaker.as_ref(),
            pulse: &mut connection.pulse,
        };
        let (protocol, link) = (&self.protocol, &mut connection.link);
        let read = |bytes: &mut [u8]| protocol.receive(global, link, bytes, &mut inbox);
        let result = feed(&mut partial, buffer, self.backend.pools(), read);
        connection.outstanding = inbox.outstanding;
        connection.partial = partial;
        let after = connection.link.stage;
        if let Err(violation) = result {
            count(&mut self.counts.violations, violation.0);
            return self.backend.close(id);
        }
        if !self.scratch.is_empty() {
            self.send_scratch(local);
        }
        match (before, after) {
            (Stage::Upgrading, Stage::Authenticating) | (Stage::Authenticating, Stage::Joining) => {
                self.say_hello(local, now)
            }
            (before, Stage::Ready) if before != Stage::Ready => self.became_ready(local, now),
            (Stage::Ready, Stage::Ready) => self.take_turn(local),
            _ => {}
        }
    }

    // --- HTTP ---

    fn answered(&mut self, pusher: usize, id: ConnectionId, buffer: Buffer) {
        let now = self.now();
        let connections = self.to.plan.connections;
        let pusher = &mut self.pushers[pusher];
        pusher.used_at = now;
        let mut partial = pusher.partial.take();
        let (flows, pending) = (&mut self.flows, &mut pusher.pending);
        let mut unasked = 0;
        let each = |code| {
            let Some(request) = pending.pop_front() else {
                unasked += 1;
                return;
            };
            let Some(flow) = flows.get_mut(usize::from(request.flow)) else { return };
            flow.answers.counts.answered += 1;
            if code != 0 {
                flow.refused += 1;
                flow.excused += u64::from(flow.plan.members(request.audience, connections));
            }
            if flow.window.is_some_and(|window| window.contains(request.intended)) {
                record(&mut flow.recorder.answer, now.saturating_sub(request.intended));
            }
        };
        let mut each = each;
        let result =
            feed(&mut partial, buffer, self.backend.pools(), |bytes| read_responses(bytes, &mut each));
        pusher.partial = partial;
        let violation = result.err().map(|violation| violation.0);
        (0..unasked).for_each(|_| count(&mut self.counts.violations, "http_answer_unasked"));
        if let Some(violation) = violation {
            count(&mut self.counts.violations, violation);
            self.backend.close(id);
        }
    }

    /// Requests without an answer may or may not have been executed: their deliveries are not owed.
    fn pusher_closed(&mut self, number: usize, reason: CloseReason) {
        let pusher = &mut self.pushers[number];
        let asked = reason == CloseReason::Local;
        if !pusher.ready && !asked {
            self.counts.network_error = Some(format!("HTTP connection: {}", reason.label()));
        }
        pusher.id = None;
        pusher.ready = false;
        pusher.partial = None;
        let notice = match (asked, pusher.pending.is_empty()) {
            (true, _) => None,
            (false, true) => Some("idle http connection closed"),
            (false, false) => Some("http connection closed before its answers"),
        };
        for request in pusher.pending.drain(..) {
            let Some(flow) = self.flows.get_mut(usize::from(request.flow)) else { continue };
            flow.answers.counts.unanswered += 1;
            flow.excused += u64::from(flow.plan.members(request.audience, self.to.plan.connections));
        }
        notice.into_iter().for_each(|notice| count(&mut self.counts.notices, notice));
    }
}

/// The connection that a receive belongs to.
#[derive(Clone, Copy)]
struct Receiver {
    local: u32,
    global: u32,
    measured: bool,
}

/// Takes the messages of one receive.
struct Inbox<'a> {
    flows: &'a mut [Flow],
    counts: &'a mut WorkerStats,
    beats: &'a mut Beats,
    owed: &'a mut Vec<u8>,
    window: Option<Window>,
    receiver: Receiver,
    connections: u32,
    now: u64,
    begun: u64,
    outstanding: u16,
    pacemaker: Option<&'a Pacemaker>,
    pulse: &'a mut Pulse,
}

impl Inbox<'_> {
    /// Judges a stamped message and counts it.
    fn judge(&mut self, carrier: Carrier, stamp: &Stamp) {
        let Receiver { local, global, .. } = self.receiver;
        let flow = self.flows.get_mut(usize::from(stamp.flow));
        let Some((flow, window)) = flow.and_then(|flow| flow.window.map(|window| (flow, window))) else {
            return count(&mut self.counts.violations, "message_of_no_flow");
        };
        let audience = flow.audience_of(global);
        if flow.checker.check(local, audience, stamp) == Verdict::Refused {
            return;
        }
        let expected = match flow.plan.path {
            Path::Echo => Carrier::Echo(ticket(global, flow.index, stamp.sequence)),
            _ => Carrier::Push(0),
        };
        let broken = match (carrier, expected) {
            (Carrier::Bare | Carrier::Stray, _) => None,
            (Carrier::Echo(found), Carrier::Echo(sequence)) if found == sequence => None,
            (Carrier::Push(found), Carrier::Push(sequence)) if found == sequence => None,
            (Carrier::Echo(_), Carrier::Echo(_)) | (Carrier::Push(_), Carrier::Push(_)) => {
                Some(WRONG_SEQUENCE)
            }
            _ => Some(WRONG_OPERATION),
        };
        broken.into_iter().for_each(|rule| count(&mut self.counts.violations, rule));
        flow.recorder.delivered(self.now, stamp.intended, &window);
        let Some(sender) = flow.sender_of.get(local as usize) else { return };
        let own = flow.senders.get(*sender as usize).is_some_and(|own| own.slot == stamp.slot);
        if own && self.outstanding > 0 {
            self.outstanding -= 1;
            if self.outstanding == 0 {
                flow.idle.push_back(*sender);
            }
        }
    }

    /// Judges a message that came to a connection which comes and goes: it is owed nothing, because
    /// when it is there depends on the server, but gets only what is for it.
    fn judge_guest(&mut self, carrier: Carrier, stamp: &Stamp) {
        let Receiver { local, global, .. } = self.receiver;
        let Some(flow) = self.flows.get_mut(usize::from(stamp.flow)) else { return };
        let rooms = flow.plan.audiences(self.connections).max(1);
        let is_for_it = match flow.plan.kind {
            FlowKind::Broadcast => true,
            FlowKind::Room => stamp.audience == global % rooms,
            FlowKind::Echo | FlowKind::Push | FlowKind::Message => false,
        };
        if !is_for_it || stamp.run != flow.checker.run() {
            return flow.checker.stray(local, stamp);
        }
        match carrier {
            Carrier::Echo(_) => self.broken(WRONG_OPERATION),
            Carrier::Push(sequence) if sequence != 0 => self.broken(WRONG_SEQUENCE),
            Carrier::Bare | Carrier::Push(_) | Carrier::Stray => {}
        }
    }

    fn run(&self) -> u32 {
        self.flows.first().map_or(0, |flow| flow.checker.run())
    }
}

impl Sink for Inbox<'_> {
    fn message(&mut self, carrier: Carrier, payload: &[u8]) {
        let stamp = Stamp::parse(payload);
        let index = stamp.map_or(0, |stamp| usize::from(stamp.flow));
        let Some(flow) = self.flows.get_mut(index) else {
            return count(&mut self.counts.violations, "message_of_no_flow");
        };
        match stamp
            .filter(|_| payload.len() == flow.plan.payload_size && payload[STAMP_SIZE..] == *flow.filler)
        {
            Some(stamp) if self.receiver.measured => self.judge(carrier, &stamp),
            Some(stamp) => self.judge_guest(carrier, &stamp),
            None => flow.checker.damaged(self.receiver.local, payload.len()),
        }
    }

    fn short_echo(&mut self, sequence: u32, size: usize) {
        // goim answers with an empty body: the sequence tells which request is answered.
        let Receiver { local, global, .. } = self.receiver;
        let number = |flow: &Flow| number_of(sequence, global, flow.index);
        let asked = |flow: &&mut Flow| {
            let sender = flow.senders.get(local as usize);
            flow.plan.path == Path::Echo && sender.is_some_and(|sender| number(flow) < sender.next)
        };
        let Some(flow) = self.flows.iter_mut().find(asked) else { return self.broken(UNASKED) };
        if size > 0 {
            return flow.checker.damaged(local, size);
        }
        let number = number(flow);
        let agenda = flow.agenda.as_ref();
        let intended = agenda.map_or(self.begun, |agenda| agenda.intended_round(number, global));
        let (flow, audience) = (flow.index, flow.audience_of(global));
        let run = self.run();
        let stamp = Stamp { run, audience, sequence: number, slot: 0, flow, intended };
        self.judge(Carrier::Bare, &stamp);
    }

    fn publish_reply(&mut self, sequence: u32, accepted: bool) {
        let Receiver { local, global, .. } = self.receiver;
        let publishes =
            |flow: &&mut Flow| matches!(flow.plan.path, Path::Publish | Path::Direct | Path::Service);
        let mut flows = self.flows.iter_mut().filter(publishes);
        let asked = flows.find_map(|flow| {
            let asked = flow.sent_by(local);
            flow.answers.take(local, global, flow.index, sequence, asked).then_some(flow)
        });
        let Some(flow) = asked else { return self.broken(UNASKED) };
        if accepted {
            return;
        }
        count(&mut self.counts.notices, "publication refused");
        flow.refused += 1;
        flow.excused += match flow.plan.path {
            Path::Direct | Path::Service => 1,
            _ => u64::from(flow.plan.members(flow.audience_of(global), self.connections)),
        };
    }

    fn heartbeat_reply(&mut self, sequence: u32) {
        let Receiver { local, global, .. } = self.receiver;
        let number = number_of(sequence, global, BEATS);
        let Some(pacemaker) = self.pacemaker.filter(|_| number < self.pulse.next) else {
            return self.broken(UNASKED);
        };
        match self.counts.beat_gaps.take(local, 0, &mut self.pulse.awaited, number) {
            Arrival::Next | Arrival::Ahead(_) => {}
            Arrival::Late => self.beats.reordered += 1,
            Arrival::Again => return self.beats.duplicated += 1,
        }
        self.beats.answered += 1;
        let Some(window) = self.window else { return };
        self.beats.measured += u64::from(window.contains(self.now));
        let intended = pacemaker.intended(global, number);
        // What an earlier stage asked, and a stalled server answers now, counts where it arrives.
        if window.contains(intended) || (window.stage > 0 && intended < window.traffic_start) {
            record(&mut self.beats.latency, self.now.saturating_sub(intended));
        }
    }

    fn broken(&mut self, rule: &'static str) {
        count(&mut self.counts.violations, rule);
    }

    fn notice(&mut self, notice: Notice) {
        // Pings and refusals come as often as messages: nothing is allocated for one that is known.
        let mut line = [0; 40];
        let mut rest = &mut line[..];
        let written = match notice {
            Notice::Closing(code) => write!(rest, "server closes with code {code}"),
            Notice::Refused(code) => write!(rest, "request refused with code {code}"),
            Notice::Reconnect => write!(rest, "server asks to reconnect"),
            Notice::Ping => write!(rest, "websocket ping"),
        };
        let size = 40 - rest.len();
        debug_assert!(written.is_ok(), "the longest line has 33 bytes");
        count(&mut self.counts.notices, std::str::from_utf8(&line[..size]).unwrap_or_default());
    }

    fn owe(&mut self, bytes: &[u8]) {
        self.owed.extend_from_slice(bytes);
    }
}
