//! Sending the operations that are due.

use super::Worker;
use super::flow::Flow;
use crate::client::template::Patch;
use crate::client::{Protocol, Stage};
use crate::http::{Pending, Request};
use crate::numbers::ticket;
use crate::plan::{Pace, Path, Route};
use crate::stamp::Stamp;
use netpoll::Backend;

/// At most so many operations of one flow per turn: then the sockets are served.
const BURST_MAX: usize = 256;

/// The result of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Sent,
    /// Later: the generator's own memory or its pipeline is full. The intended time stays.
    Stalled,
    /// Never: the connection is gone, or its queue is full because its peer does not read.
    Skipped,
}

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// Sends what is due on all flows; true when more could be sent at once.
    pub(super) fn send_operations(&mut self) -> bool {
        let mut behind = false;
        let Some(stage) = self.window.map(|window| window.stage) else { return false };
        for index in 0..self.flows.len() {
            if self.flows[index].plan.stage != stage || self.flows[index].senders.is_empty() {
                continue;
            }
            behind |= match (&self.flows[index].plan.pace, self.flows[index].plan.path) {
                (Pace::Open { .. }, _) => self.send_by_the_clock(index),
                (&Pace::Closed { depth }, Path::Http(_)) => self.push_in_a_loop(index, depth),
                (&Pace::Closed { depth }, _) => self.send_waves(index, depth),
            };
        }
        behind
    }

    fn send_by_the_clock(&mut self, index: usize) -> bool {
        let Some(window) = self.window else { return false };
        self.flows[index].room.is_missing = false;
        for _ in 0..BURST_MAX {
            let flow = &self.flows[index];
            let Some(intended) = flow.next_due() else { return false };
            let now = self.now();
            if intended > now || intended >= window.end {
                return false;
            }
            match self.send_one(index, self.flows[index].cursor, intended, now) {
                Attempt::Stalled => {
                    self.counts.stalls += 1;
                    self.flows[index].room.missing(now);
                    return false;
                }
                Attempt::Sent => {}
                Attempt::Skipped => self.skip(index),
            }
            self.flows[index].advance();
        }
        true
    }

    /// Skips an operation that will never be sent: its deliveries are not owed.
    fn skip(&mut self, index: usize) {
        let connections = self.to.plan.connections;
        let flow = &mut self.flows[index];
        let members = flow.plan.members(flow.senders[flow.cursor].audience, connections);
        flow.not_sent += 1;
        flow.excused += u64::from(members);
        flow.recorder.owed += u64::from(members);
    }

    fn send_one(&mut self, index: usize, sender: usize, intended: u64, now: u64) -> Attempt {
        match self.flows[index].plan.path {
            Path::Http(route) => self.push_one(index, sender, route, intended, now),
            Path::Echo | Path::Publish | Path::Direct | Path::Service => {
                self.send_wave(index, sender, 1, intended, now)
            }
        }
    }

    // --- over the connections themselves ---

    fn send_waves(&mut self, index: usize, depth: u16) -> bool {
        let Some(window) = self.window else { return false };
        for _ in 0..BURST_MAX {
            let Some(sender) = self.flows[index].idle.front().copied() else { return false };
            let now = self.now();
            if now < window.traffic_start || now >= window.end {
                return false;
            }
            match self.send_wave(index, sender as usize, depth, now, now) {
                Attempt::Stalled => {
                    self.counts.stalls += 1;
                    return false;
                }
                Attempt::Sent | Attempt::Skipped => self.flows[index].idle.pop_front(),
            };
        }
        true
    }

    /// `depth` messages of one sender in one write.
    fn send_wave(&mut self, index: usize, sender: usize, depth: u16, intended: u64, now: u64) -> Attempt {
        let flow = &mut self.flows[index];
        let from = flow.senders[sender];
        let connection = &mut self.fleet.connections[from.local as usize];
        let (Some(id), Stage::Ready) = (connection.id, connection.link.stage) else {
            return Attempt::Skipped;
        };
        let size = flow.template.size();
        let Some(mut buffer) = self.backend.pools().take(size * usize::from(depth)) else {
            return Attempt::Stalled;
        };
        let (global, first) = (self.to.duty.global(from.local), from.next);
        for (number, frame) in buffer.spare_mut().chunks_exact_mut(size).take(usize::from(depth)).enumerate()
        {
            let sequence = first + number as u32;
            // Services have many receivers in turn, and so no sequence of their own.
            let asked = if flow.plan.path == Path::Service { flow.answers.quiet } else { sequence };
            let header = ticket(global, flow.index, asked);
            let stamp = stamp(self.to.plan.run, flow, from.audience, from.slot, sequence, intended);
            let user = self.to.plan.identity.first_mid + i64::from(from.audience);
            flow.template.write(frame, &Patch { stamp, sequence: header, room: from.audience, user });
        }
        buffer.set_len(size * usize::from(depth));
        if self.backend.send(id, buffer.freeze()).is_err() {
            return Attempt::Skipped;
        }
        connection.begun = intended;
        flow.answers.quiet += u32::from(flow.plan.path == Path::Service);
        let members = u64::from(flow.plan.members(from.audience, self.to.plan.connections));
        if !flow.sender_of.is_empty() {
            connection.outstanding = depth;
            flow.senders[sender].next += u32::from(depth);
        }
        if let Some(window) = &self.window {
            let ready = flow.room.found(intended, now);
            (0..depth).for_each(|_| flow.recorder.sent(now, (intended, ready), members, window));
        }
        Attempt::Sent
    }

    // --- over HTTP ---

    fn push_in_a_loop(&mut self, index: usize, depth: u16) -> bool {
        let Some(window) = self.window else { return false };
        for _ in 0..BURST_MAX {
            let flow = &self.flows[index];
            let cursor = flow.cursor;
            let pusher = &self.pushers[flow.senders[cursor].local as usize];
            let now = self.now();
            if now < window.traffic_start || now >= window.end || pusher.pending.len() >= usize::from(depth) {
                return false;
            }
            if self.send_one(index, cursor, now, now) != Attempt::Sent {
                return false;
            }
            self.flows[index].advance();
        }
        true
    }

    fn push_one(&mut self, index: usize, sender: usize, route: Route, intended: u64, now: u64) -> Attempt {
        let plan = &*self.to.plan;
        let flow = &mut self.flows[index];
        let from = flow.senders[sender];
        let pusher = &mut self.pushers[from.local as usize];
        let (Some(id), true, true) = (pusher.id, pusher.ready, pusher.has_room()) else {
            return Attempt::Stalled;
        };
        let members = flow.plan.members(from.audience, plan.connections);
        let by_user = matches!(route, Route::Mids | Route::Keys);
        let request = Request {
            route,
            host: &plan.endpoints.http_name,
            operation: plan.identity.push_operation,
            room_type: &plan.identity.room_type,
            run: plan.run,
            first_mid: plan.identity.first_mid,
            first: if by_user { from.audience * flow.plan.audience_size } else { from.audience },
            count: if by_user { members } else { 0 },
        };
        let payload_size = flow.plan.payload_size;
        let Some(mut buffer) = self.backend.pools().take(request.head_size_max() + payload_size) else {
            return Attempt::Stalled;
        };
        let Some(head) = request.write_head(payload_size, buffer.spare_mut()) else {
            return Attempt::Skipped;
        };
        buffer.set_len(head);
        let stamp = stamp(plan.run, flow, from.audience, from.slot, from.next, intended);
        buffer.append(&stamp.to_bytes());
        buffer.append(&flow.filler);
        if self.backend.send(id, buffer.freeze()).is_err() {
            return Attempt::Stalled;
        }
        pusher.pending.push_back(Pending { flow: flow.index, audience: from.audience, intended });
        pusher.used_at = now;
        if let Some(window) = &self.window {
            let ready = flow.room.found(intended, now);
            flow.recorder.sent(now, (intended, ready), u64::from(members), window);
        }
        Attempt::Sent
    }
}

fn stamp(run: u32, flow: &Flow, audience: u32, slot: u16, sequence: u32, intended: u64) -> Stamp {
    Stamp { run, audience, sequence, slot, flow: flow.index, intended }
}
