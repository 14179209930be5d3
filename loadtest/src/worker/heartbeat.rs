//! What timers are for: connects that take too long, and heartbeats.

use super::Worker;
use crate::client::{Protocol, Stage};
use netpoll::{Backend, SendError, Timestamp};

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// Connection `local` is ready: its first heartbeat comes at its own place within the interval, so that those of
    /// many connections are spread evenly.
    pub(super) fn arm_heartbeat(&mut self, local: u32, now: u64) {
        let (Some(every), true) = (self.to.plan.heartbeat, self.beat.is_some()) else { return };
        let spread = (local % 997 + 1) as f64 / 997.0;
        self.fleet.timers.set(local as usize, Timestamp::from_nanos(now) + every.mul_f64(spread));
    }

    pub(super) fn expire_timers(&mut self, now: u64) {
        let mut left = 512;
        while let Some(index) = self.fleet.timers.expire(Timestamp::from_nanos(now)) {
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
        if self.window.is_some_and(|window| now >= window.end) {
            return; // what was sent is to be answered; nothing new
        }
        self.fleet.timers.set(index, Timestamp::from_nanos(now) + every);
        let Some(mut buffer) = self.backend.pools().take(beat.size()) else {
            self.odds.stalls += 1;
            return;
        };
        beat.write_plain(buffer.spare_mut());
        buffer.set_len(beat.size());
        match self.backend.send(id, buffer.freeze()) {
            Ok(()) => {
                self.fleet.connections[index].beat_sent = now.max(1);
                self.odds.beats_sent += 1;
            }
            Err(SendError::Full(_) | SendError::Closed(_)) => self.odds.stalls += 1,
        }
    }
}
