//! Races for a room whose home is behind: it has no turns for a while, its mailbox is full, and
//! services have more for it.
//!
//! What a host tells the home then waits in the host's post, while answers to earlier words are
//! under way. Whoever is told now that it has entered, and is not known at the home, misses the
//! push that comes in this very moment.

use crate::model::Target;
use crate::note;
use crate::world::World;
use std::time::Duration;

impl World {
    /// A client enters, leaves and enters again, or a new one logs in, while the room's home is
    /// behind.
    pub fn race(&mut self) {
        let room = self.rng.below(self.plan.rooms);
        let home = self.room_name(room).home(self.shards.len()).index();
        self.contested = Some(room);
        note!(self, "race for room {room}, whose home is worker {home}");
        let micros = [100, 1000, 5000][self.rng.below(3)];
        let time = Duration::from_micros(1 + self.rng.below(micros) as u64);
        self.stall_for(home, time);
        let usable: Vec<usize> = (0..self.clients.len()).filter(|id| self.clients[*id].is_usable()).collect();
        let size = 2 + self.rng.below(20);
        if usable.is_empty() || self.rng.chance(0.5) {
            self.flood(room, size);
            return self.connect_to(Some(room));
        }
        let id = usable[self.rng.below(usable.len())];
        let ahead = self.rng.below(2);
        self.flood(room, ahead);
        let first_leaves = self.clients[id].is_possibly_in(room);
        for step in 0..3 {
            // One that has ended meanwhile says nothing more.
            if !self.clients[id].is_usable() {
                break;
            }
            if (step % 2 == 0) == first_leaves {
                self.leave(id, room);
            } else {
                self.join(id, room);
            }
            (0..2 + self.rng.below(25)).for_each(|_| self.tick());
        }
        if first_leaves && self.clients[id].is_usable() {
            self.join(id, room);
        }
        self.flood(room, size);
        // It answers what it knows by now, and falls behind again.
        self.await_turn(home);
        self.stall_for(home, Duration::from_millis(3));
    }

    /// Ticks until the worker has had a turn, if it has one soon.
    fn await_turn(&mut self, worker: usize) {
        let turns = |world: &World| world.shards[worker].metrics.turns.get();
        let before = turns(self);
        for _ in 0..300 {
            if turns(self) > before {
                return;
            }
            self.tick();
        }
    }

    /// So many pushes to the room.
    pub fn flood(&mut self, room: usize, count: usize) {
        (0..count).for_each(|_| self.push(Target::Room(room)));
    }
}
