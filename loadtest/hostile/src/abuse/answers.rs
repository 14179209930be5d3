//! Right answers: which words of [`crate::answer_word`] may answer an abuse, and which have to.
//!
//! The words are those that `docs/protocol.md` and `docs/operations.md` promise for what the abuse
//! does. Where a rate may come first, its answers are right, too; among all other abuses at once
//! those of a busy gateway are ([`CROWDED`]).

/// Answers of an abuse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    /// Alone, one of these has to come; with none, silence is right.
    pub(crate) must: &'static [&'static str],
    /// These may come.
    pub(crate) may: &'static [&'static [&'static str]],
}

/// The answers of an abuse: one of `must` has to come, and what is in `may` can.
pub(crate) const fn answers(
    must: &'static [&'static str],
    may: &'static [&'static [&'static str]],
) -> Answers {
    Answers { must, may }
}

/// Above a rate: protocol.md, "Rates".
pub(crate) const RATED: &[&str] = &["error 429", "answered 429", "closed 3004"];
/// Too many faulty requests: the same.
pub(crate) const FAULTY: &[&str] = &["closed 3500"];
/// Tables, mailboxes, fan-outs: protocol.md, "Error codes".
pub(crate) const BUSY: &[&str] = &["error 503", "answered 503"];
/// No buffer, no place, no slot, or the address has reached its share: protocol.md, "Close codes".
pub(crate) const OVERLOAD: &[&str] = &["closed 3001", "login closed 3001"];
/// The address has as many connections as it may: over WebSocket 429, and beyond 256 refusals in
/// two seconds the end alone.
pub(crate) const ADDRESS: &[&str] =
    &["closed 3001", "login closed 3001", "429", "login ended", "login reset", "ended", "reset"];
/// A receiver that takes nothing is closed, or cut off without a last message; a reset may lose
/// what it was sent.
pub(crate) const SLOW: &[&str] = &["closed 3008", "ended", "reset"];
/// A slot was given to a newcomer, or a reset lost the last message.
pub(crate) const GONE: &[&str] = &["ended", "reset"];
pub(crate) const TAKEN: &[&str] = &["taken"];

/// Among a hundred other abuses a gateway may refuse for any shortage, a client may be too slow to
/// be answered, and what an abuse waits for may take longer than its patience.
const CROWDED: &[&[&str]] = &[
    RATED,
    BUSY,
    ADDRESS,
    SLOW,
    &["closed 3003", "503", "408", "open", "no answer", "closed without a byte", "login not answered"],
];

fn within(groups: &[&[&str]], word: &str) -> bool {
    groups.iter().any(|group| group.contains(&word))
}

/// Whether `word` is a right answer of a gateway that many abuses keep busy.
pub(crate) fn is_of_a_crowd(word: &str) -> bool {
    within(CROWDED, word)
}

impl Answers {
    /// Whether `word` is right; `crowded`: many abuses run at once.
    pub(crate) fn allow(&self, word: &str, crowded: bool) -> bool {
        self.must.contains(&word) || within(self.may, word) || crowded && is_of_a_crowd(word)
    }

    /// All of them, as text.
    pub(crate) fn list(&self) -> String {
        let may = self.may.iter().flat_map(|group| group.iter());
        let mut all: Vec<&str> = self.must.iter().chain(may).copied().collect();
        all.dedup();
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_wrong_and_a_crowd_excuses_only_what_is_busy() {
        let right = answers(&["closed 3500"], &[RATED]);
        assert!(right.allow("closed 3500", false) && right.allow("error 429", false));
        assert!(!right.allow("closed 3001", false) && right.allow("closed 3001", true));
        for wrong in ["taken", "error 400", "malformed", "other", ""] {
            assert!(!right.allow(wrong, true), "{wrong}");
        }
        assert_eq!(right.list(), "closed 3500, error 429, answered 429, closed 3004");
    }
}
