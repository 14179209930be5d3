//! The verifier of tokens, as one more thing that has its turns now and then: its thread's code,
//! without the thread.

use crate::tokens;
use crate::world::World;
use gateway_auth::{Lane, lanes};
use gateway_core::message::{Message, VerifySender, verify_queue};

/// The verifier and what it could not hand over yet.
pub struct Verifier {
    lane: Lane,
    pub sender: VerifySender,
    /// A verdict for a worker whose mailbox was full; the thread waits with it.
    held: Option<(usize, Message)>,
}

impl Verifier {
    pub fn new(queue_requests_max: usize) -> Verifier {
        let (sender, queue) = verify_queue(1, queue_requests_max).expect("a descriptor");
        let mut lanes = lanes(queue, tokens::policy(queue_requests_max)).expect("pools");
        Verifier { lane: lanes.remove(0), sender, held: None }
    }

    pub fn is_at_rest(&self) -> bool {
        self.sender.is_empty() && self.held.is_none()
    }

    /// Whether nothing of its memory is out.
    pub fn is_unused(&mut self) -> bool {
        self.held.is_none() && self.lane.is_unused()
    }
}

impl World {
    /// Now and then it has looked at another token.
    pub fn verifier_turn(&mut self) {
        let now_ms = self.unix_ms();
        let Some(verifier) = &mut self.verifier else { return };
        if verifier.is_at_rest() || !self.rng.chance(0.3) {
            return;
        }
        let next = verifier.held.take().or_else(|| {
            let (worker, verdict) = verifier.lane.next_verdict(now_ms)?;
            self.tally.verdicts += 1;
            Some((worker.index(), Message::Verified(verdict)))
        });
        let Some((worker, message)) = next else { return };
        verifier.held = self.shards[worker].sender.send(message).err().map(|message| (worker, message));
        self.note_mail();
    }

    /// Drops what waits for workers that have stopped: their threads are gone, and so is the
    /// verifier's.
    pub fn stop_verifier(&mut self) {
        let Some(verifier) = &mut self.verifier else { return };
        verifier.held = None;
        while verifier.lane.next_verdict(0).is_some() {}
    }
}
