//! Clients of the echo listener: what they say comes back whole, in order, and as the kind of
//! message that it was.

use crate::clients::{Fate, Phase};
use crate::note;
use crate::wire::{self, Said};
use crate::world::World;

impl World {
    /// An echo client says something: text or binary, in fragments now and then.
    pub fn echo(&mut self) {
        let talking = |id: &usize| {
            let client = &self.clients[*id];
            client.phase == Phase::Echoing && client.is_well()
        };
        let all: Vec<usize> = (0..self.clients.len()).filter(talking).collect();
        if all.is_empty() {
            return;
        }
        let id = all[self.rng.below(all.len())];
        if self.rng.chance(0.05) {
            return self.disconnect(id);
        }
        let size_max = [1, 100, 2000, 4000][self.rng.below(4)];
        let size = self.rng.below(size_max);
        let text = self.rng.chance(0.5);
        let payload: Vec<u8> = if text {
            // Characters of two bytes, so that cuts fall into them.
            (0..size / 2)
                .flat_map(|at| if (at + id).is_multiple_of(3) { [0xc3, 0xa9] } else { *b"ab" })
                .collect()
        } else {
            (0..size).map(|at| (at * 7 + id) as u8).collect()
        };
        let opcode = if text { wire::TEXT } else { wire::BINARY };
        note!(self, "client {id} says {} B to the echo, text: {text}", payload.len());
        self.clients[id].echoes.push_back((opcode, payload.clone()));
        self.say_message(id, opcode, &payload);
    }

    /// What came back.
    pub fn echoed(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let client = &mut self.clients[id];
        let expected = client.echoes.pop_front();
        let Some((said, message)) = expected else {
            panic!("echo: client {id} heard {} B ({opcode}), and had said nothing", payload.len());
        };
        let same = (said, &message[..]) == (opcode, payload);
        assert!(
            same,
            "echo: client {id} said {} B ({said}), heard {} B ({opcode})",
            message.len(),
            payload.len()
        );
        self.tally.echoes += 1;
    }

    /// Whole messages of the echo, as they came.
    pub fn take_echoes(&mut self, id: usize) {
        let mut said = std::collections::VecDeque::new();
        wire::take_messages(&mut self.clients[id].input, &mut said);
        for said in said {
            match said {
                Said::Message(opcode, payload) => self.echoed(id, opcode, &payload),
                said => self.said(id, said),
            }
        }
    }

    /// Whether the client is an echo with nothing under way.
    pub fn echo_rests(client: &crate::clients::Client) -> bool {
        client.is_well() && client.fate == Fate::None && client.output.is_empty() && client.echoes.is_empty()
    }
}
