//! The end of a worker: nobody leaves while another may still want something of it.
//!
//! A worker is a home for the names of others' connections, so it goes on with its turns after its own connections are
//! gone. Two words are exchanged, and messages between two workers keep their order:
//!
//! 1. "I have no connection": no request follows from this host.
//! 2. "I have heard that of all": no answer follows from this home.
//!
//! Who has heard both words of all others has an empty mailbox for good and empty tables. A worker that died says
//! nothing; the others wait for it for [`PATIENCE`]. The verifier answers each token that it was given, so a worker also waits
//! for the verdicts that are due, although their connections are gone.

use super::Worker;
use crate::message::{Message, Word};
use netpoll::{Backend, Timestamp};
use std::time::Duration;

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a stopping worker is.
#[derive(Debug, Default)]
pub(super) struct Parting {
    since: Option<Timestamp>,
    /// Words said.
    said: u8,
    /// Workers that have said each word.
    heard: [usize; 2],
}

impl<B: Backend> Worker<B> {
    pub(crate) fn is_stopping(&self) -> bool {
        self.parting.since.is_some()
    }

    /// Closes everything; the end comes when the other workers have done so too.
    pub(crate) fn stop(&mut self) {
        self.parting.since.get_or_insert(self.pace.now);
        self.backend.close_listeners();
        self.shard.fanouts.hurry();
        for index in 0..self.shard.sessions.slots() {
            if let Some(connection) = self.shard.sessions.at(index).map(|session| session.connection) {
                self.backend.close(connection); // its `Closed` gives up what it holds, and is audited
            }
        }
    }

    /// Another worker has said a word.
    pub(crate) fn parting_heard(&mut self, word: Word) {
        self.parting.heard[word as usize] += 1;
    }

    /// Says what can be said at the end of this turn; true when this was the last one.
    pub(super) fn part_from_others(&mut self) -> bool {
        let Some(since) = self.parting.since else { return false };
        if self.backend.connection_count() > 0 {
            return false;
        }
        let others = self.post.workers() - 1;
        let is_done = |worker: &Self| {
            let shard = &worker.shard;
            !worker.post.has_local()
                && !shard.rooms.has_changes()
                && shard.sums.is_empty()
                && worker.verdicts.due() == 0
        };
        if self.parting.said == 0 && is_done(self) {
            self.say_to_others(Word::NoConnection);
        }
        if self.parting.said == 1 && self.parting.heard[0] >= others && is_done(self) {
            self.say_to_others(Word::NothingMore);
        }
        let complete = self.parting.said == 2
            && self.parting.heard[1] >= others
            && is_done(self)
            && self.shard.fanouts.is_empty()
            && !self.post.has_waiting();
        complete || self.pace.now >= since + PATIENCE
    }

    fn say_to_others(&mut self, word: Word) {
        self.parting.said += 1;
        for worker in (0..self.post.workers() as u8).map(crate::address::WorkerId) {
            if worker != self.post.me() {
                self.post.send(worker, Message::Parting(word));
            }
        }
    }
}
