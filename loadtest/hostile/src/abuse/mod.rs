//! The table of abuses: what each does, what the right answer is, and the function that does it.
//!
//! A module for each kind. An abuse is bounded in time by its target's budget and in number by constants of its own; it
//! reports how much it did, what was answered, and which answers were wrong. Bystanders say the rest.

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

use crate::outcome::Outcome;
use crate::profile::Profile;
use crate::target::Target;
use std::io;
use std::sync::LazyLock;

/// Which listener an abuse works on.
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
}

/// Which gateway it needs.
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
    right: &'static str,
) -> Abuse {
    Abuse { name, kind: "", on, needs, does, right, run }
}

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
    KINDS.iter().flat_map(of_kind).collect()
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
    }
}
