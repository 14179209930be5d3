//! Last state of the port, and the changes between two readings.

use super::sources::{PortSource, PortState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The port as it was seen last.
#[derive(Debug, Default)]
pub(super) struct PortWatch {
    source: Option<PortSource>,
    seen: Mutex<Seen>,
    link_losses: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    state: PortState,
    was_up: bool,
}

/// What changed between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    LinkUp,
    LinkDown,
    Taken(IpAddr),
    Freed(IpAddr),
}

impl PortWatch {
    pub(super) fn new(source: Option<PortSource>) -> PortWatch {
        let state = source.as_ref().map(|source| (source.0)()).unwrap_or_default();
        let seen = Mutex::new(Seen { was_up: state.link_up, state });
        PortWatch { source, seen, link_losses: AtomicU64::new(0) }
    }

    /// What has changed since the last look.
    pub(super) fn look(&self) -> Vec<Change> {
        let Some(source) = &self.source else { return Vec::new() };
        let now = (source.0)();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Vec::new();
        if now.link_up != seen.state.link_up {
            changes.push(if now.link_up { Change::LinkUp } else { Change::LinkDown });
            self.link_losses.fetch_add(u64::from(!now.link_up), Ordering::Relaxed);
        }
        let before = &seen.state.taken;
        changes.extend(now.taken.iter().filter(|ip| !before.contains(ip)).map(|ip| Change::Taken(*ip)));
        // One that is asked about anew is not free yet.
        if now.checking {
            let still = before.iter().filter(|ip| !now.taken.contains(ip)).copied();
            let taken = now.taken.iter().copied().chain(still).collect();
            *seen = Seen { was_up: seen.was_up || now.link_up, state: PortState { taken, ..now } };
            return changes;
        }
        changes.extend(before.iter().filter(|ip| !now.taken.contains(ip)).map(|ip| Change::Freed(*ip)));
        *seen = Seen { was_up: seen.was_up || now.link_up, state: now };
        changes
    }

    /// Whether there is a port.
    pub(super) fn is_on(&self) -> bool {
        self.source.is_some()
    }

    /// Own addresses that another host had at the last look.
    pub(super) fn taken(&self) -> Vec<IpAddr> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).state.taken.clone()
    }

    /// Why no client reaches the port; `None` where clients do, or the kernel has the sockets.
    pub(super) fn unready_reason(&self) -> Option<&'static str> {
        self.source.as_ref()?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &seen.state;
        if !state.link_up && (seen.was_up || !state.waits_for_peer) {
            return Some("the link of the port is down (dpdk.port)");
        }
        if !state.taken.is_empty() {
            return Some("another host has an address of the gateway's (dpdk.addresses); the log says which");
        }
        state.checking.then_some("whether another host has the gateway's addresses is being found out")
    }

    /// Whether the link is up, how often it was lost, and how many addresses another host has;
    /// `None` with the kernel's sockets.
    pub(super) fn snapshot(&self) -> Option<(bool, u64, usize)> {
        self.source.as_ref()?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Some((seen.state.link_up, self.link_losses.load(Ordering::Relaxed), seen.state.taken.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn watch(first: PortState) -> (PortWatch, Arc<Mutex<PortState>>) {
        let state = Arc::new(Mutex::new(first));
        let source = Arc::clone(&state);
        (PortWatch::new(Some(PortSource::new(move || source.lock().unwrap().clone()))), state)
    }

    fn up() -> PortState {
        PortState { link_up: true, ..PortState::default() }
    }

    #[test]
    fn a_link_that_goes_is_no_longer_ready_until_it_is_back() {
        let (watch, state) = watch(up());
        assert!(watch.look().is_empty() && watch.unready_reason().is_none());
        state.lock().unwrap().link_up = false;
        assert_eq!(watch.look(), [Change::LinkDown]);
        assert!(watch.look().is_empty() && watch.unready_reason().unwrap().contains("link"));
        assert_eq!(watch.snapshot(), Some((false, 1, 0)));
        state.lock().unwrap().link_up = true;
        assert_eq!(watch.look(), [Change::LinkUp]);
        assert_eq!((watch.unready_reason(), watch.snapshot()), (None, Some((true, 1, 0))));
    }

    #[test]
    fn a_link_that_waits_for_its_peer_is_missed_once_it_was_up() {
        let waits = PortState { waits_for_peer: true, ..PortState::default() };
        let (watch, state) = watch(waits);
        assert_eq!(watch.unready_reason(), None);
        state.lock().unwrap().link_up = true;
        watch.look();
        state.lock().unwrap().link_up = false;
        watch.look();
        assert!(watch.unready_reason().is_some());
        let (watch, _) = super::tests::watch(PortState::default());
        assert!(watch.unready_reason().is_some(), "a card's link has to be there");
    }

    #[test]
    fn an_address_that_another_host_has_is_told_once_and_again_when_it_is_free() {
        let ip: IpAddr = "10.77.0.2".parse().unwrap();
        let (watch, state) = watch(PortState { checking: true, ..up() });
        assert!(watch.unready_reason().unwrap().contains("found out"));
        *state.lock().unwrap() = PortState { taken: vec![ip], ..up() };
        assert_eq!(watch.look(), [Change::Taken(ip)]);
        *state.lock().unwrap() = PortState { checking: true, ..up() };
        assert!(watch.look().is_empty() && watch.unready_reason().unwrap().contains("another host"));
        *state.lock().unwrap() = up();
        assert_eq!(watch.look(), [Change::Freed(ip)]);
        assert_eq!(watch.unready_reason(), None);
    }

    #[test]
    fn the_kernels_sockets_have_no_port() {
        let watch = PortWatch::new(None);
        assert!(watch.look().is_empty() && watch.unready_reason().is_none() && watch.snapshot().is_none());
    }
}
