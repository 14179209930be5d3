//! What clients may do: which rooms they may enter, and under which operations they may push to
//! others.
//!
//! Rules are short lists that an operator writes, looked through in their order; nothing here
//! allocates after it was made.

/// Which clients may enter a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomAccess {
    /// Every client, as in goim.
    Open,
    /// Clients with a token that lists the room.
    Claim,
    /// Services only.
    Closed,
}

/// A pattern of room keys: one key, or all that begin with what stands before a `*` at its end.
fn matches(pattern: &str, room: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => room.starts_with(prefix),
        None => room == pattern,
    }
}

/// Whether one of `patterns`, with a line feed between them, is that of the room.
pub fn lists(patterns: &str, room: &str) -> bool {
    patterns.split('\n').any(|pattern| !pattern.is_empty() && matches(pattern, room))
}

/// Which clients may enter which rooms: the first rule with a pattern that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRules(Vec<(String, RoomAccess)>);

impl Default for RoomRules {
    fn default() -> RoomRules {
        RoomRules(vec![("*".into(), RoomAccess::Open)])
    }
}

impl RoomRules {
    /// Parses rules such as `private://* = claim`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(rules: &[String]) -> Result<RoomRules, String> {
        let mut parsed = Vec::with_capacity(rules.len());
        for rule in rules {
            let form = "expected rules such as \"live://* = open\": a room, or a prefix with * behind it, then = and open, claim or closed";
            // A room's key may have an equals sign; what stands behind the last one is the access.
            let (pattern, access) = rule.rsplit_once('=').ok_or(form)?;
            let access = match access.trim() {
                "open" => RoomAccess::Open,
                "claim" => RoomAccess::Claim,
                "closed" => RoomAccess::Closed,
                _ => return Err(form.into()),
            };
            let pattern = pattern.trim();
            if pattern.is_empty() || pattern.chars().any(char::is_control) {
                return Err(form.into());
            }
            parsed.push((pattern.to_owned(), access));
        }
        match parsed.last() {
            Some((pattern, _)) if pattern == "*" => Ok(RoomRules(parsed)),
            _ => Err(
                "the last rule must be for all other rooms: \"* = open\", \"* = claim\" or \"* = closed\""
                    .into(),
            ),
        }
    }

    /// Which clients may enter the room.
    pub fn of(&self, room: &str) -> RoomAccess {
        let rule = self.0.iter().find(|(pattern, _)| matches(pattern, room));
        rule.map_or(RoomAccess::Closed, |(_, access)| *access)
    }

    /// Whether some rooms take a claim.
    pub fn uses_claims(&self) -> bool {
        self.0.iter().any(|(_, access)| *access == RoomAccess::Claim)
    }
}

/// The push operations that clients may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOperations(Vec<(i32, i32)>);

impl Default for PushOperations {
    fn default() -> PushOperations {
        PushOperations(vec![(1000, 1000)])
    }
}

impl PushOperations {
    /// Parses operations and ranges such as `1000` and `2000-2999`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(operations: &[String]) -> Result<PushOperations, String> {
        let one = |text: &str| text.trim().parse::<i32>().ok().filter(|operation| *operation >= 1000);
        let range = |text: &String| match text.split_once('-') {
            Some((from, to)) => Some((one(from)?, one(to)?)).filter(|(from, to)| from <= to),
            None => one(text).map(|operation| (operation, operation)),
        };
        let ranges: Option<Vec<_>> = operations.iter().map(range).collect();
        let form =
            "expected push operations from 1000 to 2147483647, and ranges of them such as \"2000-2999\"";
        ranges.map(PushOperations).ok_or_else(|| form.into())
    }

    /// Whether the operation is one of them.
    pub fn contains(&self, operation: i32) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = RoomRules::parse(&texts(&[
            "private://lobby=open",
            "private://* = claim",
            "a=b = closed",
            "*=open",
        ]));
        let rules = rules.unwrap();
        assert_eq!(rules.of("private://lobby"), RoomAccess::Open);
        assert_eq!(rules.of("private://lobby2"), RoomAccess::Claim);
        assert_eq!(rules.of("a=b"), RoomAccess::Closed);
        assert_eq!(rules.of("a"), RoomAccess::Open);
        assert!(rules.uses_claims() && !RoomRules::default().uses_claims());
        assert_eq!(RoomRules::default().of("anything"), RoomAccess::Open);
        for bad in [&["*"][..], &["* = nobody"], &["= open", "*=open"], &["live://*=open"], &[]] {
            assert!(RoomRules::parse(&texts(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_claim_lists_rooms_and_prefixes() {
        assert!(lists("a\nteam://7/*", "team://7/lunch") && lists("a\nteam://7/*", "a"));
        assert!(!lists("a\nteam://7/*", "ab") && !lists("a\nteam://7/*", "team://70"));
        assert!(!lists("", "") && !lists("", "a") && !lists("\n", "") && lists("*", "a"));
    }

    #[test]
    fn operations_come_alone_and_in_ranges() {
        let operations = PushOperations::parse(&texts(&["1000", "2000-2999"])).unwrap();
        assert!([1000, 2000, 2999].into_iter().all(|one| operations.contains(one)));
        assert!([999, 1001, 1999, 3000].into_iter().all(|one| !operations.contains(one)));
        assert!(!PushOperations::parse(&[]).unwrap().contains(1000));
        for bad in ["999", "x", "2000-1999", "1000-", "", "1000-2147483648"] {
            assert!(PushOperations::parse(&texts(&[bad])).is_err(), "{bad}");
        }
    }
}
