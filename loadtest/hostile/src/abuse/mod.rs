//! The table of abuses: what each does, what the right answer is, and the function that does it.
//!
//! A module for each kind. An abuse is bounded in time by its target's budget and in number by
//! constants of its own; it reports how much it did, the answers, and which of them were wrong. The
//! effect is measured at the bystanders.

pub(crate) mod answers;

mod amplification;
mod before_login;
mod closings;
mod control_port;
mod floods;
mod framing;
mod half_requests;
mod http_upgrade;
mod identities;
mod names_and_tables;
mod never_reading;
mod operators;
mod websocket;

use crate::answer_word::AnswerWord;
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::profile::Profile;
use crate::target::Target;
use crate::wire::Frame;
use answers::Answers;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

/// The listener that an abuse works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Tcp,
    WebSocket,
    Both,
    Echo,
    Control,
    Process,
}

impl On {
    pub(crate) fn name(self) -> &'static str {
        match self {
            On::Tcp => "tcp",
            On::WebSocket => "websocket",
            On::Both => "tcp, websocket",
            On::Echo => "echo",
            On::Control => "control",
            On::Process => "process",
        }
    }

    /// Whether what the start screen plans for `owner` is what such an abuse makes resident:
    /// clients fill workers' tables, queues and buffers and the journal; callers of the control
    /// port fill its part and, with what they push, that of clients; signals fill none.
    pub(crate) fn fills(self, owner: &str) -> bool {
        match owner {
            "echoes" => self == On::Echo,
            "HTTP" | "control thread" => self == On::Control,
            _ => self != On::Process,
        }
    }
}

/// The gateway that an abuse needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Any; it runs against the production profile.
    Nothing,
    /// Tokens or keys: the production profile.
    Tokens,
    /// No tokens, no keys, or the echo listener: the development profile.
    Development,
}

/// One abuse.
pub(crate) struct Abuse {
    pub(crate) name: &'static str,
    /// Its module.
    pub(crate) kind: &'static str,
    pub(crate) on: On,
    pub(crate) needs: Needs,
    /// What it does, in a sentence.
    pub(crate) does: &'static str,
    /// What the gateway should answer, in a sentence.
    pub(crate) right: &'static str,
    /// The answers that say so.
    pub(crate) answers: Answers,
    /// It comes from the address of fifty bystanders.
    pub(crate) behind_nat: bool,
    /// For how long it stops the gateway's process: bystanders' latencies are judged without that.
    pub(crate) pause: Duration,
    pub(crate) run: fn(&Target) -> io::Result<Outcome>,
}

impl Abuse {
    pub(crate) fn profile(&self) -> Profile {
        match self.needs {
            Needs::Nothing | Needs::Tokens => Profile::Production,
            Needs::Development => Profile::Development,
        }
    }
}

/// An entry of a module's table; [`ALL`] adds the kind.
const fn abuse(
    name: &'static str,
    on: On,
    needs: Needs,
    run: fn(&Target) -> io::Result<Outcome>,
    does: &'static str,
    (right, answers): (&'static str, Answers),
) -> Abuse {
    let (kind, behind_nat, pause) = ("", false, Duration::ZERO);
    Abuse { name, kind, on, needs, does, right, answers, behind_nat, pause, run }
}

/// Holds connections open until the end; returns the answers by then.
fn hold(target: &Target, peers: Vec<Peer>, unit: &str) -> Outcome {
    target.hold();
    let mut outcome = Outcome::of(unit).did(peers.len() as u64);
    outcome.flooded(target.flood_of(peers, true));
    outcome
}

/// The word for a reply that was waited for.
fn reply_word(reply: io::Result<Option<Frame>>) -> String {
    match reply {
        Ok(Some(frame)) => AnswerWord::of_frame(&frame).map_or("a push".into(), |word| word.to_string()),
        Ok(None) => "no answer".into(),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => AnswerWord::Ended.to_string(),
        Err(_) => AnswerWord::Reset.to_string(),
    }
}

/// Abuses that are run once more from an address of bystanders.
const BEHIND_NAT: &[(&str, &str)] = &[
    ("silent_connections", "silent_connections_behind_nat"),
    ("half_auth_frames", "half_auth_frames_behind_nat"),
    ("heartbeats_before_login", "heartbeats_before_login_behind_nat"),
    ("forged_tokens", "forged_tokens_behind_nat"),
    ("login_storm", "login_storm_behind_nat"),
    ("half_upgrades", "half_upgrades_behind_nat"),
    ("accept_sets_of_many", "accept_sets_of_many_behind_nat"),
    ("many_rooms", "many_rooms_behind_nat"),
    ("long_keys", "long_keys_behind_nat"),
    ("never_ends_its_side", "never_ends_its_side_behind_nat"),
    ("heartbeat_flood", "heartbeat_flood_behind_nat"),
    ("users_never_read", "users_never_read_behind_nat"),
];

const RIGHT_BEHIND_NAT: &str = "As from an address of its own. Connections that are logged in from this address do not notice; a login \
     from it is taken, or refused while the address has as many connections, or logins under way, as it may (3001; beyond 256 \
     refusals in two seconds without a word), and taken again when they are gone.";

type Kind = (&'static str, &'static [Abuse]);

const KINDS: &[Kind] = &[
    ("before_login", before_login::ABUSES),
    ("framing", framing::ABUSES),
    ("websocket", websocket::ABUSES),
    ("http_upgrade", http_upgrade::ABUSES),
    ("half_requests", half_requests::ABUSES),
    ("never_reading", never_reading::ABUSES),
    ("floods", floods::ABUSES),
    ("amplification", amplification::ABUSES),
    ("names_and_tables", names_and_tables::ABUSES),
    ("identities", identities::ABUSES),
    ("closings", closings::ABUSES),
    ("control_port", control_port::ABUSES),
    ("operators", operators::ABUSES),
];

/// All of them, kind after kind.
pub(crate) static ALL: LazyLock<Vec<Abuse>> = LazyLock::new(|| {
    let of_kind =
        |(kind, abuses): &Kind| abuses.iter().map(|abuse| Abuse { kind, ..*abuse }).collect::<Vec<_>>();
    let mut all: Vec<Abuse> = KINDS.iter().flat_map(of_kind).collect();
    for (name, behind_nat) in BEHIND_NAT {
        let Some(at) = all.iter().position(|abuse| abuse.name == *name) else { continue };
        let again = Abuse { name: behind_nat, behind_nat: true, right: RIGHT_BEHIND_NAT, ..all[at] };
        all.insert(at + 1, again);
    }
    all
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abuse_has_a_name_of_its_own_and_says_what_it_does_and_what_is_right() {
        assert!(ALL.len() >= 60, "{}", ALL.len());
        for (index, abuse) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != abuse.name), "{} twice", abuse.name);
            assert!(
                abuse.name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()),
                "{}",
                abuse.name
            );
            for text in [abuse.does, abuse.right] {
                assert!(text.ends_with('.') && text.len() >= 4, "{}: {text}", abuse.name);
            }
        }
        for (kind, abuses) in KINDS {
            assert!(!abuses.is_empty(), "{kind}");
        }
        assert_eq!(ALL.iter().filter(|abuse| abuse.behind_nat).count(), BEHIND_NAT.len());
    }
}
