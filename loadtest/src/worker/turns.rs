//! The turns of connections that come and go: which connection, and when.

use crate::permutation::Permutation;
use crate::schedule::Schedule;

/// The key of the shuffle.
const SHUFFLE: u32 = 0x6368_7572;

/// The turns of one worker in one stage.
#[derive(Debug)]
pub(super) struct Turns {
    schedule: Schedule,
    shuffle: Permutation,
    connections: u32,
    /// The worker's place among all, and their number.
    own: u64,
    step: u64,
    /// Turns that are due.
    due: u64,
    /// Turns of each connection that have begun.
    pub(super) begun: Vec<u32>,
}

impl Turns {
    /// The turns of a worker that is `own` of `step`.
    pub(super) fn new(schedule: Schedule, connections: u32, own: u64, step: u64) -> Turns {
        let shuffle = Permutation::new(connections, SHUFFLE);
        let begun = vec![0; connections as usize];
        Turns { schedule, shuffle, connections, own, step, due: 0, begun }
    }

    fn intended(&self, turn: u64) -> u64 {
        self.schedule.intended(turn * self.step + self.own)
    }

    /// When the next turn is due.
    pub(super) fn next(&self) -> Option<u64> {
        (self.connections > 0).then(|| self.intended(self.due))
    }

    /// Makes the next turn due; returns its connection.
    pub(super) fn take(&mut self) -> u32 {
        let place = (self.due % u64::from(self.connections)) as u32;
        self.due += 1;
        self.shuffle.at(place)
    }

    /// When the next turn of connection `local` was intended, if one is due.
    pub(super) fn next_of(&self, local: u32) -> Option<u64> {
        let rounds = u64::from(*self.begun.get(local as usize)?);
        let turn = u64::from(self.shuffle.inverse(local)) + rounds * u64::from(self.connections);
        (turn < self.due).then(|| self.intended(turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Rate;

    #[test]
    fn every_turn_has_one_connection_and_its_own_time() {
        let schedule = Schedule::new(1000, Rate::new(100.0).unwrap());
        let mut turns = Turns::new(schedule, 7, 1, 2);
        let taken: Vec<u32> = (0..30).map(|_| turns.take()).collect();
        assert!((0..7).all(|local| taken.iter().filter(|one| **one == local).count() >= 4));
        let mut found = Vec::new();
        for local in 0..7 {
            while let Some(intended) = turns.next_of(local) {
                turns.begun[local as usize] += 1;
                found.push(intended);
            }
        }
        found.sort_unstable();
        // This worker has every other turn of a hundred a second.
        assert_eq!(found, (0..30).map(|turn| 1000 + 10_000_000 * (2 * turn + 1)).collect::<Vec<u64>>());
    }
}
