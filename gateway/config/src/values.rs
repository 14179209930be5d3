//! The layers of a configuration, merged: defaults, file, environment, flags. Every value that
//! remains fits its key.

use super::problem::{Origin, Problems};
use super::schema::{self, Change, Key};
use super::source::{
    Entry, FileContent, Sources, Written, environment_entries, flag_entries, meant_variable, read_file, show,
};
use super::unknown;
use super::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Every key's value and where it comes from.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Every path is a key, every value fits it.
    entries: BTreeMap<String, (Value, Origin)>,
    /// In the order of the file.
    listeners: Vec<(String, Origin)>,
    /// Keys with a refused value, so that no check also reports them as missing.
    refused: BTreeSet<String>,
}

impl Values {
    /// Reads all layers. Problems are collected; what is wrong keeps its default. `None` when the
    /// file is no TOML: then nothing is known of what it says, and nothing else can be judged.
    pub fn read(sources: &Sources, problems: &mut Problems) -> Option<Values> {
        let mut values = Values::default();
        let mut content = match &sources.file {
            Some((file, text)) => read_file(file, text, problems)?,
            None => FileContent::default(),
        };
        if content.listeners.is_empty() {
            values.default_listeners();
        }
        values.listeners.append(&mut content.listeners);
        let layers =
            [content.entries, environment_entries(&sources.environment), flag_entries(&sources.flags)];
        for entry in layers.into_iter().flatten() {
            values.enter(entry, problems);
        }
        values.near_variables(&sources.environment, problems);
        Some(values)
    }

    fn default_listeners(&mut self) {
        for (name, kind, address, demo_page) in schema::DEFAULT_LISTENERS {
            self.listeners.push(((*name).into(), Origin::Default));
            let mut set = |key: &str, value| {
                self.entries.insert(format!("listener.{name}.{key}"), (value, Origin::Default));
            };
            set("kind", Value::Text((*kind).into()));
            set("address", Value::Text((*address).into()));
            set("demo_page", Value::Bool(*demo_page));
        }
    }

    fn enter(&mut self, entry: Entry, problems: &mut Problems) {
        let Some(key) = self.find(&entry.path) else {
            return problems.push(&entry.origin, subject(&entry, None), self.unknown(&entry.path));
        };
        if key.change == Change::SecretReload && matches!(entry.origin, Origin::Flag(_)) {
            let variable = entry.path.to_ascii_uppercase().replace('.', "__");
            let advice =
                format!("a secret on a command line is seen by every user; set GATEWAY_{variable} or a file");
            return problems.push(&entry.origin, subject(&entry, Some(key)), advice);
        }
        let checked = match &entry.written {
            Written::Typed(value) => key.kind.check(value.clone()),
            Written::Unfit(_) => Err(None),
            Written::Text(text) => key.kind.parse(text),
        };
        match checked {
            Ok(value) => drop(self.entries.insert(entry.path, (value, entry.origin))),
            Err(hint) => {
                let mut advice = format!("expected {}", key.kind.expected());
                if let Some(hint) = hint {
                    let _ = write!(advice, "; write {hint}");
                }
                problems.push(&entry.origin, subject(&entry, Some(key)), advice);
                self.refused.insert(entry.path);
            }
        }
    }

    /// Variables that are no settings, but would be with one more `_`.
    fn near_variables(&self, environment: &[(String, String)], problems: &mut Problems) {
        let paths = self.paths();
        for (name, _) in environment {
            if let Some(meant) = meant_variable(name, &paths) {
                problems.push(
                    &Origin::Environment(name.clone()),
                    "",
                    format!("no such setting; did you mean {meant}?"),
                );
            }
        }
    }

    fn find(&self, path: &str) -> Option<&'static Key> {
        let listener = schema::listener_path(path).map(|(name, _)| name);
        if listener.is_some_and(|listener| self.listeners.iter().all(|(name, _)| name != listener)) {
            return None;
        }
        schema::find(path)
    }

    fn unknown(&self, path: &str) -> String {
        let paths = self.paths();
        unknown::advice(path, &paths.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// All keys, those of every listener included.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = schema::KEYS.iter().map(|key| key.path.to_owned()).collect();
        for (name, _) in &self.listeners {
            paths.extend(schema::LISTENER_KEYS.iter().map(|key| format!("listener.{name}.{}", key.path)));
        }
        paths
    }

    /// The listeners' names, in the order of the file.
    pub fn listeners(&self) -> &[(String, Origin)] {
        &self.listeners
    }

    /// The value at `path`.
    pub fn get(&self, path: &str) -> Value {
        if let Some((value, _)) = self.entries.get(path) {
            return value.clone();
        }
        let parsed = schema::find(path).map(|key| key.kind.parse(key.default));
        debug_assert!(parsed.is_some(), "{path} is not in the schema");
        parsed.and_then(Result::ok).unwrap_or(Value::Text(String::new()))
    }

    /// Where the value at `path` comes from.
    pub fn origin(&self, path: &str) -> Origin {
        self.entries.get(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Whether nothing was written for `path`, not even something wrong.
    pub fn is_missing(&self, path: &str) -> bool {
        !self.entries.contains_key(path) && !self.refused.contains(path)
    }

    /// The whole number at `path`.
    pub fn integer(&self, path: &str) -> i64 {
        match self.get(path) {
            Value::Integer(number) => number,
            _ => 0,
        }
    }

    /// The whole number at `path`, as a size.
    pub fn size(&self, path: &str) -> usize {
        usize::try_from(self.integer(path)).unwrap_or(0)
    }

    /// The text at `path`.
    pub fn text(&self, path: &str) -> String {
        match self.get(path) {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    /// The flag at `path`.
    pub fn flag(&self, path: &str) -> bool {
        self.get(path) == Value::Bool(true)
    }

    /// The texts at `path`.
    pub fn texts(&self, path: &str) -> Vec<String> {
        match self.get(path) {
            Value::Texts(texts) => texts,
            _ => Vec::new(),
        }
    }

    /// Whether any value comes from a file.
    pub fn are_from_file(&self) -> bool {
        self.entries.values().any(|(_, origin)| matches!(origin, Origin::File { .. }))
    }

    /// Adds a problem with the value at `path`.
    pub fn complain(&self, problems: &mut Problems, path: &str, advice: impl Into<String>) {
        problems.push(&self.origin(path), format!("{path} = {}", self.shown(path)), advice);
    }

    /// The value at `path` for people: secrets are not shown.
    pub fn shown(&self, path: &str) -> String {
        let value = self.get(path);
        let secret = schema::find(path).is_some_and(|key| key.change == Change::SecretReload);
        match &value {
            Value::Text(text) if secret && !text.is_empty() => "\"(secret)\"".into(),
            value => value.to_string(),
        }
    }

    /// Takes over `other`'s values of keys that a reload applies, as far as they `may` change.
    pub fn adopt_reloadable(&mut self, other: &Values, may: impl Fn(&str) -> bool) {
        for key in schema::KEYS.iter().filter(|key| key.change != Change::Restart && may(key.path)) {
            self.entries.insert(key.path.into(), (other.get(key.path), other.origin(key.path)));
        }
    }

    /// Paths with values that differ from `other`'s, with whether a reload may apply them.
    pub fn changes(&self, other: &Values) -> Vec<(String, bool)> {
        let mut paths = self.paths();
        paths.extend(other.paths().into_iter().filter(|path| self.find(path).is_none()));
        let changed = paths.into_iter().filter(|path| self.get(path) != other.get(path));
        changed
            .map(|path| {
                let change = schema::find(&path).map_or(Change::Restart, |key| key.change);
                (path, change != Change::Restart)
            })
            .collect()
    }
}

fn subject(entry: &Entry, key: Option<&Key>) -> String {
    if key.is_some_and(|key| key.change == Change::SecretReload) {
        return format!("{} = \"(secret)\"", entry.path);
    }
    let path: String = entry.path.chars().filter(|one| !one.is_control()).take(128).collect();
    let shown = if key.is_none() && secret_like(&path) { "(not shown)".into() } else { show(&entry.written) };
    format!("{path} = {shown}")
}

/// Whether a misspelt key may have meant a secret.
fn secret_like(path: &str) -> bool {
    ["secret", "key", "token", "password"].iter().any(|word| path.contains(word))
}
