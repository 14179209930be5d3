//! What runs have seen: a check that never had anything to check proves nothing.

macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Counts over a run, or over many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Tally {
            pub fn add(&mut self, other: &Tally) {
                $(self.$field += other.$field;)*
            }

            /// Names of what was never seen.
            pub fn unseen(&self) -> Vec<&'static str> {
                let all = [$((stringify!($field), self.$field)),*];
                all.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
            }
        }
    };
}

tally! {
    clients,
    messages,
    received,
    /// Messages that had to reach a connection, and were looked for at rest.
    duties,
    /// Replies whose count of receivers had to be exact.
    outcomes,
    /// Heartbeats whose count had to be exact.
    online,
    drops,
    /// Those that had to be exactly what was missing.
    drops_exact,
    slow_closes,
    mailbox_waits,
    straddles,
    payload_copies,
    /// Closed with 3504, 3505, 3002, 3001.
    replaced,
    devices,
    idle,
    overload,
    /// Verdicts on tokens; sessions whose token ended; logins refused for their token.
    verdicts,
    tokens_ended,
    tokens_refused,
    /// Pushes of the control plane that found no place for a fan-out.
    pushes_refused,
    /// Messages that came back from an echo.
    echoes,
    /// Messages to users that are known by a text.
    uid_messages,
    /// Kicks of one connection that was there, and of one that was no longer.
    kicked_connections,
    kicked_nobody,
    /// Pushes to a room in the moment in which somebody has entered it.
    probes,
    /// Times that a client was left unread, requests refused for its rate, clients closed for it.
    rate_stops,
    rate_refusals,
    rate_closes,
    /// Connections with a refused request for a room.
    blurred,
}
