//! What a gateway holds at a moment: from /metrics and /proc, and what is left of it when an abuse is over.

use crate::client::http_get;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// Metrics that must come back down to where they were, and by how much they may exceed it: traffic of bystanders goes on, and
/// there are newcomers at any moment, more of them on a crowded machine. Abuses take hundreds.
const HELD: &[(&str, f64)] = &[
    ("gateway_connections", 48.0),
    ("gateway_sessions", 48.0),
    ("gateway_rooms", 48.0),
    ("gateway_memberships", 48.0),
    ("gateway_table_entries", 48.0),
    ("gateway_store_used", 64.0),
    ("gateway_fanouts_pending", 16.0),
    ("gateway_worker_mailbox_messages", 64.0),
    ("gateway_mailbox_messages", 64.0),
    ("gateway_http_connections", 8.0),
    ("gateway_worker_accept_paused", 0.0),
    ("process_open_fds", 16.0),
];
/// Metrics that must come back up, but for [`FREE_SHARE`] and [`FREE_SLACK`] that bystanders' traffic may hold.
const FREE: &[&str] = &["gateway_pool_buffers_free", "gateway_worker_receive_buffers_free"];
const FREE_SHARE: f64 = 0.1;
const FREE_SLACK: f64 = 8.0;

/// One reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    values: BTreeMap<String, f64>,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
    /// Open descriptors of the process.
    pub(crate) descriptors: u64,
}

impl Levels {
    /// Reads them; `None` where the control port does not answer within five seconds.
    pub(crate) fn read(control: SocketAddr, pid: i32) -> Option<Levels> {
        let answer = http_get(control, "/metrics", Duration::from_secs(5))?;
        Some(Levels { values: parse(&answer), rss: rss(pid), descriptors: descriptors(pid) })
    }

    /// Sum of what all owners plan for, in bytes.
    pub(crate) fn planned(&self) -> u64 {
        self.sum("gateway_memory_planned_bytes") as u64
    }

    fn sum(&self, family: &str) -> f64 {
        self.family(family).map(|(_, value)| value).sum()
    }

    fn family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
        let within = move |name: &str| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.values.iter().filter(move |(name, _)| within(name)).map(|(name, value)| (name, *value))
    }

    /// What has not come back since `before`, each in a few words. Empty: all is as it was.
    pub(crate) fn residue(&self, before: &Levels) -> Vec<String> {
        let mut left = vec![];
        for (family, slack) in HELD {
            for (name, now) in self.family(family) {
                let was = before.values.get(name).copied().unwrap_or(0.0);
                if now > was + slack {
                    left.push(format!("{name} {was:.0} → {now:.0}"));
                }
            }
        }
        for family in FREE {
            for (name, now) in self.family(family) {
                let was = before.values.get(name).copied().unwrap_or(0.0);
                if now + FREE_SLACK < was * (1.0 - FREE_SHARE) {
                    left.push(format!("{name} {was:.0} → {now:.0}"));
                }
            }
        }
        if self.descriptors > before.descriptors + 16 {
            left.push(format!("descriptors {} → {}", before.descriptors, self.descriptors));
        }
        left
    }
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Resident bytes of a process; 0 where it is gone.
pub(crate) fn rss(pid: i32) -> u64 {
    let pages =
        || fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse::<u64>().ok();
    pages().unwrap_or(0) * rustix::param::page_size() as u64
}

fn descriptors(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Levels {
        Levels { values: parse(text), rss: 0, descriptors: 20 }
    }

    #[test]
    fn what_stays_is_named_and_what_comes_back_is_not() {
        let before =
            levels("gateway_rooms 100\ngateway_pool_buffers_free{pool=\"blocks\",size=\"256\"} 900\n");
        let same = levels(
            "# HELP x\ngateway_rooms 104\ngateway_pool_buffers_free{pool=\"blocks\",size=\"256\"} 880\n",
        );
        assert_eq!(same.residue(&before), Vec::<String>::new());
        let mut worse =
            levels("gateway_rooms 200\ngateway_pool_buffers_free{pool=\"blocks\",size=\"256\"} 10\n");
        worse.descriptors = 99;
        let left = worse.residue(&before);
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left[0].contains("gateway_rooms 100 → 200"), "{left:?}");
    }

    #[test]
    fn sums_take_a_family_and_not_its_namesakes() {
        let one =
            levels("gateway_memory_planned_bytes{owner=\"a b\"} 10\ngateway_memory_planned_bytes_other 5\n");
        assert_eq!(one.planned(), 10);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let own = std::process::id().cast_signed();
        assert!(rss(own) > 100_000 && descriptors(own) >= 3);
    }
}
