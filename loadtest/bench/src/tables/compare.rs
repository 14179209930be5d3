//! Two stored reports side by side: `bench compare A B`. Nanoseconds of two hosts do not compare;
//! ratios within each run do, and stand beside what others used of the processors there.

use super::format::{or_dash, table as lines};
use crate::exit::Failure;
use crate::run::{CaseReport, Report, codec_ratio};

/// The table of all ratios that both reports have, with the shared cases' names.
///
/// # Errors
/// The reports have nothing in common.
pub fn compare(names: [&str; 2], reports: [&Report; 2]) -> Result<String, Failure> {
    let mut rows = vec![];
    for case in &reports[0].cases {
        let Some(other) = reports[1].cases.iter().find(|other| other.name == case.name) else { continue };
        rows.extend(of_case([case, other]));
    }
    rows.extend(of_codec(reports));
    if rows.is_empty() {
        let text = format!("{} and {} have no case with the same rows", names[0], names[1]);
        return Err(Failure::usage(text));
    }
    let mut out = String::new();
    for (name, report) in names.iter().zip(reports) {
        let day = if report.day.is_empty() { "no day stored" } else { &report.day };
        out += &format!("- {name}: {}, {day}; {}\n", report.machine, report.method);
    }
    out += "\nA ratio: the median of all pairs, their quartiles, and what others used of a processor meanwhile.\n\n";
    Ok(out + &lines(&["case", "ratio", names[0], names[1]], &rows))
}

/// Each row's time and rate to its floor's; a row without one has the time to that of the case's
/// first gateway.
fn of_case(cases: [&CaseReport; 2]) -> Vec<Vec<String>> {
    let mut rows = vec![];
    for row in &cases[0].rows {
        let gateway = cases[0].rows.iter().find(|other| other.name.starts_with("gateway"));
        let base = row.floor.as_deref().or_else(|| gateway.map(|gateway| gateway.name.as_str()));
        let Some(base) = base.filter(|base| *base != row.name && cases[1].row(&row.name).is_some()) else {
            continue;
        };
        let ratios = |figure: fn(&crate::run::RunFigures) -> Option<f64>| {
            cases.map(|case| case.ratio(&row.name, base, figure).map(|ratio| ratio.to_string()))
        };
        for (what, ratios) in
            [("time a message", ratios(|run| run.server.work_ns())), ("rate", ratios(|run| Some(run.rate)))]
        {
            if ratios.iter().any(Option::is_some) {
                let [one, other] = ratios.map(or_dash);
                let text = format!("{}: {what}, to {base}'s", row.name);
                rows.push(vec![cases[0].name.clone(), text, one, other]);
            }
        }
    }
    rows
}

fn of_codec(reports: [&Report; 2]) -> Vec<Vec<String>> {
    let [Some(one), Some(other)] = reports.map(|report| report.codec.as_ref()) else { return vec![] };
    let mut rows = vec![];
    for row in &one.rows {
        let is_same = |other: &&crate::codec::CodecRow| {
            other.message == row.message && other.direction == row.direction
        };
        let Some(twin) = other.rows.iter().find(is_same) else { continue };
        let text = |row, others: f64| {
            or_dash(codec_ratio(row).map(|ratio| {
                format!("{:.1} ({:.1}–{:.1}; {:.0} %)", ratio.median, ratio.low, ratio.high, others * 100.0)
            }))
        };
        let case = format!("{}, {}", row.direction, row.message);
        let what = "prost's time to ours".to_owned();
        rows.push(vec![case, what, text(row, one.others), text(twin, other.others)]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::stored;
    use std::path::Path;

    #[test]
    fn ratios_of_two_hosts_stand_side_by_side() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reports/bench/report.json");
        let report = stored::load(&path).unwrap();
        let text = compare(["one", "other"], [&report, &report]).unwrap();
        let row =
            text.lines().find(|line| line.contains("gateway, epoll: time a message, to floor, epoll's"));
        let cells: Vec<&str> = row.unwrap().split(" | ").map(|cell| cell.trim_end_matches(" |")).collect();
        assert_eq!(cells[2], cells[3], "{text}");
        assert!(cells[2].contains('%'), "what others used is beside it: {text}");
        assert!(compare(["one", "other"], [&report, &Report::default()]).is_err());
    }
}
