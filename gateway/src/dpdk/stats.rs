//! `gateway dpdk-stats`: the stack's counts of a gateway that runs, read from its `/metrics`.

use crate::ask::{Question, ask};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

const DROPS: &str = "gateway_stack_drops_total{reason=\"";
const EVENTS: &str = "gateway_stack_events_total{event=\"";

/// The exposition of the gateway with its control port at `address`.
///
/// # Errors
/// What the system says, or what is no answer of a gateway.
pub fn read(address: SocketAddr) -> io::Result<String> {
    let mut body = Vec::new();
    ask(address, Question::get("/metrics", None), &mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The counts in an exposition: drops, then events, largest first; those that are zero only if
/// `all`. `None` when it has none.
pub fn table(exposition: &str, all: bool) -> Option<String> {
    let rows = |prefix: &str| {
        let lines = exposition.lines().filter_map(|line| line.strip_prefix(prefix)?.split_once("\"} "));
        let counts =
            lines.filter_map(|(name, count)| Some((name.to_owned(), count.parse::<f64>().ok()? as u64)));
        let mut rows: Vec<(String, u64)> = counts.collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rows
    };
    let (drops, events) = (rows(DROPS), rows(EVENTS));
    if events.is_empty() {
        return None;
    }
    let mut text = String::new();
    for (title, rows) in [("dropped, by reason", drops), ("counted", events)] {
        let _ = writeln!(text, "{title}");
        let shown: Vec<_> = rows.into_iter().filter(|(_, count)| all || *count > 0).collect();
        for (name, count) in &shown {
            let _ = writeln!(
                text,
                "  {:>16}  {}",
                gateway_config::grouped(*count as usize),
                name.replace('_', " ")
            );
        }
        if shown.is_empty() {
            let _ = writeln!(text, "  {:>16}", "nothing");
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_come_first_and_the_largest_of_each() {
        let exposition = "# HELP x\ngateway_stack_drops_total{reason=\"paws\"} 2\ngateway_stack_drops_total{reason=\"martian\"} 0\n\
                          gateway_stack_drops_total{reason=\"tcp_checksum\"} 12345\ngateway_stack_events_total{event=\"retransmits\"} 7\n";
        let text = table(exposition, false).unwrap();
        assert_eq!(
            text,
            "dropped, by reason\n            12 345  tcp checksum\n                 2  paws\ncounted\n                 7  retransmits\n"
        );
        assert!(table(exposition, true).unwrap().contains("0  martian"));
        assert_eq!(table("gateway_ready 1\n", true), None);
    }
}
