//! The rates of an open loop over time, as `--rate` says them.
//!
//! ```text
//!   course = part { "," part }
//!   part   = rate                              holds until the end; the last part only
//!          | rate ":" time                     holds for so long
//!          | rate ".." rate "/" time           rises or falls evenly over so long
//!          | rate ".." rate "x" n "/" time     n equal steps, from the first rate to the last
//!   rate   = operations a second: 250, 0.5, 10k, 1m
//! ```
//!
//! A course begins with the measured window; the warm-up has its first rate, and its last rate
//! holds when it is over.

use crate::schedule::Rate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// At most so many parts, those of a staircase included.
const PARTS_MAX: usize = 64;
/// A ramp is reported in so many steps.
const STEPS_OF_RAMP: u32 = 10;

/// A part of a course: the rate goes from one to the other, evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// Operations a second, at its two ends.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Its length; `None`: until the end.
    pub(crate) time: Option<Duration>,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// At least one; each but the last has a length.
    parts: Arc<[Part]>,
    text: Arc<str>,
}

/// A step that is reported: a part, or a tenth of a ramp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Since the course began, in ns; `to` of the last one is never reached.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The rates at its two ends.
    pub(crate) rates: [f64; 2],
}

impl Course {
    /// One rate from beginning to end.
    pub(crate) fn constant(rate: Rate) -> Course {
        let per_second = rate.per_second();
        let part = Part { from: per_second, to: per_second, time: None };
        Course { parts: [part].into(), text: per_second.to_string().into() }
    }

    /// Whether the rate never changes.
    pub(crate) fn is_constant(&self) -> bool {
        let first = self.parts[0].from;
        self.parts.iter().all(|part| part.from == first && part.to == first)
    }

    /// The parts, in their order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The first rate.
    pub(crate) fn first(&self) -> f64 {
        self.parts[0].from
    }

    /// The rate from beginning to end; `None` if it changes.
    pub(crate) fn rate(&self) -> Option<Rate> {
        Rate::new(self.first()).filter(|_| self.is_constant())
    }

    /// The length of the parts that have one; `None` if there are none.
    pub(crate) fn length(&self) -> Option<Duration> {
        let timed: Duration = self.parts.iter().filter_map(|part| part.time).sum();
        (timed > Duration::ZERO).then_some(timed)
    }

    /// Operations of a warm-up and a measured window.
    pub(super) fn operations(&self, warmup: Duration, measure: Duration) -> f64 {
        let mut left = measure.as_secs_f64();
        let mut sum = self.first() * warmup.as_secs_f64();
        for part in &*self.parts {
            let length = part.time.map_or(left, |time| time.as_secs_f64());
            let spent = length.min(left);
            let end = part.from + (part.to - part.from) * if length > 0.0 { spent / length } else { 0.0 };
            sum += (part.from + end) / 2.0 * spent;
            left -= spent;
        }
        sum + self.parts.last().map_or(0.0, |part| part.to) * left
    }

    /// The steps that are reported; none where the rate never changes.
    pub(crate) fn steps(&self) -> Vec<Step> {
        if self.is_constant() {
            return Vec::new();
        }
        let (mut steps, mut begun) = (Vec::new(), 0_u64);
        for part in &*self.parts {
            let length = part.time.map_or(u64::MAX - begun, |time| time.as_nanos() as u64);
            let slices = if part.from == part.to { 1 } else { STEPS_OF_RAMP };
            let at = |slice: u32| part.from + (part.to - part.from) * f64::from(slice) / f64::from(slices);
            let time = |slice: u32| begun + length / u64::from(slices) * u64::from(slice);
            let slice = |slice: u32| Step {
                from: time(slice),
                to: if slice + 1 == slices { begun.saturating_add(length) } else { time(slice + 1) },
                rates: [at(slice), at(slice + 1)],
            };
            steps.extend((0..slices).map(slice));
            begun = begun.saturating_add(length);
        }
        if let Some(last) = self.parts.last().filter(|part| part.time.is_some()) {
            steps.push(Step { from: begun, to: u64::MAX, rates: [last.to; 2] });
        }
        steps
    }
}

/// A rate: a number, perhaps with k or m.
fn rate(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |number| (number, 1e6)),
    };
    let found = number.parse::<f64>().ok().map(|number| number * factor);
    let valid = found.and_then(Rate::new).map(Rate::per_second);
    valid.ok_or_else(|| {
        format!("`{text}` is no rate; write operations a second, such as 250, 10k or 100..1000/30s")
    })
}

fn time(text: &str) -> Result<Duration, String> {
    let span: crate::settings::units::Span = text.trim().parse()?;
    match span.0 {
        Duration::ZERO => Err(format!("`{text}`: a part of a course takes some time")),
        time => Ok(time),
    }
}

/// Reads one part, which a staircase makes several of.
fn part(text: &str, into: &mut Vec<Part>) -> Result<(), String> {
    let Some((from, rest)) = text.split_once("..") else {
        let (per_second, length) = match text.split_once(':') {
            Some((per_second, length)) => (rate(per_second)?, Some(time(length)?)),
            None => (rate(text)?, None),
        };
        into.push(Part { from: per_second, to: per_second, time: length });
        return Ok(());
    };
    let (to, length) =
        rest.split_once('/').ok_or_else(|| format!("`{text}` has no length; write it like 100..1000/30s"))?;
    let (from, length) = (rate(from)?, time(length)?);
    let Some((to, steps)) = to.split_once('x') else {
        into.push(Part { from, to: rate(to)?, time: Some(length) });
        return Ok(());
    };
    let (to, steps) = (rate(to)?, steps.trim().parse::<u32>().ok());
    let steps = steps
        .filter(|steps| (2..=PARTS_MAX as u32).contains(steps))
        .ok_or_else(|| format!("`{text}`: give 2 to {PARTS_MAX} steps, such as 100..1000x10/50s"))?;
    let at = |step: u32| from + (to - from) * f64::from(step) / f64::from(steps - 1);
    into.extend((0..steps).map(|step| Part { from: at(step), to: at(step), time: Some(length / steps) }));
    Ok(())
}

impl FromStr for Course {
    type Err = String;

    fn from_str(text: &str) -> Result<Course, String> {
        let mut parts = Vec::new();
        for piece in text.split(',') {
            if parts.last().is_some_and(|part: &Part| part.time.is_none()) {
                return Err(format!("`{text}`: only the last part may be without a time"));
            }
            part(piece, &mut parts)?;
            if parts.len() > PARTS_MAX {
                return Err(format!("`{text}` has more than {PARTS_MAX} parts"));
            }
        }
        Ok(Course { parts: parts.into(), text: text.trim().into() })
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Course {
    /// One rate is a number, which expressions of scenario files can use.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.rate().filter(|_| self.length().is_none()) {
            Some(rate) => serializer.serialize_f64(rate.per_second()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Course {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Course, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Course;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate like 250 or \"100..1000/30s\"")
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Course, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Course, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Course, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Course, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(text: &str) -> Course {
        text.parse().unwrap()
    }

    #[test]
    fn parts_read_as_they_are_written() {
        let seconds = |count| Some(Duration::from_secs(count));
        let part = |from, to, time| Part { from, to, time };
        assert_eq!(course("250").parts(), [part(250.0, 250.0, None)]);
        assert_eq!(course("10k").first(), 10_000.0);
        assert_eq!(course("100..1000/30s").parts(), [part(100.0, 1000.0, seconds(30))]);
        let steps = course("100:10s, 200:10s, 400");
        let wanted =
            [part(100.0, 100.0, seconds(10)), part(200.0, 200.0, seconds(10)), part(400.0, 400.0, None)];
        assert_eq!((steps.parts(), steps.length()), (&wanted[..], seconds(20)));
        let staircase = course("100..400x4/8s");
        assert_eq!(
            staircase.parts().iter().map(|part| part.from).collect::<Vec<_>>(),
            [100.0, 200.0, 300.0, 400.0]
        );
        assert_eq!(staircase.length(), seconds(8));
        assert!(course("250").is_constant() && !staircase.is_constant());
        assert_eq!((course("250").length(), course("1..2/1s").rate()), (None, None));
    }

    #[test]
    fn mistakes_are_refused_with_an_example() {
        for text in
            ["", "x", "0", "-1", "100,200", "100:0s", "100..200", "1..2x1/1s", "1..2x99/1s", "5:3", "1e10"]
        {
            let error = text.parse::<Course>().unwrap_err();
            assert!(!error.is_empty(), "{text}");
        }
        let many = vec!["1:1s"; 65].join(",");
        assert!(many.parse::<Course>().unwrap_err().contains("more than 64"));
    }

    #[test]
    fn the_operations_of_a_course_are_the_area_under_it() {
        let count = |text: &str, warmup, measure| {
            course(text).operations(Duration::from_secs(warmup), Duration::from_secs(measure))
        };
        assert_eq!(count("100", 2, 10), 1200.0);
        assert_eq!(count("100..1000/30s", 0, 30), 16_500.0);
        assert_eq!(count("100..1000/30s", 1, 40), 100.0 + 16_500.0 + 10_000.0);
        assert_eq!(count("100..300/10s", 0, 5), 750.0);
        assert_eq!(count("100:1s,200:1s,400", 0, 3), 700.0);
    }

    #[test]
    fn a_ramp_is_reported_in_tenths_and_a_hold_whole() {
        let steps = course("100..1100/10s,500:2s").steps();
        assert_eq!(steps.len(), 12);
        assert_eq!((steps[3].from, steps[3].to), (3_000_000_000, 4_000_000_000));
        assert_eq!(steps[3].rates, [400.0, 500.0]);
        assert_eq!(
            (steps[10].from, steps[10].to, steps[10].rates),
            (10_000_000_000, 12_000_000_000, [500.0; 2])
        );
        assert_eq!((steps[11].from, steps[11].to), (12_000_000_000, u64::MAX));
        assert!(steps.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert!(course("70").steps().is_empty());
    }

    #[test]
    fn a_file_may_say_a_number_or_a_course() {
        #[derive(Deserialize)]
        struct File {
            rate: Course,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.rate.to_string());
        assert_eq!(read("rate = 250").unwrap(), "250");
        assert_eq!(read("rate = 0.5").unwrap(), "0.5");
        assert_eq!(read("rate = \"1..2/1s\"").unwrap(), "1..2/1s");
        assert!(read("rate = \"fast\"").is_err());
    }
}
