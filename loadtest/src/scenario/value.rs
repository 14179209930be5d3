//! Quantities of a scenario file: numbers, times, and settings by name, multiplied and divided.
//!
//! ```text
//!   value       = product { " or " product }       the first whose settings are all given
//!   product     = term { (" * " | " / ") term }
//!   term        = number | count | time | "inf" | name of a setting
//! ```
//!
//! Times are in seconds. `10`, `"10s"`, `"push_rate / batch"`, `"churn_rate or 100"`.

use crate::error::RunError;
use crate::schedule::Rate;
use crate::settings::units::{Count, Span};
use serde::Deserialize;
use std::time::Duration;

/// A quantity as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    /// A number.
    Number(f64),
    /// Words; see the module's text.
    Words(String),
}

impl Value {
    /// The settings that it names.
    pub(crate) fn names(&self) -> Vec<&str> {
        let Value::Words(text) = self else { return Vec::new() };
        let words = text.split_ascii_whitespace().filter(|word| !["or", "*", "/"].contains(word));
        words.filter(|word| literal(word).is_none()).collect()
    }

    /// Its number with these settings; `None`: a setting that it needs is not given.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn resolve(&self, settings: &toml::Table) -> Result<Option<f64>, String> {
        match self {
            Value::Number(number) => Ok(Some(*number)),
            Value::Words(text) => {
                for part in text.split(" or ") {
                    let found = product(part, settings)
                        .ok_or_else(|| format!("`{text}` is no quantity; write it like `push_rate / 10`"))?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Outer `None`: it cannot be read; inner `None`: a setting is not given.
fn product(text: &str, settings: &toml::Table) -> Option<Option<f64>> {
    let mut words = text.split_ascii_whitespace();
    let mut result = term(words.next()?, settings);
    while let Some(operator) = words.next() {
        let factor = term(words.next()?, settings);
        result = result.zip(factor).map(|(result, factor)| match operator {
            "*" => result * factor,
            _ => result / factor,
        });
        ["*", "/"].contains(&operator).then_some(())?;
    }
    Some(result)
}

fn term(word: &str, settings: &toml::Table) -> Option<f64> {
    literal(word).or_else(|| match settings.get(word)? {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        toml::Value::String(text) => literal(text),
        _ => None,
    })
}

/// The number that a word is by itself. A name begins with a letter, `inf` excepted.
fn literal(word: &str) -> Option<f64> {
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return (word == "inf").then_some(f64::INFINITY);
    }
    let count = || Some(f64::from(word.parse::<Count>().ok()?.0));
    let span = || Some(word.parse::<Span>().ok()?.0.as_secs_f64());
    // `5m` is five minutes, as in a time; `5k` can only be a count.
    word.parse().ok().or_else(span).or_else(count)
}

/// Quantities of a file with the settings of a run.
pub(super) struct Quantities<'a> {
    /// Name of the scenario, for messages.
    pub(super) scenario: &'a str,
    pub(super) table: toml::Table,
}

impl Quantities<'_> {
    /// The number of a value; `None`: there is none, or a setting that it needs is not given.
    pub(super) fn number(&self, value: Option<&Value>) -> Result<Option<f64>, RunError> {
        let Some(value) = value else { return Ok(None) };
        value.resolve(&self.table).map_err(|what| {
            RunError::new(format!("scenario {}: {what}", self.scenario), "see docs/loadtest.md")
        })
    }

    /// A length of time: of `value`, otherwise of the setting `name`.
    pub(super) fn span(&self, value: Option<&Value>, name: &str) -> Result<Duration, RunError> {
        let setting = Value::Words(name.to_owned());
        let seconds = self.number(Some(value.unwrap_or(&setting)))?.unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).map_err(|error| {
            RunError::new(
                format!("scenario {}: {seconds} s is no length of time: {error}", self.scenario),
                "see docs/loadtest.md",
            )
        })
    }

    /// A count, of at least one.
    pub(super) fn count(&self, value: Option<&Value>) -> Result<Option<u32>, RunError> {
        Ok(self.number(value)?.map(|number| (number.ceil() as u32).max(1)))
    }
}

/// Reads a rate, which is positive.
pub(super) fn rate(per_second: f64, flag: &str) -> Result<Rate, RunError> {
    Rate::new(per_second).ok_or_else(|| {
        RunError::new(format!("{flag} {per_second} is no rate"), "give a positive number, at most 10^9")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Option<f64>, String> {
        let settings: toml::Table = "push_rate = 5000\nbatch = 10\nwarmup = \"2s\"".parse().unwrap();
        Value::Words(text.to_owned()).resolve(&settings)
    }

    #[test]
    fn settings_are_multiplied_divided_and_replaced() {
        for (text, number) in [
            ("push_rate", 5000.0),
            ("push_rate / batch", 500.0),
            ("warmup * 10", 20.0),
            ("push_rate / batch / 5", 100.0),
            ("broadcast_rate or 0.001", 0.001),
            ("churn_rate or broadcast_rate or batch * 2", 20.0),
            ("150ms", 0.15),
            ("50k", 50_000.0),
            ("inf", f64::INFINITY),
        ] {
            assert_eq!(resolved(text), Ok(Some(number)), "{text}");
        }
        assert_eq!(resolved("broadcast_rate * 2"), Ok(None));
        for text in ["", "batch *", "batch 2", "batch + 2"] {
            assert!(resolved(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_names_are_those_of_settings() {
        let value = Value::Words("churn_rate or rate * 2 / 10s".to_owned());
        assert_eq!(value.names(), ["churn_rate", "rate"]);
        assert!(Value::Number(0.5).names().is_empty());
    }
}
