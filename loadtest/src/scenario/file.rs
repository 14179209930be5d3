//! Scenario files, in TOML: what happens, in stages, and the settings it happens with. The built-in
//! scenarios are such files, too. docs/loadtest.md describes the form.
//!
//! A file without stages gives settings to the built-in scenario that it names. Unknown keys are
//! refused, with the nearest known one.

use super::value::Value;
use crate::error::RunError;
use crate::settings::Settings;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer, Error};

/// The built-in scenarios by name, in the order of the help.
const BUILT_IN: [(&str, &str); 11] = [
    ("connect", include_str!("../../scenarios/connect.toml")),
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("echo", include_str!("../../scenarios/echo.toml")),
    ("push", include_str!("../../scenarios/push.toml")),
    ("room", include_str!("../../scenarios/room.toml")),
    ("broadcast", include_str!("../../scenarios/broadcast.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("slow-reader", include_str!("../../scenarios/slow-reader.toml")),
    ("syn-flood", include_str!("../../scenarios/syn-flood.toml")),
    ("mix", include_str!("../../scenarios/mix.toml")),
    ("million", include_str!("../../scenarios/million.toml")),
];

/// A scenario: its stages, and the settings that it has by itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(rename = "scenario")]
    pub(crate) name: String,
    /// One line.
    #[serde(default)]
    pub(crate) about: String,
    /// Settings that apply in addition to those of every scenario; `None`: all.
    flags: Option<Vec<String>>,
    /// What `--quick` sets.
    pub(super) quick: Option<Settings>,
    /// Set when none of them is given.
    pub(super) unless_given: Option<Settings>,
    /// The generator's size follows the number of connections.
    #[serde(default)]
    pub(super) scaled: bool,
    pub(super) churn: Option<Churn>,
    #[serde(default)]
    pub(super) stage: Vec<Stage>,
    /// The file's own settings.
    #[serde(skip)]
    pub(super) settings: Settings,
    /// The file.
    #[serde(skip)]
    pub(crate) file: String,
}

/// Connections that come and go in addition to the measured ones, through all stages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Churn {
    pub(super) rate: Value,
    pub(super) connections: Value,
    /// There are no others.
    #[serde(default)]
    pub(super) alone: bool,
}

/// What a stage does with the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    #[default]
    Hold,
    Churn,
    Disconnect,
    Reconnect,
}

/// A stage, in the order of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub(super) name: String,
    #[serde(default)]
    pub(super) kind: Kind,
    pub(super) warmup: Option<Value>,
    pub(super) duration: Option<Value>,
    pub(super) settle: Option<Value>,
    pub(super) rest: Option<Value>,
    /// Of a churn.
    pub(super) rate: Option<Value>,
    #[serde(default)]
    pub(super) until_delivered: bool,
    pub(super) syn_rate: Option<Value>,
    /// Judged by this stage alone.
    #[serde(default)]
    pub(super) goal: Vec<String>,
    #[serde(default)]
    pub(super) flow: Vec<Flow>,
}

/// The traffic of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Traffic {
    Echo,
    Push,
    Room,
    Broadcast,
    Message,
}

/// The way of messages into the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    Http,
    Socket,
    Service,
}

/// One flow of a stage.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flow {
    pub(super) kind: Traffic,
    pub(super) via: Option<Way>,
    pub(super) rate: Option<Value>,
    pub(super) depth: Option<Value>,
    pub(super) users: Option<Value>,
    pub(super) publishers: Option<Value>,
    #[serde(default)]
    pub(super) shuffled: bool,
}

/// Settings of every scenario.
const COMMON: &[&str] = &[
    "server",
    "http",
    "transport",
    "protocol",
    "compat",
    "websocket_path",
    "server_pid",
    "metrics",
    "connections",
    "connect_rate",
    "connect_in_flight",
    "connect_timeout",
    "connect_retries",
    "source_addresses",
    "heartbeat",
    "first_mid",
    "platform",
    "token",
    "room_type",
    "room_size",
    "rooms_per_connection",
    "operation",
    "warmup",
    "duration",
    "settle",
    "backend",
    "dpdk_device",
    "dpdk_address",
    "dpdk_huge_pages",
    "dpdk_idle_sleep_us",
    "dpdk_arg",
    "workers",
    "threads",
    "pin",
    "goal",
    "json",
    "html",
    "label",
    "quiet",
];

impl Scenario {
    /// The names of the built-in scenarios.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The built-in scenario of this name.
    ///
    /// # Errors
    /// There is none; the message lists all.
    pub fn built_in(name: &str) -> Result<Scenario, RunError> {
        let (scenario, _) = parse(name, Scenario::text(name)?)?;
        scenario.ok_or_else(|| RunError::new(format!("{name} names no scenario"), "report it as a fault"))
    }

    /// The file of the built-in scenario of this name.
    ///
    /// # Errors
    /// There is none; the message lists all.
    pub(crate) fn text(name: &str) -> Result<&'static str, RunError> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| *text).ok_or_else(|| {
            let names: Vec<&str> = Scenario::names().collect();
            RunError::new(
                format!("no scenario `{name}`"),
                format!("scenarios are: {}; a file may have [[stage]]s of its own", names.join(", ")),
            )
        })
    }

    /// Reads a scenario file; settings that are given in `flags` win over its own.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn load(path: &str, flags: &Settings) -> Result<(Scenario, Settings), RunError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            RunError::new(
                format!("cannot read {path}: {error}"),
                "name a scenario file such as configs/loadtest.echo.toml",
            )
        })?;
        let (own, settings) = parse(path, &text)?;
        match own {
            Some(scenario) if !scenario.stage.is_empty() => Ok((scenario, flags.clone())),
            Some(scenario) => {
                let merged = flags.over(&settings).map_err(|error| {
                    RunError::new(
                        format!("{path} and the flags do not go together: {error}"),
                        "leave the flag out",
                    )
                })?;
                Ok((Scenario::built_in(&scenario.name)?, merged))
            }
            None => Err(RunError::new(
                format!("{path} names no scenario"),
                "add a line such as: scenario = \"echo\"",
            )),
        }
    }

    /// The scenario that another process has as its `file`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of_file(text: &str) -> Result<Scenario, RunError> {
        let (scenario, _) = parse("the coordinator's scenario", text)?;
        scenario.ok_or_else(|| {
            RunError::new("a scenario without a name", "add a line such as: scenario = \"echo\"")
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the setting called `name` applies to it.
    pub fn applies(&self, name: &str) -> bool {
        let own = self.flags.as_ref().is_none_or(|flags| flags.iter().any(|flag| flag == name));
        own || COMMON.contains(&name)
    }

    /// The first given setting that does not apply.
    pub(super) fn unsuited(&self, settings: &Settings) -> Option<String> {
        settings.given().into_iter().find(|name| !self.applies(name))
    }

    /// All quantities, for checks.
    fn values(&self) -> impl Iterator<Item = &Value> {
        let churn = self.churn.iter().flat_map(|churn| [&churn.rate, &churn.connections]);
        let flows = self.stage.iter().flat_map(|stage| &stage.flow);
        let flows = flows.flat_map(|flow| [&flow.rate, &flow.depth, &flow.users, &flow.publishers]);
        let stages = self.stage.iter().flat_map(|stage| {
            [&stage.warmup, &stage.duration, &stage.settle, &stage.rest, &stage.rate, &stage.syn_rate]
        });
        churn.chain(flows.chain(stages).flatten())
    }
}

/// Keys of a scenario that are no settings.
const KEYS: [&str; 8] = ["scenario", "about", "flags", "quick", "unless_given", "scaled", "churn", "stage"];

/// Reads the text of a file: the scenario, unless it names none, and its settings.
fn parse(path: &str, text: &str) -> Result<(Option<Scenario>, Settings), RunError> {
    let explained = |error: Error| explain(path, text, &error);
    let root = DeTable::parse(text).map_err(explained)?;
    let span = root.span();
    let (mut own, mut settings) = (DeTable::new(), DeTable::new());
    for (key, value) in root.into_inner() {
        let is_own = KEYS.contains(&key.get_ref().as_ref());
        if is_own { &mut own } else { &mut settings }.insert(key, value);
    }
    let is_named = own.contains_key("scenario");
    let settings: Settings = read(Spanned::new(span.clone(), settings)).map_err(explained)?;
    if !is_named {
        return Ok((None, settings));
    }
    let mut scenario: Scenario = read(Spanned::new(span, own)).map_err(explained)?;
    let known = Settings::names();
    if let Some(name) =
        scenario.values().flat_map(Value::names).find(|name| !known.iter().any(|known| known == name))
    {
        return Err(RunError::new(format!("{path}: no setting `{name}`"), meant(name, &known)));
    }
    scenario.settings = settings.clone();
    scenario.file = text.to_owned();
    Ok((Some(scenario), settings))
}

fn read<T: DeserializeOwned>(table: Spanned<DeTable<'_>>) -> Result<T, Error> {
    T::deserialize(Deserializer::from(table))
}

fn meant(name: &str, known: &[String]) -> String {
    let nearest = known.iter().min_by_key(|known| distance(name, known));
    format!("did you mean `{}`?", nearest.map_or("", String::as_str))
}

fn explain(path: &str, text: &str, error: &Error) -> RunError {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message();
    let what =
        format!("{path}, line {line}: {}", message.split(", expected one of").next().unwrap_or(message));
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown ") => {
            // At the top, a key may be a setting or one of the scenario's own.
            let top = if known.contains(&"server") { &KEYS[..] } else { &[] };
            let known: Vec<String> = known.iter().chain(top).map(|name| (*name).to_owned()).collect();
            RunError::new(what, meant(unknown, &known))
        }
        _ => RunError::new(what, "see `loadtest <scenario> --help`: a key is a flag's name with underscores"),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_like_flags() {
        let text =
            "# an echo\nscenario = \"echo\"\nconnections = \"2k\"\nduration = \"3s\"\ngoal = [\"loss=0\"]\n";
        let (scenario, settings) = parse("x.toml", text).unwrap();
        assert_eq!(scenario.unwrap().name, "echo");
        assert_eq!(settings.connections.map(|c| c.0), Some(2000));
        assert_eq!(settings.given(), ["connections", "duration", "goal"]);
    }

    #[test]
    fn the_built_in_scenarios_are_whole() {
        let all: Vec<Scenario> = Scenario::names().map(|name| Scenario::built_in(name).unwrap()).collect();
        assert!(all.iter().zip(Scenario::names()).all(|(scenario, name)| scenario.name == name));
        assert!(all.iter().all(|scenario| !scenario.stage.is_empty() && !scenario.about.is_empty()));
        for scenario in &all {
            let flags = scenario.flags.iter().flatten();
            let unknown: Vec<_> = flags.filter(|flag| !Settings::names().contains(flag)).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", scenario.name);
            assert_eq!(scenario.unsuited(&scenario.settings), None, "{}", scenario.name);
        }
        let unknown: Vec<_> =
            COMMON.iter().filter(|name| !Settings::names().contains(&(**name).into())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn mistakes_name_their_line_and_the_nearest_key() {
        let error = |text: &str| parse("x.toml", text).unwrap_err().to_string();
        for (text, line, meant) in [
            ("scenario = \"echo\"\n\nconections = 5\n", "line 3", "did you mean `connections`?"),
            ("scenario = \"echo\"\nstages = 5\n", "line 2", "did you mean `stage`?"),
            (
                "scenario = \"a\"\n[[stage]]\nname = \"a\"\ndurration = 5\n",
                "line 4",
                "did you mean `duration`?",
            ),
            (
                "scenario = \"a\"\n[[stage]]\nname = \"a\"\nkind = \"chrun\"\n",
                "line 4",
                "did you mean `churn`?",
            ),
            (
                "scenario = \"a\"\n[[stage]]\nname = \"a\"\nflow = [{ kind = \"echo\", deepth = 1 }]\n",
                "line 4",
                "did you mean `depth`?",
            ),
            ("scenario = \"echo\"\nduration = \"5\"\n", "line 2", "500ms"),
            (
                "scenario = \"a\"\n[[stage]]\nname = \"a\"\nduration = \"idle_four\"\n",
                "no setting `idle_four`",
                "did you mean `idle_for`?",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(line) && error.contains(meant), "{error}");
        }
    }

    #[test]
    fn a_file_must_name_a_scenario_or_have_stages() {
        assert!(parse("x.toml", "connections = 1").unwrap().0.is_none());
        let error = Scenario::built_in("nonsense").unwrap_err().to_string();
        assert!(error.contains("connect, idle, echo"), "{error}");
    }
}
