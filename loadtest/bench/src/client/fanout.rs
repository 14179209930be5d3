//! Fan-out: connection 0 sends a message to all others; when all have received it, the next.

use super::echo::difference;
use super::fleet::{Arrival, Fleet};
use super::window::{Measured, Watch};
use super::{Line, Probe, Problem, Protocol, Window};
use std::time::{Duration, Instant};

/// How long one message may take to all.
const ROUND_WITHIN: Duration = Duration::from_secs(10);

struct FanOut {
    protocol: Protocol,
    size: usize,
    /// By connection: bytes of the present round that have arrived.
    offsets: Vec<u32>,
    /// What each receiver must receive in this round, and what the sender must.
    delivery: Vec<u8>,
    reply: Vec<u8>,
    round: u64,
    sent_at: Instant,
    /// Connections that have not received everything of this round.
    waiting: usize,
    watch: Watch,
}

/// Measures messages of `size` bytes from the fleet's first connection to all others.
///
/// # Errors
/// [`Problem`], for example a delivery that is lost, doubled or wrong.
pub fn fan_out<L: Line>(
    fleet: &mut Fleet<L>,
    protocol: Protocol,
    size: usize,
    window: Window,
    probe: Probe,
) -> Result<Measured, Problem> {
    let mut state = FanOut {
        protocol,
        size,
        offsets: vec![0; fleet.ids.len()],
        delivery: vec![],
        reply: vec![],
        round: 0,
        sent_at: Instant::now(),
        waiting: 0,
        watch: Watch::new(probe)?,
    };
    state.watch.arm(window);
    loop {
        state.begin_round(fleet)?;
        while state.waiting > 0 {
            fleet.turn(Duration::from_millis(100), |_, _, arrival| state.arrived(arrival))?;
            if state.sent_at.elapsed() > ROUND_WITHIN {
                return Err(Problem(format!("{} connections wait for a message in vain", state.waiting)));
            }
        }
        if let Some(measured) = state.watch.tick(&mut fleet.line)? {
            return Ok(measured);
        }
    }
}

impl FanOut {
    fn begin_round<L: Line>(&mut self, fleet: &mut Fleet<L>) -> Result<(), Problem> {
        self.round += 1;
        let mut payload: Vec<u8> = (0..self.size).map(|at| at as u8).collect();
        payload[..8].copy_from_slice(&self.round.to_be_bytes());
        let receivers = self.offsets.len() - 1;
        let (request, delivery, reply) = self.protocol.fan_out(&payload, receivers as u32);
        self.waiting = receivers + usize::from(!reply.is_empty());
        (self.delivery, self.reply) = (delivery, reply);
        self.offsets.fill(0);
        self.sent_at = Instant::now();
        let request = fleet.prepare(&request)?;
        fleet.send(0, request)
    }

    fn arrived(&mut self, arrival: Arrival) -> Result<(), Problem> {
        let Arrival { number, at, buffer } = arrival;
        let expected = if number == 0 { &self.reply } else { &self.delivery };
        let begin = self.offsets[number] as usize;
        let end = begin + buffer.len();
        if expected.get(begin..end) != Some(buffer.as_slice()) {
            let problem = difference(&expected[begin.min(expected.len())..], buffer.as_slice());
            return Err(Problem(format!(
                "connection {number}, round {}, byte {begin}: {problem}",
                self.round
            )));
        }
        self.offsets[number] = end as u32;
        if end == expected.len() {
            self.waiting -= 1;
            if number > 0 {
                self.watch.record(1, at - self.sent_at);
            }
        }
        Ok(())
    }
}
