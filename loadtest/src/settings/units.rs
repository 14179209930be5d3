//! Numbers in the notation of the command line: `500ms`, `2m`, `50k`, `1m`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Span(pub Duration);

/// A count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Count(pub u32);

/// Splits `text` into a number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some((number, unit.trim()))
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("`{text}` is no time; write it like 500ms, 10s, 2m or 1h");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        Duration::try_from_secs_f64(number * seconds).map(Span).map_err(|_| wrong())
    }
}

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Count, String> {
        let wrong = || format!("`{text}` is no count; write it like 1000, 50k or 1m");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let factor = match unit {
            "" => 1.0,
            "k" | "K" => 1e3,
            "m" | "M" => 1e6,
            _ => return Err(wrong()),
        };
        let count = number * factor;
        if count.fract() != 0.0 || count > f64::from(u32::MAX) {
            return Err(wrong());
        }
        Ok(Count(count as u32))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            _ if nanos.is_multiple_of(1_000_000_000) => write!(f, "{}s", nanos / 1_000_000_000),
            _ if nanos.is_multiple_of(1_000_000) => write!(f, "{}ms", nanos / 1_000_000),
            _ if nanos.is_multiple_of(1000) => write!(f, "{}us", nanos / 1000),
            _ => write!(f, "{nanos}ns"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count like 1000 or \"50k\"")
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Count, E> {
                u32::try_from(value).map(Count).map_err(|_| E::custom(format!("{value} is out of range")))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Count, E> {
                u32::try_from(value).map(Count).map_err(|_| E::custom(format!("{value} is out of range")))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Count, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_read_and_print() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.to_string());
        assert_eq!(span("1.5s").unwrap(), "1500ms");
        assert_eq!(span("250us").unwrap(), "250us");
        assert_eq!(span("2m").unwrap(), "120s");
        assert!(span("5").is_err() && span("x").is_err() && span("-1s").is_err());
        assert_eq!("1.5k".parse(), Ok(Count(1500)));
        assert_eq!("1m".parse(), Ok(Count(1_000_000)));
        assert!("1.5".parse::<Count>().is_err() && "5g".parse::<Count>().is_err());
    }
}
