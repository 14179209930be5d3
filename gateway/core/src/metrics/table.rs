//! What a scrape says of a metric: its name, kind, labels and help, each written once.
//!
//! Metrics of workers are declared with the counters that they show (`metrics/worker.rs`), those of
//! the control thread in its exposition. docs/metrics.md lists all of them; a test compares.

/// Kind of a metric, as Prometheus names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises, from 0 at the start.
    Counter,
    /// A level.
    Gauge,
    /// Durations, counted in buckets.
    Histogram,
}

impl MetricKind {
    /// The word in an exposition.
    pub const fn label(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name; its unit and `_total` are at its end.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Names of its labels. The values come from closed sets.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub help: &'static str,
}

impl Metric {
    /// Its unit, by the end of its name (Prometheus, "Metric and label naming"); `None`: a number
    /// of things.
    pub fn unit(&self) -> Option<&'static str> {
        let name = self.name.trim_end_matches("_max").trim_end_matches("_total");
        ["seconds", "bytes", "ratio"].into_iter().find(|unit| name.ends_with(unit))
    }
}

/// Declares metrics as constants, and all of them as a list:
///
/// ```
/// gateway_core::metrics! {
///     /// All of them.
///     pub ALL;
///     UP: Gauge "gateway_up" "1 while it is up.";
///     ENDS: Counter "gateway_ends_total" {"by", "reason"} "Ends, by reason.";
/// }
/// assert_eq!(ALL, [UP, ENDS]);
/// assert_eq!(ENDS.labels, ["by", "reason"]);
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$doc:meta])* $visibility:vis $all:ident;
        $($constant:ident: $kind:ident $name:literal $({$($label:literal),+})? $help:literal;)*
    ) => {
        $(
            #[doc = $help]
            $visibility const $constant: $crate::metrics::Metric = $crate::metrics::Metric {
                name: $name,
                kind: $crate::metrics::MetricKind::$kind,
                labels: &[$($($label),+)?],
                help: $help,
            };
        )*
        $(#[$doc])*
        $visibility const $all: &[$crate::metrics::Metric] = &[$($constant),*];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_is_its_unit() {
        for (name, unit) in [
            ("gateway_turn_duration_seconds", Some("seconds")),
            ("gateway_receive_bytes_total", Some("bytes")),
            ("gateway_http_held_bytes_max", Some("bytes")),
            ("gateway_memory_stall_ratio", Some("ratio")),
            ("gateway_sessions", None),
            ("gateway_logins_total", None),
        ] {
            let metric = Metric { name, kind: MetricKind::Gauge, labels: &[], help: "" };
            assert_eq!(metric.unit(), unit, "{name}");
        }
    }
}
