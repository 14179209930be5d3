//! Hardware addresses of neighbors: a set-associative cache of fixed size.
//!
//! An entry that answered a request is kept in preference to an unsolicited one: a storm of
//! requests from invented neighbors replaces other unsolicited entries, never a requested one. A
//! stale entry is requested again and used meanwhile.

use crate::counters::Counters;
use crate::keys::AddressKey;
use crate::time::Now;
use crate::wire::{Ip, Mac};

const WAYS: usize = 4;
/// The lifetime of an answer, in milliseconds (RFC 4861, 10: 30 s).
const FRESH_MS: u32 = 30_000;
/// The time between requests, in milliseconds.
const ASK_INTERVAL_MS: u32 = 1000;
/// Requests in a row without an answer after which a stale entry is dropped.
const ASKS_MAX: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Incomplete,
    Known,
}

/// How a hardware address was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// By an answer to a request, or by configuration.
    Asked,
    /// By a request of the neighbor.
    Unasked,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ip: Ip,
    mac: Mac,
    state: State,
    asked: bool,
    asks: u8,
    /// The time of the last confirmation, or of the entry's creation.
    confirmed_ms: u32,
    asked_ms: u32,
}

const VACANT: Entry = Entry {
    ip: Ip::UNSPECIFIED,
    mac: Mac([0; 6]),
    state: State::Free,
    asked: false,
    asks: 0,
    confirmed_ms: 0,
    asked_ms: 0,
};

/// The cache.
#[derive(Debug)]
pub(crate) struct Neighbors {
    entries: Vec<Entry>,
    keys: AddressKey,
}

/// The result of a look-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) mac: Option<Mac>,
    /// Whether a request has to be sent.
    pub(crate) ask: bool,
}

impl Neighbors {
    pub(crate) fn new(capacity: usize, secret: u64) -> Neighbors {
        let sets = capacity.div_ceil(WAYS).clamp(1, usize::from(u16::MAX) / WAYS - 1);
        Neighbors { entries: vec![VACANT; sets * WAYS], keys: AddressKey::new(secret) }
    }

    fn set(&self, ip: Ip) -> usize {
        let sets = (self.entries.len() / WAYS) as u64;
        (self.keys.hash(ip) % sets) as usize * WAYS
    }

    fn position(&self, ip: Ip) -> Option<usize> {
        let set = self.set(ip);
        (set..set + WAYS).find(|at| self.entries[*at].ip == ip && self.entries[*at].state != State::Free)
    }

    /// Looks `ip` up. An unknown address gets an entry, and is to be requested.
    #[inline]
    pub(crate) fn find(&mut self, ip: Ip, hint: &mut u16, now: Now, counters: &mut Counters) -> Found {
        let hinted = self
            .entries
            .get(usize::from(*hint))
            .is_some_and(|entry| entry.ip == ip && entry.state == State::Known);
        let position = if hinted { Some(usize::from(*hint)) } else { self.position(ip) };
        let Some(position) = position.or_else(|| self.make(ip, true, now, counters)) else {
            return Found { mac: None, ask: false };
        };
        *hint = position as u16;
        let entry = &mut self.entries[position];
        entry.asked = true;
        let is_stale = entry.state == State::Incomplete || now.since(entry.confirmed_ms) > FRESH_MS;
        let ask = is_stale && (entry.asks == 0 || now.since(entry.asked_ms) >= ASK_INTERVAL_MS);
        if ask {
            entry.asks = entry.asks.saturating_add(1);
            entry.asked_ms = now.ms;
            // RFC 4861, 7.3.3: no answer, so the neighbor is unreachable.
            if entry.asks > ASKS_MAX {
                entry.state = State::Incomplete;
            }
        }
        Found { mac: (entry.state == State::Known).then_some(entry.mac), ask }
    }

    /// Takes an address that a neighbor sent. Returns whether it is new.
    pub(crate) fn learn(
        &mut self,
        ip: Ip,
        mac: Mac,
        source: Source,
        now: Now,
        counters: &mut Counters,
    ) -> bool {
        if mac.is_multicast() || mac == Mac::default() {
            return false;
        }
        let known = self.position(ip);
        let Some(position) = known.or_else(|| self.make(ip, source == Source::Asked, now, counters)) else {
            return false;
        };
        let entry = &mut self.entries[position];
        let is_news = entry.state != State::Known || entry.mac != mac;
        entry.mac = mac;
        entry.state = State::Known;
        entry.asks = 0;
        entry.confirmed_ms = now.ms;
        is_news
    }

    /// Whether `ip` was requested, or is in use.
    pub(crate) fn is_asked_for(&self, ip: Ip) -> bool {
        self.position(ip).is_some_and(|at| self.entries[at].asked)
    }

    /// Takes a place in the set of `ip`: a free one, else the oldest unsolicited one, else (for a
    /// requested address) the oldest.
    fn make(&mut self, ip: Ip, asked: bool, now: Now, counters: &mut Counters) -> Option<usize> {
        let set = self.set(ip);
        let rank = |entry: &Entry| match entry.state {
            State::Free => (2, 0),
            _ if !entry.asked => (1, now.since(entry.confirmed_ms)),
            _ => (0, now.since(entry.confirmed_ms)),
        };
        let best = (set..set + WAYS).max_by_key(|at| rank(&self.entries[*at]))?;
        match rank(&self.entries[best]).0 {
            0 if !asked => {
                counters.neighbours_refused += 1;
                return None;
            }
            2 => {}
            _ => counters.neighbours_evicted += 1,
        }
        self.entries[best] = Entry { ip, state: State::Incomplete, asked, confirmed_ms: now.ms, ..VACANT };
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u32) -> Now {
        Now { ms, us: 0 }
    }

    fn ip(host: u32) -> Ip {
        Ip::from_v4((0x0a00_0000 + host).to_be_bytes())
    }

    #[test]
    fn questions_are_paced_and_answers_age() {
        let (mut cache, mut counters, mut hint) = (Neighbors::new(16, 1), Counters::default(), u16::MAX);
        let ask = |cache: &mut Neighbors, hint: &mut u16, ms| {
            let found = cache.find(ip(1), hint, at(ms), &mut Counters::default());
            (found.mac.is_some(), found.ask)
        };
        assert_eq!(ask(&mut cache, &mut hint, 0), (false, true));
        assert_eq!(ask(&mut cache, &mut hint, 500), (false, false));
        assert_eq!(ask(&mut cache, &mut hint, 1000), (false, true));
        assert!(cache.learn(ip(1), Mac([2; 6]), Source::Asked, at(1100), &mut counters));
        assert_eq!(ask(&mut cache, &mut hint, 1200), (true, false));
        assert_eq!(ask(&mut cache, &mut hint, 32_000), (true, true), "stale, and in use");
        let last = (33..60).map(|second| ask(&mut cache, &mut hint, second * 1000)).last();
        assert_eq!(last, Some((false, true)), "given up");
    }

    #[test]
    fn invented_neighbors_replace_no_real_one() {
        let (mut cache, mut counters, mut hint) = (Neighbors::new(16, 1), Counters::default(), u16::MAX);
        for host in 0..4 {
            cache.find(ip(host), &mut hint, at(0), &mut counters);
            cache.learn(ip(host), Mac([2; 6]), Source::Asked, at(0), &mut counters);
        }
        for host in 100..10_000 {
            cache.learn(ip(host), Mac([4; 6]), Source::Unasked, at(host), &mut counters);
        }
        for host in 0..4 {
            assert!(cache.find(ip(host), &mut hint, at(10), &mut counters).mac.is_some(), "{host}");
        }
    }
}
