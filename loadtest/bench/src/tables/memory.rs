//! The table of what an idle session takes, from what `gateway/tests/e2e/memory.sh --store` wrote.

use super::format::{NONE, or_dash, table as lines};
use crate::exit::{Exit, Failure};
use serde::Deserialize;
use std::path::Path;

/// All runs that are stored, one of each size and backend.
#[derive(Debug, Deserialize)]
pub(super) struct MemoryReport {
    rows: Vec<MemoryRow>,
}

#[derive(Debug, Deserialize)]
struct MemoryRow {
    /// Sessions, each in three rooms.
    connections: u64,
    /// Members of a room.
    room_size: u64,
    backend: String,
    /// Growth of the resident memory a session.
    bytes: f64,
    /// The day of the run; `None` where it was not stored with its figure.
    day: Option<String>,
}

impl MemoryReport {
    pub(super) fn load(path: &Path) -> Result<MemoryReport, Failure> {
        let failed =
            |error: String| Failure { exit: Exit::CouldNotRun, text: format!("{}: {error}", path.display()) };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }
}

/// A row for each size, a column for each backend.
pub(super) fn table(report: &MemoryReport) -> String {
    let mut sizes: Vec<(u64, u64)> = vec![];
    for size in report.rows.iter().map(|row| (row.connections, row.room_size)) {
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    let row = |(connections, room_size): &(u64, u64)| {
        let of = |backend: &str| {
            let is_asked = |row: &&MemoryRow| {
                (row.connections, row.room_size) == (*connections, *room_size) && row.backend == backend
            };
            report.rows.iter().find(is_asked)
        };
        let bytes = |backend| or_dash(of(backend).map(|row| format!("{:.0} B", row.bytes)));
        let days = ["io_uring", "epoll"].into_iter().filter_map(of).filter_map(|row| row.day.as_deref());
        vec![
            format!("{connections} sessions, 3 × {room_size} members"),
            bytes("io_uring"),
            bytes("epoll"),
            days.max().unwrap_or(NONE).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = sizes.iter().map(row).collect();
    lines(&["rooms", "io_uring", "epoll", "measured on"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_columns_and_a_missing_one_is_a_dash() {
        let text = r#"{"rows": [
            {"connections": 15000, "room_size": 100, "backend": "io_uring", "bytes": 432.6, "day": null},
            {"connections": 15000, "room_size": 100, "backend": "epoll", "bytes": 476.0, "day": "2026-12-01"},
            {"connections": 15000, "room_size": 10, "backend": "epoll", "bytes": 508.0, "day": null}]}"#;
        let text = table(&serde_json::from_str(text).unwrap());
        assert!(text.contains("| 15000 sessions, 3 × 100 members | 433 B | 476 B | 2026-12-01 |"), "{text}");
        assert!(text.contains("| 15000 sessions, 3 × 10 members | – | 508 B | – |"), "{text}");
    }
}
