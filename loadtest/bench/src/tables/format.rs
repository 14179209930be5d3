//! Figures as the tables have them.

use crate::run::{CaseReport, Ratio, Spread};

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// A figure in text, or the dash.
pub(super) fn or_dash(figure: Option<String>) -> String {
    figure.unwrap_or_else(|| NONE.to_owned())
}

/// Nanoseconds: whole ones below a microsecond, else microseconds with two decimals.
pub(super) fn nanos(ns: f64) -> String {
    if ns < 100.0 {
        format!("{ns:.1} ns")
    } else if ns < 1e3 {
        format!("{ns:.0} ns")
    } else {
        format!("{:.2} µs", ns / 1e3)
    }
}

/// Microseconds, or milliseconds.
pub(super) fn micros(us: f64) -> String {
    if us < 1e3 { format!("{us:.0} µs") } else { format!("{:.1} ms", us / 1e3) }
}

/// A rate a second, in thousands.
pub(super) fn rate(a_second: f64) -> String {
    format!("{:.0} k/s", a_second / 1e3)
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The median of a row's figure in words.
pub(super) fn median(spread: Option<Spread>, words: fn(f64) -> String) -> String {
    or_dash(spread.map(|spread| words(spread.median)))
}

/// A ratio of two rows of a case.
pub(super) fn ratio(
    case: &CaseReport,
    rows: (&str, &str),
    figure: impl Fn(&crate::run::RunFigures) -> Option<f64>,
) -> String {
    or_dash(case.ratio(rows.0, rows.1, figure).map(|ratio: Ratio| ratio.to_string()))
}

/// A table of figures: its first column to the left, the others to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    aligned(" ---: |", head, rows)
}

/// A table of words: all columns to the left.
pub(super) fn words(head: &[&str], rows: &[Vec<String>]) -> String {
    aligned(" --- |", head, rows)
}

fn aligned(others: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(head.to_vec());
    out += &format!("| --- |{}\n", others.repeat(head.len() - 1));
    rows.iter().for_each(|row| out += &line(row.iter().map(String::as_str).collect()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!([nanos(6.25), nanos(231.4), nanos(8632.0)], ["6.2 ns", "231 ns", "8.63 µs"]);
        assert_eq!([micros(808.2), micros(3200.0)], ["808 µs", "3.2 ms"]);
        assert_eq!((rate(94_400.0), percent(0.123)), ("94 k/s".to_owned(), "12 %".to_owned()));
    }

    #[test]
    fn a_table_is_aligned() {
        let text = table(&["a", "b"], &[vec!["1".into(), "2".into()]]);
        assert_eq!(text, "| a | b |\n| --- | ---: |\n| 1 | 2 |\n");
        assert_eq!(words(&["a", "b"], &[]), "| a | b |\n| --- | --- |\n");
    }
}
