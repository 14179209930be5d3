//! Settings that a reload must not reset by leaving them out.
//!
//! A file that is read while it is written, or that was emptied, is good TOML with less in it:
//! defaults stand for what is missing. At a start that is what was asked for. While running it
//! would take away a key, or a bound that an operator has set, and the log would say "reloaded". So
//! a value that was written stays in force until another one is written: a reload that leaves it
//! out is refused. That holds for every key of the schema, present and future, except those of
//! [`HARMLESS`].

use super::config::Config;
use super::problem::{Origin, Problems};
use super::schema::{Change, KEYS};

/// Keys that a reload may leave out: their default is never more open than any other value.
const HARMLESS: [&str; 10] = [
    // Fewer keys are trusted; without any the configuration is refused as a whole.
    "auth.key_file",
    "auth.jwks_file",
    "auth.secret",
    // One may replace the other; that one of them is there is checked apart.
    "control.api_key",
    "control.api_key_file",
    "control.goim_api_key",
    // They bound nothing.
    "drain.reconnect_delay_min_ms",
    "drain.reconnect_delay_max_ms",
    "drain.reconnect_address",
    "log.level",
];

/// Adds what `merged` would change of what was written in `old`, without `new` saying so.
pub(super) fn check(old: &Config, merged: &Config, new: &Config, problems: &mut Problems) {
    if old.source.values.are_from_file() && !new.source.values.are_from_file() {
        let file = new.source.file.as_deref().unwrap_or("the configuration file");
        let advice = "has no keys any more, as while it is being written; write it whole (to another name, then rename it), or restart";
        problems.0.clear(); // they follow from this one
        return problems.push(&Origin::Default, file, advice);
    }
    let keys = [
        ("control.api_key", old.control.api_key.is_some(), merged.control.api_key.is_some()),
        ("control.goim_api_key", old.control.goim_api_key.is_some(), merged.control.goim_api_key.is_some()),
    ];
    for (path, was_set, is_set) in keys {
        if was_set && !is_set {
            let advice = "a reload may replace this key, but not open what it closes; write a key, or restart without one";
            merged.source.values.complain(problems, path, advice);
        }
    }
    for key in KEYS.iter().filter(|key| key.change != Change::Restart && !HARMLESS.contains(&key.path)) {
        let (before, after) = (old.source.values.get(key.path), merged.source.values.get(key.path));
        let is_left_out = merged.source.values.origin(key.path) == Origin::Default;
        if is_left_out && before != after {
            let (before, default) = (old.source.values.shown(key.path), merged.source.values.shown(key.path));
            let advice = format!(
                "is left out, and {before} is in force; write the value that is meant, also if it is the default, {default}"
            );
            problems.push(&Origin::Default, key.path, advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::super::value::Kind;
    use super::*;

    fn load(text: &str) -> Config {
        let sources = Sources { file: Some(("gateway.toml".into(), text.into())), ..Sources::default() };
        Config::load(&sources, &|_| Err(std::io::ErrorKind::NotFound.into()))
            .unwrap_or_else(|problems| panic!("{text}{problems}"))
    }

    /// A value that is not the default, and with which the configuration is a good one.
    fn other(path: &str, kind: Kind, default: &str) -> Option<String> {
        Some(match (path, kind) {
            // Files and secrets of tokens have no meaning where none are checked.
            (path, _) if path.starts_with("auth.") => return None,
            ("control.api_key_file", _) => return None,
            ("application.room_access", _) => "[\"private://* = closed\", \"* = open\"]".into(),
            ("application.client_push_operations", _) => "[\"1000\", \"2000-2999\"]".into(),
            ("memory.refuse_at_percent", _) => "80".into(),
            ("memory.shed_at_percent", _) => "96".into(),
            ("memory.close_at_percent", _) => "99".into(),
            (_, Kind::Integer(..)) => (default.parse::<i64>().unwrap() + 1).to_string(),
            (_, Kind::Bool) => (default == "false").to_string(),
            (_, Kind::Choice(choices)) => {
                format!("{:?}", choices.iter().find(|one| **one != default).unwrap())
            }
            (_, Kind::Text(_)) => "\"something\"".into(),
            (path, kind) => panic!("{path}: {kind:?}"),
        })
    }

    /// Each key that a reload applies, written and then left out, as in a file that is only half
    /// there.
    #[test]
    fn what_was_written_stays_until_something_else_is_written() {
        // What a reload may take away without opening, or locking, anything; everything else is a
        // bound.
        let harmless = [
            "drain.reconnect_delay_min_ms",
            "drain.reconnect_delay_max_ms",
            "drain.reconnect_address",
            "log.level",
        ];
        let mut checked = 0;
        for key in KEYS.iter().filter(|key| key.change != Change::Restart) {
            let Some(value) = other(key.path, key.kind, key.default) else { continue };
            let (section, name) = key.path.split_once('.').unwrap();
            let rest = "[io]\nworkers = 1\n";
            let old = load(&format!("{rest}[{section}]\n{name} = {value}\n"));
            let read = |_: &str| Err(std::io::ErrorKind::NotFound.into());
            let half = old.reloaded(&load(rest), &read);
            if harmless.contains(&key.path) {
                assert!(half.is_ok(), "{}", key.path);
                continue;
            }
            let problems = half.expect_err(key.path).to_string();
            assert!(problems.contains(key.path), "{}: {problems}", key.path);
            let default = match key.kind {
                Kind::Texts(_) => format!("[{:?}]", key.default),
                Kind::Text(_) | Kind::Choice(_) | Kind::Address => format!("{:?}", key.default),
                Kind::Integer(..) | Kind::Bool => key.default.into(),
            };
            if key.change == Change::Reload {
                let written = load(&format!("{rest}[{section}]\n{name} = {default}\n"));
                assert!(old.reloaded(&written, &read).is_ok(), "{} = {default}, written", key.path);
            }
            checked += 1;
        }
        assert!(checked > 25, "{checked}");
        assert!(HARMLESS.iter().all(|path| KEYS.iter().any(|key| key.path == *path)));
    }
}
