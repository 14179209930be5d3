//! The promises of the seam, checked completion by completion.

use netpoll::{CloseReason, Completion, ConnectionId};
use std::collections::{BTreeMap, HashSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
}

/// What one backend has reported, and what it may therefore report next.
///
/// Invariants: no two live ids share a slot; an id is announced at most once in the backend's life;
/// `opened == closed + live + away`.
#[derive(Debug, Default)]
pub struct Ledger {
    live: BTreeMap<ConnectionId, Stage>,
    /// Released, and not adopted since.
    away: BTreeMap<ConnectionId, Stage>,
    /// The peer's end was reported.
    half_closed: HashSet<ConnectionId>,
    slots: HashSet<usize>,
    ever: HashSet<ConnectionId>,
    opened: u64,
    closed: u64,
}

impl Ledger {
    /// A ledger without entries.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Notes that `Backend::connect` gave `id`.
    ///
    /// # Panics
    /// If the id or its slot is in use, or the id was given before.
    pub fn connecting(&mut self, id: ConnectionId) {
        self.announce(id, Stage::Connecting);
    }

    /// Checks one completion against everything before it.
    ///
    /// # Panics
    /// If a promise of the seam is broken.
    pub fn observe(&mut self, completion: &Completion) {
        match completion {
            Completion::Accepted { connection, .. } => self.announce(*connection, Stage::Open),
            Completion::Connected { connection } => {
                let before = self.live.insert(*connection, Stage::Open);
                assert_eq!(before, Some(Stage::Connecting), "{connection:?}: Connected without connect");
            }
            Completion::Received { connection, buffer } => {
                self.must_be_open(*connection, "Received");
                assert!(!buffer.is_empty(), "{connection:?}: Received nothing");
                assert!(!self.half_closed.contains(connection), "{connection:?}: Received behind the end");
            }
            Completion::PeerFinished { connection } => {
                self.must_be_open(*connection, "PeerFinished");
                assert!(self.half_closed.insert(*connection), "{connection:?}: PeerFinished twice");
            }
            Completion::Sent { connection } => self.must_be_open(*connection, "Sent"),
            Completion::Closed { connection, reason } => self.close(*connection, *reason),
        }
        let unclosed = self.live.len() + self.away.len();
        assert_eq!(self.opened, self.closed + unclosed as u64, "each opening has one Closed");
    }

    /// Notes that the owner released `id`: nothing may be reported about it from now on.
    ///
    /// # Panics
    /// If it is not live.
    pub fn released(&mut self, id: ConnectionId) {
        let stage = self.live.remove(&id);
        self.away.extend(stage.map(|stage| (id, stage)));
        assert!(self.slots.remove(&id.index()) && stage.is_some(), "{id:?}: released while not live");
    }

    /// Notes that the owner adopted `id`, which it had released.
    ///
    /// # Panics
    /// If it had not, or the slot is in use.
    pub fn adopted(&mut self, id: ConnectionId) {
        let stage = self.away.remove(&id);
        self.live.extend(stage.map(|stage| (id, stage)));
        assert!(self.slots.insert(id.index()) && stage.is_some(), "{id:?}: adopted out of nowhere");
    }

    /// Ids that were announced and are not closed.
    pub fn live(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.live.keys().copied()
    }

    /// The number of live ids.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// The number of connections that were ever announced.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    fn announce(&mut self, id: ConnectionId, stage: Stage) {
        assert!(self.ever.insert(id), "{id:?} was given before");
        assert!(self.slots.insert(id.index()), "{id:?}: its slot is in use");
        self.live.insert(id, stage);
        self.opened += 1;
    }

    fn must_be_open(&self, id: ConnectionId, what: &str) {
        assert_eq!(self.live.get(&id), Some(&Stage::Open), "{id:?}: {what} while not open");
    }

    fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        let stage = self.live.remove(&id);
        assert!(stage.is_some(), "{id:?}: Closed({reason:?}) while not live");
        if reason == CloseReason::Refused {
            assert_eq!(stage, Some(Stage::Connecting), "{id:?}: Refused while open");
        }
        self.slots.remove(&id.index());
        self.half_closed.remove(&id);
        self.closed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ConnectionId = ConnectionId::unpack(0).1;

    fn verdict(completions: &[Completion]) -> bool {
        let mut ledger = Ledger::new();
        ledger.connecting(ID);
        std::panic::catch_unwind(move || completions.iter().for_each(|c| ledger.observe(c))).is_ok()
    }

    fn closed() -> Completion {
        Completion::Closed { connection: ID, reason: CloseReason::Local }
    }

    #[test]
    fn a_whole_life_passes() {
        let connected = Completion::Connected { connection: ID };
        assert!(verdict(&[connected, Completion::Sent { connection: ID }, closed()]));
        assert!(verdict(&[closed()]));
        let connected = Completion::Connected { connection: ID };
        assert!(verdict(&[connected, Completion::PeerFinished { connection: ID }, closed()]));
    }

    #[test]
    fn a_released_connection_is_silent_until_it_is_adopted() {
        let life = |events: &dyn Fn(&mut Ledger)| {
            let mut ledger = Ledger::new();
            ledger.connecting(ID);
            ledger.observe(&Completion::Connected { connection: ID });
            ledger.released(ID);
            assert_eq!(ledger.live_count(), 0);
            let run = std::panic::AssertUnwindSafe(|| events(&mut ledger));
            std::panic::catch_unwind(run).is_ok()
        };
        assert!(life(&|ledger| {
            ledger.adopted(ID);
            ledger.observe(&closed());
        }));
        assert!(!life(&|ledger| ledger.observe(&closed())), "reported while it is away");
        assert!(!life(&|ledger| {
            ledger.adopted(ID);
            ledger.adopted(ID);
        }));
    }

    #[test]
    fn broken_promises_do_not() {
        assert!(!verdict(&[closed(), closed()]), "closed twice");
        assert!(!verdict(&[closed(), Completion::Sent { connection: ID }]), "after the close");
        assert!(!verdict(&[Completion::Sent { connection: ID }]), "before the opening");
        let (connected, finished) =
            (|| Completion::Connected { connection: ID }, || Completion::PeerFinished { connection: ID });
        assert!(!verdict(&[connected(), finished(), finished()]), "one end twice");
        assert!(!verdict(&[finished()]), "an end before the opening");
        let peer = ([127, 0, 0, 1], 1).into();
        let listener = netpoll::ListenerId(0);
        assert!(!verdict(&[Completion::Accepted { connection: ID, listener, peer }]), "an id in use");
    }
}
