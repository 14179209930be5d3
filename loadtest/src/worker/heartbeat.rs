//! Timers: connects that take too long, and heartbeats.

use super::Worker;
use super::fleet::Pulse;
use crate::client::{Protocol, Stage};
use crate::numbers::{BEATS, ticket};
use crate::plan::{Role, StageKind};
use netpoll::{Backend, SendError};

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// Starts the heartbeats of connection `local`, which is ready, at its own place within each
    /// interval.
    pub(super) fn arm_heartbeat(&mut self, local: u32, now: u64) {
        // A connection that does not read receives no answers, and a server has to bear that as
        // long as its idle limit says.
        let beats = self.to.duty.role != Role::Slow;
        let (Some(pacemaker), true) = (&self.pacemaker, beats) else { return };
        let global = self.to.duty.global(local);
        let first = pacemaker.first_after(global, now);
        let due = pacemaker.nominal(global, first);
        self.fleet.connections[local as usize].pulse = Pulse { next: first, awaited: first };
        self.fleet.set_timer(local as usize, due);
    }

    /// Whether all connections are being opened, and the first was less than a quarter of an
    /// interval ago: clients that have just logged in send no heartbeat. From then on all send
    /// evenly, as if they had come at any time. So the longest silence after a login is an interval
    /// and a quarter.
    fn all_came_lately(&self, now: u64) -> bool {
        let coming = self.window.is_none() || self.stage_kind() == StageKind::Reconnect;
        let quarter = self.pacemaker.as_ref().map_or(0, |pacemaker| pacemaker.every / 4);
        coming && now < self.fleet.stats.first_started + quarter
    }

    /// Whether no new heartbeat is to be sent: the last stage has ended.
    pub(super) fn beats_are_over(&self, now: u64) -> bool {
        self.window.is_some_and(|window| now >= window.end && self.to.plan.is_last(window.stage))
    }

    /// Heartbeats that wait for their answer.
    pub(super) fn beats_unanswered(&self) -> u64 {
        let all = self.finished.iter().chain([&self.stats]).map(|stats| &stats.beats);
        let (sent, done) =
            all.fold((0, 0), |(sent, done), beats| (sent + beats.sent, done + beats.answered + beats.void));
        sent.saturating_sub(done)
    }

    pub(super) fn expire_timers(&mut self, now: u64) {
        let mut left = 512;
        while let Some(index) = self.fleet.take_expired(now) {
            let connection = &self.fleet.connections[index];
            match (connection.link.stage, connection.id) {
                (Stage::Ready, Some(id)) => self.send_heartbeats(index, id, now),
                (Stage::Closed | Stage::Leaving, _) | (_, None) => {}
                // Not ready in time; the Closed that follows is counted as a failed attempt.
                (_, Some(id)) => self.backend.close(id),
            }
            left -= 1;
            if left == 0 {
                return; // what is due stays due
            }
        }
    }

    /// Sends what connection `index` is due to send: after a stall several, each with its own time.
    fn send_heartbeats(&mut self, index: usize, id: netpoll::ConnectionId, now: u64) {
        let Some(pacemaker) = &self.pacemaker else { return };
        if self.beats_are_over(now) {
            return; // what was sent is to be answered; nothing new
        }
        let global = self.to.duty.global(index as u32);
        let mut pulse = self.fleet.connections[index].pulse;
        if self.all_came_lately(now) && pulse.under_way() == 0 {
            let next = pacemaker.first_after(global, now);
            pulse = Pulse { next, awaited: next };
        }
        let size = pacemaker.template.size();
        let mut due = pacemaker.nominal(global, pulse.next);
        while pacemaker.ticks.after(due) <= now {
            let sent = self.backend.pools().take(size).map(|mut buffer| {
                let sequence = ticket(global, BEATS, pulse.next);
                pacemaker.template.write_numbered(buffer.spare_mut(), sequence);
                buffer.set_len(size);
                self.backend.send(id, buffer.freeze())
            });
            match sent {
                Some(Ok(())) => {
                    self.stats.beats.sent += 1;
                    pulse.next += 1;
                    due = pacemaker.nominal(global, pulse.next);
                }
                Some(Err(SendError::Closed(_))) => return,
                None | Some(Err(SendError::Full(_) | SendError::Exhausted(_))) => {
                    // The heartbeat stays due, and is late.
                    self.counts.stalls += 1;
                    due = now;
                    break;
                }
            }
        }
        self.fleet.connections[index].pulse = pulse;
        self.fleet.set_timer(index, due);
    }
}
