//! What a reload must not open by leaving something out.
//!
//! A file that is read while it is written, or that was emptied, is good TOML with less in it: defaults stand for what is
//! missing. At a start that is what was asked for. While running it would take away a key, or a bound that an operator has set,
//! and the log would say "reloaded". So a reload opens only what is written down, and takes away a key in no case.

use super::value::Value;
use super::{Config, Origin, Problems};

/// Whether the change from one value to another opens something.
type Opens = fn(&Value, &Value) -> bool;

/// Keys whose default is more open than another value, and whether the change from one value to another opens something.
const BOUNDS: [(&str, Opens); 5] = [
    ("application.client_send", |old, new| *old == Value::Bool(false) && *new == Value::Bool(true)),
    ("application.room_send", |old, new| is_text(old, "members") && !is_text(new, "members")),
    ("auth.algorithms", |old, new| is_list(old) && *old != *new),
    ("session.device_policy", |old, new| is_text(old, "per-platform") && *old != *new),
    ("session.devices_per_user_max", |old, new| devices(new) > devices(old)),
];

fn is_text(value: &Value, text: &str) -> bool {
    matches!(value, Value::Text(written) if written == text)
}

fn is_list(value: &Value) -> bool {
    matches!(value, Value::Texts(written) if !written.is_empty())
}

/// 0 is any number.
fn devices(value: &Value) -> i64 {
    match value {
        Value::Integer(0) => i64::MAX,
        Value::Integer(count) => *count,
        _ => 0,
    }
}

/// Adds what `merged` would open of what `old` closes, without `new` saying so.
pub(super) fn check(old: &Config, merged: &Config, new: &Config, problems: &mut Problems) {
    if old.source.values.are_from_file() && !new.source.values.are_from_file() {
        let file = new.source.file.as_deref().unwrap_or("the configuration file");
        let advice = "has no keys any more, as while it is being written; write it whole (to another name, then rename it), or restart";
        problems.push(&Origin::Default, file, advice);
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
    for (path, opens) in BOUNDS {
        let (before, after) = (old.source.values.get(path), merged.source.values.get(path));
        let is_left_out = merged.source.values.origin(path) == Origin::Default;
        if is_left_out && opens(&before, &after) {
            let advice = format!(
                "is left out, and its default is more open than {before}, which is in force; write the value that is meant"
            );
            merged.source.values.complain(problems, path, advice);
        }
    }
}
