//! Checks of the whole: at rest, at a connection's end, and when everything has stopped.

use crate::clients::{Client, Fate, Phase};
use crate::model::{Duty, Outcome, Target};
use crate::note;
use crate::verifier::Verifier;
use crate::world::World;
use gateway_core::address::WorkerId;
use gateway_core::message::{Message, MessageClass};
use gateway_core::metrics::{SlowReason, WorkerMetrics};
use gateway_core::session::User;
use gateway_core::settings::DevicePolicy;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, CloseReason, Introspect};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long anything may take once nothing new is begun. Nothing rated takes so long, nor does any
/// time-out but the idle one; a connect gives up after six seconds.
const REST_WITHIN: Duration = Duration::from_secs(30);
const TICKS_MAX: u64 = 400_000;

/// How long a session may outlast its token: its end is kept to a quarter of a second, and counted
/// from the verdict.
const TOKEN_LATE_MAX_MS: u64 = 1000;

/// How long a client that is sent away may take to be gone: one that answers neither the close
/// frame nor FIN is kept for two seconds (`handler/linger.rs`), and a stalled worker is late by a
/// stall.
const DEPARTURE_MAX: Duration = Duration::from_secs(3);

/// How things stood when a round began.
struct Before {
    churn: u64,
    drops: [u64; 4],
    /// Everybody was logged in, and their rooms known.
    is_clear: bool,
}

impl World {
    /// A whole run.
    pub fn run(&mut self) {
        for round in 0..self.plan.rounds {
            let before = self.before_round();
            for action in 0..self.plan.actions {
                if self.plan.floods && round % 2 == 0 && action == self.plan.actions / 2 {
                    self.begin_flood();
                }
                while !self.rng.chance(self.plan.pace) {
                    self.tick();
                }
                self.act(round % 2 == 1);
            }
            if self.plan.races && round % 2 == 0 {
                self.race();
            }
            self.come_to_rest();
            self.judge_messages(&before);
            self.check_names();
            self.check_rates();
        }
        self.check_online();
        if self.plan.idles {
            self.check_idle();
        }
        if self.plan.drains {
            self.drain();
        }
        self.stop();
        self.check_leaks();
        self.count_up();
    }

    /// Adds what the workers and clients have counted to the tally.
    fn count_up(&mut self) {
        self.tally.clients = self.clients.len() as u64;
        self.tally.messages = self.messages.len() as u64;
        self.tally.received = self.clients.iter().map(|client| client.received.len() as u64).sum();
        self.tally.drops =
            self.total(|metrics| metrics.drops.iter().chain(&metrics.losses).map(|count| count.get()).sum());
        self.tally.slow_closes = self.total(|metrics| metrics.slow_closes_in_all());
        self.tally.mailbox_waits = self.total(|metrics| metrics.mailbox_waits.get());
        self.tally.straddles = self.total(|metrics| metrics.straddles.get());
        self.tally.payload_copies = self.total(|metrics| metrics.payload_copies.get());
        let told = |code| self.clients.iter().filter(|client| client.farewell == Some(code)).count() as u64;
        (self.tally.replaced, self.tally.devices) = (told(3504), told(3505));
        (self.tally.idle, self.tally.overload) = (told(3002), told(3001));
        (self.tally.tokens_ended, self.tally.tokens_refused) = (told(3010), told(3501));
        self.tally.rate_stops = self.total(|metrics| metrics.rate_slowed.get());
        self.tally.rate_refusals = self.total(|metrics| metrics.rate_refused.get());
        self.tally.rate_closes = told(3004);
        self.tally.blurred = self.clients.iter().filter(|client| client.blurred).count() as u64;
    }

    /// Nothing new; everything under way ends within bounds.
    fn come_to_rest(&mut self) {
        self.hear_again();
        let (ticks, deadline) = (self.ticks + TICKS_MAX, self.network.now() + REST_WITHIN);
        let late = self.network.now() + REST_WITHIN * 2 / 3;
        while !self.is_at_rest() {
            self.tick();
            if self.network.now() > late {
                self.give_up_slow_flood();
            }
            if self.network.now() > deadline || self.ticks > ticks {
                self.report_unrest();
            }
        }
        note!(self, "at rest");
        self.check_tokens();
    }

    /// Nobody stays for long after the end of its token.
    fn check_tokens(&self) {
        let ended = |client: &&crate::clients::Client| {
            client
                .token
                .end_ms()
                .is_some_and(|end| client.is_open() && self.unix_ms() > end + TOKEN_LATE_MAX_MS)
        };
        let client = self.clients.iter().find(ended);
        assert!(client.is_none(), "timers: a token has ended, its bearer is still there: {client:?}");
    }

    fn report_unrest(&self) -> ! {
        let open = self.clients.iter().enumerate().filter(|(_, client)| client.phase != Phase::Gone);
        for (id, client) in open {
            eprintln!(
                "client {id}: {:?}, {:?}, pending {:?}, to send {} B, input {:?}",
                client.phase,
                client.fate,
                client.pending,
                client.output.len(),
                client.input
            );
        }
        for (number, shard) in self.shards.iter().enumerate() {
            let is_idle = shard.worker.is_idle();
            eprintln!("worker {number}: idle {is_idle}, {:?}", shard.worker.shard().fanouts.len());
        }
        panic!("progress: no rest within {REST_WITHIN:?}; network quiet: {}", self.network.is_quiet());
    }

    fn before_round(&self) -> Before {
        let mut open = self.clients.iter().filter(|client| client.phase != Phase::Gone && !client.echo);
        let is_clear = open.all(|client| client.is_open() && !client.blurred);
        Before { churn: self.churn, drops: self.drops(), is_clear }
    }

    fn drops(&self) -> [u64; 4] {
        std::array::from_fn(|class| {
            self.total(|metrics| metrics.drops[class].get() + metrics.losses[class].get())
        })
    }

    fn total(&self, count: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.shards.iter().map(|shard| count(&shard.metrics)).sum()
    }

    // --- messages ----------------------------------------------------------------------------------------------------

    /// Connections that a message reaches if nothing else is under way.
    pub fn expected_receivers(&self, sender: usize, target: Target, not_to_self: bool) -> Option<u32> {
        let meant = |client: &crate::clients::Client| match target {
            Target::User(mid) => client.mid == mid,
            Target::Key(key) => client.key == Some(key),
            Target::Room(room) => client.is_surely_in(room),
            Target::Everyone => false,
        };
        let open = self.clients.iter().enumerate();
        let open = open.filter(|(_, client)| client.phase != Phase::Gone && !client.echo);
        if open.clone().any(|(_, client)| client.blurred || !client.is_open()) {
            return None;
        }
        let meant = open.filter(|(_, client)| meant(client));
        Some(meant.filter(|(id, _)| !(not_to_self && *id == sender)).count() as u32)
    }

    /// At rest, each message has reached whom it must, or drops were counted.
    fn judge_messages(&mut self, before: &Before) {
        let (mut missing, mut refused) = ([0_u64; 4], [0_u64; 4]);
        let (mut duties, mut outcomes) = (0, 0);
        let is_stable = before.churn == self.churn && before.is_clear;
        for (number, message) in self.messages.iter().enumerate().filter(|(_, message)| !message.judged) {
            if let Outcome::Refused { code } = message.outcome {
                let stands = |duty: &&Duty| message.stands(duty, &self.clients[duty.client]);
                let due = message.duties.iter().filter(stands).count() as u64;
                assert!(due == 0 || code != 404, "delivery: message {number} found no target, it has {due}");
                // Its sender knows; a queue that had no room for it has counted a drop.
                refused[message.class() as usize] += due;
            }
            let accepted = matches!(message.outcome, Outcome::Accepted { .. });
            if !accepted {
                continue;
            }
            for duty in &message.duties {
                let client = &self.clients[duty.client];
                duties += u64::from(message.stands(duty, client));
                if message.stands(duty, client) && !client.received.contains(&number) {
                    missing[message.class() as usize] += 1;
                    let drops =
                        self.drops()[message.class() as usize] - before.drops[message.class() as usize];
                    assert!(
                        missing[message.class() as usize] <= drops,
                        "delivery: client {} never got message {number} ({:?}); {drops} drops",
                        duty.client,
                        message.target
                    );
                }
            }
            if is_stable {
                outcomes += u64::from(self.judge_outcome(number));
            }
        }
        if is_stable {
            let drops = self.drops();
            let dropped: [u64; 4] = std::array::from_fn(|class| drops[class] - before.drops[class]);
            let is_exact =
                |class: usize| (missing[class]..=missing[class] + refused[class]).contains(&dropped[class]);
            assert!(
                (0..4).all(is_exact),
                "drops: {missing:?} are missing, by class, {dropped:?} dropped, {refused:?} refused"
            );
            self.tally.drops_exact += missing.iter().sum::<u64>();
        }
        self.tally.duties += duties;
        self.tally.outcomes += outcomes;
        self.messages.iter_mut().for_each(|message| message.judged = true);
        self.check_counters();
    }

    /// Nobody came or went: the count of receivers is exact. Of a user or key it is who got the
    /// message, whatever accept sets and full queues did; of a room its members.
    fn judge_outcome(&self, number: usize) -> bool {
        let message = &self.messages[number];
        let Outcome::Accepted { receivers } = message.outcome else { return false };
        let expected = match message.target {
            Target::User(_) | Target::Key(_) if message.sender.is_some() => {
                let got = self.clients.iter().filter(|client| client.received.contains(&number));
                Some(got.count() as u32)
            }
            _ => message.expected,
        };
        let Some(expected) = expected else { return false };
        assert_eq!(receivers, expected, "receivers: of message {number} to {:?}", message.target);
        true
    }

    /// What the workers have counted agrees with what clients got.
    fn check_counters(&self) {
        for class in [MessageClass::User, MessageClass::Room, MessageClass::Broadcast] {
            let of_class = |number: &&usize| self.messages[**number].class() == class;
            let received: usize =
                self.clients.iter().map(|client| client.received.iter().filter(of_class).count()).sum();
            let delivered = self.total(|metrics| metrics.deliveries[class as usize].get()) as usize;
            let lost = self.clients.iter().any(|client| client.phase == Phase::Gone);
            assert!(received <= delivered, "counters: {received} of {delivered} {class:?} deliveries came");
            assert!(
                lost || received == delivered,
                "counters: {received} of {delivered} {class:?} deliveries"
            );
        }
        let slow = self.total(|metrics| metrics.slow_closes_in_all());
        let ended = self.total(|metrics| {
            let codes = metrics.end_codes.iter().zip(&metrics.ends_code);
            codes.filter(|(code, _)| code.get() == 3008).map(|(_, count)| count.get()).sum()
        });
        let sessions = self.shards.iter().map(|shard| &shard.worker.shard().sessions);
        let lingers = sessions.flat_map(|all| (0..all.slots()).filter_map(|index| all.at(index)));
        let lingering =
            lingers.filter(|session| session.close_code() == Some(CloseCode::SLOW_CONSUMER)).count();
        assert_eq!(slow, ended + lingering as u64, "counters: slow consumers closed, and ends with 3008");
    }

    // --- names and rooms ---------------------------------------------------------------------------------------------

    /// A key has one connection at most, a user what the device policy allows.
    fn check_names(&self) {
        let mut keys: BTreeMap<usize, usize> = BTreeMap::new();
        let mut users: BTreeMap<i64, Vec<Option<&str>>> = BTreeMap::new();
        for (id, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_open()) {
            if let Some(other) = client.key.and_then(|key| keys.insert(key, id)) {
                panic!("takeover: clients {other} and {id} both live under key {:?}", client.key);
            }
            if client.mid != 0 {
                users.entry(client.mid).or_default().push(client.platform);
            }
        }
        for (mid, platforms) in users {
            let allowed = match self.plan.settings.reloadable.device_policy {
                DevicePolicy::Allow(0) => true,
                DevicePolicy::Allow(count) => platforms.len() <= count as usize,
                DevicePolicy::PerPlatform => {
                    platforms.iter().all(|one| platforms.iter().filter(|other| *other == one).count() == 1)
                }
            };
            assert!(allowed, "devices: user {mid} has {platforms:?}");
        }
    }

    /// The connections of a user have its rate among them, and none has more than its part.
    fn check_rates(&self) {
        let mut users: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        for shard in &self.shards {
            let sessions = &shard.worker.shard().sessions;
            let open = (0..sessions.slots()).filter_map(|index| sessions.at(index));
            for session in open.filter(|session| session.is_open()) {
                if let User::Mid(mid) = session.user() {
                    users.entry(mid).or_default().push(session.flow.sharers().max(1));
                }
            }
        }
        for (mid, sharers) in users {
            let all: f64 = sharers.iter().map(|count| 1.0 / f64::from(*count)).sum();
            assert!(all < 1.001, "rates: the connections of user {mid} divide its rate by {sharers:?}");
        }
    }

    /// Some time after all has come to rest, heartbeats report the rooms' true sizes.
    fn check_online(&mut self) {
        let churn = self.churn;
        let until = self.network.now() + Duration::from_secs(3);
        while self.network.now() < until {
            self.tick();
        }
        let open: Vec<usize> = (0..self.clients.len()).filter(|id| self.clients[*id].is_open()).collect();
        open.iter().for_each(|id| self.heartbeat(*id));
        self.come_to_rest();
        if self.churn != churn || !self.before_round().is_clear {
            return;
        }
        for id in open.iter().filter(|id| self.clients[**id].is_open()) {
            let client = &self.clients[*id];
            let members = |room: usize| self.clients.iter().filter(|other| other.is_surely_in(room)).count();
            let expected = client.primary.map_or(0, members);
            self.tally.online += 1;
            assert_eq!(client.online, Some(expected as i32), "online: client {id} in {:?}", client.primary);
        }
    }

    /// Who is silent for long enough is closed.
    fn check_idle(&mut self) {
        let idle = self.plan.settings.reloadable.idle_timeout;
        let until = self.network.now() + idle + Duration::from_secs(4);
        while self.network.now() < until {
            self.tick();
        }
        self.come_to_rest();
        let open = self.clients.iter().position(|client| client.phase != Phase::Gone && !client.echo);
        assert_eq!(open, None, "timers: a silent client is still there");
    }

    // --- ends --------------------------------------------------------------------------------------------------------

    /// A connection's end has a cause.
    pub fn judge_end(&self, id: usize) {
        let client = &self.clients[id];
        if client.fate == Fate::Left || self.stopping {
            return;
        }
        // What a client has left unread explains that it is closed as slow, that it hears nothing
        // of its end, and that it speaks on when it was closed as idle: no other code.
        if client.was_deaf && matches!(client.farewell, None | Some(3002 | 3008)) {
            return;
        }
        let Some(code) = client.farewell else {
            let faults = &self.plan.faults;
            // Before the upgrade there are no words.
            let is_wordless = matches!(client.ended_in, Phase::Connecting | Phase::Upgrading);
            // Answers to a flood may be more than its network takes while the connection lingers:
            // they are before the word.
            let is_behind_answers = client.fate == Fate::Flooder;
            let explained = match client.end {
                Some(CloseReason::Refused) => faults.refuse > 0.0 || self.draining,
                Some(CloseReason::TimedOut) => faults.connect_timeout > 0.0 || self.draining,
                Some(CloseReason::PeerReset) => {
                    let is_kicked = is_wordless && self.control.kicks > 0;
                    faults.reset > 0.0 || self.plan.tight || is_kicked || is_behind_answers
                }
                Some(CloseReason::PeerClosed) => self.plan.tight || is_wordless || is_behind_answers,
                _ => false,
            };
            assert!(explained, "ends: client {id} ended without a word: {:?}", client.end);
            return;
        };
        let same_key = |other: &crate::clients::Client| client.key.is_some() && other.key == client.key;
        let same_user = |other: &crate::clients::Client| client.mid != 0 && other.mid == client.mid;
        let others =
            || self.clients.iter().enumerate().filter(|(other, _)| *other != id).map(|(_, other)| other);
        // Where tokens say who clients are, a key is its user's.
        let same_owner = |other: &crate::clients::Client| self.verifier.is_none() || other.mid == client.mid;
        let explained = match code {
            3000 => self.draining,
            3001 => {
                let is_short = self.plan.tight || self.plan.verifier_queue.is_some_and(|queue| queue < 64);
                is_short || self.may_lose_half_frames(client)
            }
            3002 => self.was_idle(client) || self.was_left_waiting(client),
            3003 => client.ended_in != Phase::Open,
            // An echo is fed no more than it takes.
            3008 => !client.echo && self.may_be_slow(client),
            3010 => client.token.end_ms().is_some_and(|end| self.unix_ms() >= end),
            3501 => !client.token.is_valid() || others().any(|other| same_key(other) && !same_owner(other)),
            3503 => self.control.kicks > 0,
            3504 => others().any(|other| same_key(other) && same_owner(other)),
            3505 => others().any(same_user),
            _ => false,
        };
        let explained = explained || client.has_earned(code);
        assert!(explained, "ends: client {id} was closed with {code} for no reason");
    }

    /// Whether a client may be closed for a frame that has not come whole: where clients that do
    /// not read hold the buffers.
    fn may_lose_half_frames(&self, client: &Client) -> bool {
        let is_deaf = |client: &Client| client.was_deaf;
        client.ended_in != Phase::Open
            && self.clients.iter().any(is_deaf)
            && self.total(|metrics| metrics.shed_frames.get()) > 0
    }

    /// Whether a client that goes on reading may be closed as slow: where queues are so short that
    /// answers to what it asked fill them, or where its host was stalled for as long as a receiver
    /// may take nothing. Else it would pay for a client that does not read.
    fn may_be_slow(&self, client: &Client) -> bool {
        let closes = |reason| self.total(|metrics| metrics.slow_closes_for(reason).get()) > 0;
        let is_short = self.plan.tight || self.plan.backend.send_queue_bytes_max < 100_000;
        let timeout = self.plan.settings.reloadable.slow_consumer_timeout;
        let took_nothing = timeout <= self.longest_silence(client.host);
        (is_short && closes(SlowReason::Replies)) || (took_nothing && closes(SlowReason::Stalled))
    }

    /// Whether its garbage was the beginning of a frame, whose rest was waited for: never for less
    /// than the time for a frame.
    fn was_left_waiting(&self, client: &Client) -> bool {
        let waited = client.farewell_at.since(client.spoilt_at);
        client.fate == Fate::Garbage && waited >= self.plan.settings.reloadable.frame_timeout
    }

    /// Whether it was silent for the idle time, all of it: never early.
    fn was_idle(&self, client: &crate::clients::Client) -> bool {
        let idle = self.plan.settings.reloadable.idle_timeout;
        let now = client.farewell_at;
        // What was said just now may not have arrived in time.
        let under_way = now.since(client.spoke_at) < Duration::from_secs(1);
        let spoke = if under_way { client.spoke_before } else { client.spoke_at };
        now.since(spoke) >= idle
    }

    // --- the end -----------------------------------------------------------------------------------------------------

    fn drain(&mut self) {
        self.draining = true;
        self.churn += 1;
        let over = Duration::from_millis(self.rng.below(2000) as u64);
        note!(self, "drain over {over:?}");
        self.tell_all(|| Message::Drain { over });
        let until = self.network.now() + over + DEPARTURE_MAX;
        let stays = |client: &Client| client.phase != Phase::Gone;
        while self.network.now() < until && self.clients.iter().any(stays) {
            self.tick();
        }
        self.come_to_rest();
        let open = self.clients.iter().position(|client| client.phase != Phase::Gone);
        assert_eq!(open, None, "drain: a client is still there");
    }

    fn stop(&mut self) {
        note!(self, "stop");
        self.stopping = true;
        if self.rng.chance(0.5) {
            // Into the middle of things.
            (0..self.rng.below(10)).for_each(|_| self.act(false));
        }
        self.tell_all(|| Message::Stop);
        let (ticks, deadline) = (self.ticks + TICKS_MAX, self.network.now() + REST_WITHIN);
        while self.shards.iter().any(|shard| !shard.stopped) {
            self.tick();
            if self.network.now() > deadline || self.ticks > ticks {
                let states: Vec<_> =
                    self.shards.iter().map(|shard| (shard.stopped, shard.worker.is_idle())).collect();
                panic!("progress: workers do not stop (stopped, idle): {states:?}");
            }
        }
    }

    /// Everything is as it was before the first client came.
    fn check_leaks(&mut self) {
        self.stop_verifier();
        let cells = self.plan.settings.tables.text_cells_max;
        for (number, entry) in self.shards.iter_mut().enumerate() {
            assert_eq!(entry.worker.backend().connection_count(), 0, "leaks: connections of worker {number}");
            assert!(entry.worker.is_idle(), "leaks: worker {number} has messages or fan-outs");
            let shard = entry.worker.shard();
            assert!((0..32).all(|slot| shard.sessions.at(slot).is_none()), "leaks: a session of {number}");
            assert_eq!(shard.sessions.open_count(), 0, "leaks: the count of sessions of {number}");
            assert_eq!(entry.metrics.rate_stopped.get(), 0, "leaks: stopped connections of {number}");
            assert_eq!(shard.sessions.timers.armed(), 0, "leaks: a timer of worker {number}");
            assert!(shard.receipts.is_empty(), "leaks: a sum of outcomes of worker {number}");
            assert!(shard.sessions.accept_sets.is_unused(), "leaks: an accept set of worker {number}");
            assert_eq!(shard.hosted_rooms.memberships_len(), 0, "leaks: memberships of worker {number}");
            let rooms = (shard.hosted_rooms.len(), shard.home_rooms.len());
            assert_eq!(rooms, (0, 0), "leaks: rooms at host and home of worker {number}");
            assert_eq!(shard.directory.len(), 0, "leaks: names of worker {number}");
            assert_eq!(shard.texts.free_cells(), cells, "leaks: texts of worker {number}");
        }
        for number in 0..self.shards.len() {
            let taken = self.places.taken(WorkerId(number as u8));
            assert_eq!(taken, 0, "leaks: places for fan-outs of worker {number}");
        }
        for (number, entry) in self.shards.iter_mut().enumerate() {
            let pools = entry.worker.backend().pools();
            let levels: Vec<_> = pools.block_levels().collect();
            assert!(
                pools.is_full(),
                "leaks: a buffer of worker {number}: {:?} {levels:?}",
                pools.receive_level()
            );
        }
        assert!(self.control.pools.is_full(), "leaks: a buffer of the control plane");
        let verifier = self.verifier.as_mut().is_none_or(Verifier::is_unused);
        assert!(verifier, "leaks: a buffer of the verifier");
    }
}
