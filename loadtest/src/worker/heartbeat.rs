//! Timers: connects that take too long, and heartbeats.

use super::Worker;
use crate::client::{Protocol, Stage};
use crate::plan::{Role, StageKind};
use netpoll::{Backend, SendError};
use std::time::Duration;

/// When connection `global` sends its next heartbeat after `now`. Its place within the interval
/// follows from its number alone (multiples of the golden ratio fill an interval evenly), not from
/// when it connected. So any time sees as many heartbeats as any other, from the first on, and a
/// storm of reconnects does not become a storm of heartbeats.
fn next_beat(global: u32, every: Duration, now: u64) -> u64 {
    let every = every.as_nanos() as u64;
    let place = u64::from(global).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let phase = ((u128::from(place) * u128::from(every)) >> 64) as u64;
    let since = (now + every - phase) % every;
    now + every - since
}

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// Starts the heartbeats of connection `local`, which is ready, at its own place within each
    /// interval.
    pub(super) fn arm_heartbeat(&mut self, local: u32, now: u64) {
        // A connection that does not read receives no answers, and a server has to bear that as
        // long as its idle limit says.
        let beats = self.beat.is_some() && self.to.duty.role != Role::Slow;
        let (Some(every), true) = (self.to.plan.heartbeat, beats) else { return };
        let due = next_beat(self.to.duty.global(local), every, now);
        self.fleet.set_timer(local as usize, due);
    }

    /// Whether all connections are being opened, and the first was less than a quarter of an
    /// interval ago: clients that have just logged in send no heartbeat. From then on all send
    /// evenly, as if they had come at any time. So the longest silence after a login is an interval
    /// and a quarter.
    fn all_came_lately(&self, every: Duration, now: u64) -> bool {
        let coming = self.window.is_none() || self.stage_kind() == StageKind::Reconnect;
        coming && now < self.fleet.stats.first_started + every.as_nanos() as u64 / 4
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
                (Stage::Ready, Some(id)) => self.send_heartbeat(index, id, now),
                (Stage::Closed, _) | (_, None) => {}
                // Not ready in time; the Closed that follows is counted as a failed attempt.
                (_, Some(id)) => self.backend.close(id),
            }
            left -= 1;
            if left == 0 {
                return; // what is due stays due
            }
        }
    }

    fn send_heartbeat(&mut self, index: usize, id: netpoll::ConnectionId, now: u64) {
        let (Some(every), Some(beat)) = (self.to.plan.heartbeat, &self.beat) else { return };
        if self.beats_are_over(now) {
            return; // what was sent is to be answered; nothing new
        }
        let due = next_beat(self.to.duty.global(index as u32), every, now);
        self.fleet.set_timer(index, due);
        if self.all_came_lately(every, now) {
            return;
        }
        let Some(mut buffer) = self.backend.pools().take(beat.size()) else {
            self.counts.stalls += 1;
            return;
        };
        beat.write_plain(buffer.spare_mut());
        buffer.set_len(beat.size());
        match self.backend.send(id, buffer.freeze()) {
            Ok(()) => {
                self.fleet.connections[index].beat_sent = now.max(1);
                self.stats.beats.sent += 1;
            }
            Err(SendError::Full(_) | SendError::Exhausted(_) | SendError::Closed(_)) => {
                self.counts.stalls += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_even_whenever_the_connections_came() {
        let every = Duration::from_secs(240);
        let second = |at: u64| at * 1_000_000_000;
        // 24 000 connections come within five seconds; then each second sees 100 heartbeats, from
        // the first one on.
        let came = |global: u32| u64::from(global) * second(5) / 24_000;
        for from in [6, 100, 240, 500] {
            let window = second(from)..second(from + 1);
            let beats = (0..24_000).filter(|global| {
                let mut due = next_beat(*global, every, came(*global));
                while due < window.start {
                    due = next_beat(*global, every, due);
                }
                window.contains(&due)
            });
            let count = beats.count();
            assert!((97..=103).contains(&count), "{count} beats in second {from}");
        }
    }
}
