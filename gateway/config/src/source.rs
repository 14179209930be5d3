//! Sources of settings: a TOML file, the environment, flags. Each becomes a list of `path = value`
//! with its place.

use super::problem::{Origin, Problems};
use super::unknown::means_listener;
use super::value::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Prefix of the variables that are settings: `GATEWAY_IO__BACKEND` is `io.backend`.
const PREFIX: &str = "GATEWAY_";

/// A configuration file is at most this large, in bytes.
pub const FILE_SIZE_MAX: usize = 1 << 20;

/// Everything that a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of the file, if there is one.
    pub file: Option<(String, String)>,
    /// Variables of the environment, all of them; those that are no settings are skipped.
    pub environment: Vec<(String, String)>,
    /// `key`, `value` and the flag as it was written.
    pub flags: Vec<(String, String, String)>,
}

/// A value as it was written.
#[derive(Debug)]
pub(super) enum Written {
    /// In the file, so it has a type.
    Typed(Value),
    /// In the file, of a type that no key has; as text.
    Unfit(String),
    /// In the environment or a flag.
    Text(String),
}

/// `path = value`, and where.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) written: Written,
    pub(super) origin: Origin,
}

/// A file's content: listeners' names and all entries.
#[derive(Debug, Default)]
pub(super) struct FileContent {
    pub(super) listeners: Vec<(String, Origin)>,
    pub(super) entries: Vec<Entry>,
}

/// Reads the text of a file. `None` when it is no TOML: what is left of it would only be
/// misunderstood.
pub(super) fn read_file(file: &str, text: &str, problems: &mut Problems) -> Option<FileContent> {
    let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    let mut reader = FileReader { file, line_ends, content: FileContent::default() };
    if text.len() > FILE_SIZE_MAX {
        let origin = reader.origin(&(0..0));
        problems.push(
            &origin,
            "",
            format!("the file is {} bytes; at most {FILE_SIZE_MAX} are read", text.len()),
        );
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        reader.syntax_errors(text, errors, problems);
        return None;
    }
    for (name, value) in table.get_ref() {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("listener", DeValue::Array(items)) => {
                for item in items.iter() {
                    reader.listener(item, problems);
                }
            }
            (section, DeValue::Array(items)) if is_list_of_tables(items) => {
                let advice = match means_listener(section) {
                    true => "no such list; did you mean [[listener]]?",
                    false => "no such list; the only one is [[listener]]",
                };
                problems.push(&reader.origin(&name.span()), format!("[[{}]]", shorten(section)), advice);
            }
            (section, _) if section == "listener" || means_listener(section) => {
                let advice = "listeners are written as [[listener]], with two brackets, one a listener";
                problems.push(&reader.origin(&name.span()), shorten(section), advice);
            }
            (section, value_ref) => reader.value(section.to_owned(), &value.span(), value_ref, 0),
        }
    }
    Some(reader.content)
}

fn is_list_of_tables(items: &[Spanned<DeValue<'_>>]) -> bool {
    items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_)))
}

struct FileReader<'a> {
    file: &'a str,
    /// Where its lines end, in bytes.
    line_ends: Vec<usize>,
    content: FileContent,
}

/// The key or the section that a line begins with, without quotes.
fn begins(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let key = match line.strip_prefix('[') {
        Some(section) => section.trim_start_matches('[').split(']').next(),
        None => line.split_once('=').map(|(key, _)| key),
    };
    key.map(|key| key.trim().trim_matches(['"', '\'']))
}

/// The line, from 1, on which what the line `second` (from 1) begins with was written before: in
/// the same section, or anywhere if it is a section.
fn first_time(text: &str, second: usize) -> Option<usize> {
    let lines: Vec<&str> = text.lines().take(second).collect();
    let (last, before) = lines.split_last()?;
    let is_section = last.trim_start().starts_with('[');
    let name = begins(last)?;
    let above = before.iter().enumerate().rev();
    let mut within = above.take_while(|(_, line)| is_section || !line.trim_start().starts_with('['));
    within.find(|(_, line)| begins(line) == Some(name)).map(|(index, _)| index + 1)
}

impl FileReader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.line_ends.partition_point(|end| *end < span.start)
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File { file: self.file.to_owned(), line: self.line(span) }
    }

    /// Reports one problem per line: later errors of the same line mostly follow from the first.
    fn syntax_errors(&self, text: &str, errors: Vec<toml::de::Error>, problems: &mut Problems) {
        let mut reported = BTreeSet::new();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let line = self.line(&span);
            if !reported.insert(line) {
                continue;
            }
            let origin = self.origin(&span);
            let written = text.lines().nth(line - 1).unwrap_or_default();
            let (name, section) =
                (begins(written).unwrap_or_default(), written.trim_start().starts_with('['));
            match (error.message().trim(), first_time(text, line)) {
                ("duplicate key", Some(first)) if section => {
                    let advice = format!("line {first} has this already; put its keys together there");
                    problems.push(&origin, format!("[{}]", shorten(name)), advice);
                }
                ("duplicate key", Some(first)) => {
                    let advice = format!("line {first} has this key already; remove one of the two");
                    problems.push(&origin, shorten(name), advice);
                }
                (message, _) => problems.push(&origin, "", format!("not valid TOML: {message}")),
            }
        }
    }

    fn value(&mut self, path: String, span: &Range<usize>, value: &DeValue<'_>, depth: usize) {
        match value {
            DeValue::Table(table) if depth < 4 => {
                for (name, value) in table {
                    self.value(
                        format!("{path}.{}", name.get_ref()),
                        &value.span(),
                        value.get_ref(),
                        depth + 1,
                    );
                }
            }
            value => {
                let origin = self.origin(span);
                self.content.entries.push(Entry { path, written: written(value), origin });
            }
        }
    }

    fn listener(&mut self, item: &Spanned<DeValue<'_>>, problems: &mut Problems) {
        let origin = self.origin(&item.span());
        let DeValue::Table(table) = item.get_ref() else {
            return problems.push(&origin, "listener", "expected a table: [[listener]]");
        };
        let name = table.iter().find(|(key, _)| key.get_ref() == "name");
        let Some((_, name_value)) = name else {
            return problems.push(&origin, "listener", "a listener needs a name, such as name = \"tcp\"");
        };
        let origin = self.origin(&name_value.span());
        let name = match name_value.get_ref() {
            DeValue::String(name) if is_name(name) => name.to_string(),
            other => {
                let subject = format!("listener.name = {}", show(&written(other)));
                return problems.push(
                    &origin,
                    subject,
                    "expected 1 to 32 of a-z, 0-9 and _, beginning with a letter",
                );
            }
        };
        if self.content.listeners.iter().any(|(other, _)| *other == name) {
            return problems.push(
                &origin,
                format!("listener.name = \"{name}\""),
                "another listener has this name",
            );
        }
        for (key, value) in table.iter().filter(|(key, _)| key.get_ref() != "name") {
            self.value(format!("listener.{name}.{}", key.get_ref()), &value.span(), value.get_ref(), 0);
        }
        self.content.listeners.push((name, origin));
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|one: char| one.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn written(value: &DeValue<'_>) -> Written {
    match value {
        DeValue::String(text) => Written::Typed(Value::Text(text.to_string())),
        DeValue::Boolean(flag) => Written::Typed(Value::Bool(*flag)),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Written::Typed(Value::Integer(number)),
            Err(_) => Written::Unfit(number.as_str().to_owned()),
        },
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            });
            match texts.collect() {
                Some(texts) => Written::Typed(Value::Texts(texts)),
                None => Written::Unfit("[…]".into()),
            }
        }
        DeValue::Float(number) => Written::Unfit(number.as_str().to_owned()),
        DeValue::Datetime(time) => Written::Unfit(time.to_string()),
        DeValue::Table(_) => Written::Unfit("{…}".into()),
    }
}

/// As it was written, cut to what fits a line.
pub(super) fn show(written: &Written) -> String {
    let text = match written {
        Written::Typed(value) => value.to_string(),
        Written::Unfit(text) | Written::Text(text) => text.clone(),
    };
    shorten(&text)
}

/// What fits a line.
fn shorten(text: &str) -> String {
    let shown: String =
        text.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one }).take(64).collect();
    if shown.len() < text.len() && text.chars().count() > 64 { shown + "…" } else { shown }
}

/// The settings among the variables of the environment.
///
/// A variable without `__` is none: Kubernetes, for one, makes `GATEWAY_PORT` and the like for a
/// service's name.
pub(super) fn environment_entries(variables: &[(String, String)]) -> Vec<Entry> {
    let settings = variables.iter().filter_map(|(name, value)| {
        let path = name.strip_prefix(PREFIX)?;
        path.contains("__").then(|| Entry {
            path: path.to_ascii_lowercase().replace("__", "."),
            written: Written::Text(value.clone()),
            origin: Origin::Environment(name.clone()),
        })
    });
    settings.collect()
}

/// The variable that was meant by one with `_` where `__` belongs, as far as there is such a key.
pub(super) fn meant_variable(name: &str, paths: &[String]) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let path = paths.iter().find(|path| path.replace('.', "_") == rest)?;
    Some(format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__")))
}

/// The settings among the flags.
pub(super) fn flag_entries(flags: &[(String, String, String)]) -> Vec<Entry> {
    let entry = |(path, value, flag): &(String, String, String)| Entry {
        path: path.clone(),
        written: Written::Text(value.clone()),
        origin: Origin::Flag(flag.clone()),
    };
    flags.iter().map(entry).collect()
}
