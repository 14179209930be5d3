//! What a gateway holds at a moment, from /metrics and /proc, and what is left of it when an abuse
//! is over.

use crate::client::http_get;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// Metrics that must return to where they were, and by how much they may exceed it: traffic of
/// bystanders goes on, and there are newcomers at any moment, more of them on a loaded machine.
/// Abuses take hundreds.
const HELD: &[(&str, f64)] = &[
    ("gateway_connections", 48.0),
    ("gateway_sessions", 48.0),
    ("gateway_rooms", 48.0),
    ("gateway_memberships", 48.0),
    ("gateway_store_used", 64.0),
    ("gateway_fanouts_pending", 16.0),
    ("gateway_worker_mailbox_messages", 64.0),
    ("gateway_mailbox_messages", 64.0),
    ("gateway_http_connections", 8.0),
    ("gateway_worker_accept_paused", 0.0),
    ("process_open_fds", 16.0),
];
/// Levels of connections, which never exceed [`CONNECTIONS`]: when all have left, one that is still
/// counted never returns. A connection whose client has gone may be counted for minutes: what it
/// sent above its rate is read when its budget allows.
const OF_CONNECTIONS: &[&str] = &[
    "gateway_rate_stopped_connections",
    "gateway_backpressure_stopped_connections",
    "gateway_lingering_connections",
];
const CONNECTIONS: &str = "gateway_connections";
/// Metrics that must rise again, except for [`FREE_SHARE`] and [`FREE_SLACK`] that bystanders'
/// traffic may hold.
const FREE: &[&str] = &["gateway_pool_buffers_free", "gateway_worker_receive_buffers_free"];
const FREE_SHARE: f64 = 0.1;
const FREE_SLACK: f64 = 8.0;
/// Each worker publishes its counts after a turn, several times a second.
const TURNS: &str = "gateway_worker_turns_total";
/// Counts that explain what bystanders notice.
const COUNTED: &[&str] = &[
    "gateway_dropped_messages_total",
    "gateway_send_store_refusals_total",
    "gateway_memory_dropped_messages_total",
    "gateway_slow_consumer_closes_total",
    "gateway_fanout_refusals_total",
    "gateway_backpressure_refusals_total",
    "gateway_table_refusals_total",
    "gateway_pool_exhausted_total",
    "gateway_rate_limited_total",
    "gateway_http_evictions_total",
    "gateway_http_requests_total",
    "gateway_connection_ends_total",
];
const PLANNED: &str = "gateway_memory_planned_bytes";

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

    /// Bytes planned for the owners that `counts` accepts.
    pub(crate) fn planned(&self, counts: impl Fn(&str) -> bool) -> u64 {
        let owner = |name: &str| name.split('"').nth(1).unwrap_or_default().to_owned();
        self.family(PLANNED).filter(|(name, _)| counts(&owner(name))).map(|(_, value)| value as u64).sum()
    }

    /// Levels of connections above the number of existing connections.
    pub(crate) fn excess(&self) -> Vec<String> {
        let sum = |family: &str| self.family(family).map(|(_, value)| value).sum::<f64>();
        let connections = sum(CONNECTIONS);
        let levels = OF_CONNECTIONS.iter().map(|family| (family, sum(family)));
        let above = levels.filter(|(_, level)| *level > connections);
        above
            .map(|(family, level)| format!("{family} is {level:.0} of {connections:.0} connections"))
            .collect()
    }

    /// What the gateway has counted of drops, refusals and closes since `before`: why a bystander
    /// noticed something.
    pub(crate) fn counted_since(&self, before: &Levels) -> Vec<String> {
        let is_kept = |(name, _): &(&String, f64)| !name.contains("status=") || name.contains("status=\"5");
        let all = COUNTED.iter().flat_map(|family| self.family(family)).filter(is_kept);
        let more = all.map(|(name, now)| (name, now - before.values.get(name).copied().unwrap_or(0.0)));
        more.filter(|(_, more)| *more > 0.0).map(|(name, more)| format!("{name} + {more:.0}")).collect()
    }

    /// Metrics that the suite checks and that this gateway lacks: what is not counted can't return.
    pub(crate) fn absent(&self) -> Vec<&'static str> {
        let looked_at = HELD.iter().map(|(family, _)| *family).chain(FREE.iter().copied());
        let all = looked_at.chain([TURNS, PLANNED]);
        all.chain(OF_CONNECTIONS.iter().chain(COUNTED).copied())
            .filter(|family| self.family(family).next().is_none())
            .collect()
    }

    /// Whether every worker has published its counts since `earlier` was read, which may itself be
    /// a turn old.
    pub(crate) fn is_newer_than(&self, earlier: &Levels) -> bool {
        let newer = |(name, was): (&String, f64)| self.values.get(name).is_some_and(|now| *now >= was + 2.0);
        earlier.family(TURNS).all(newer)
    }

    fn family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
        let within = move |name: &str| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.values.iter().filter(move |(name, _)| within(name)).map(|(name, value)| (name, *value))
    }

    /// What has not returned since `before`, each in a few words. Empty: all is as it was.
    pub(crate) fn residue(&self, before: &Levels) -> Vec<String> {
        let mut left: Vec<String> = self.absent().iter().map(|family| format!("{family} is gone")).collect();
        let stopped = self.family(OF_CONNECTIONS[0]).map(|(_, value)| value).sum::<f64>();
        for (family, slack) in HELD {
            let has_stopped = ["gateway_connections", "gateway_sessions"].contains(family);
            let slack = slack + if has_stopped { stopped } else { 0.0 };
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

/// How long a process's threads have been ready to run without a processor (`schedstat`, proc(5)),
/// in nanoseconds.
pub(crate) fn run_delay(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let delay = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(delay).sum()
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

    /// Every checked metric, with these values.
    fn all(rooms: u32, free: u32, turns: u32) -> Levels {
        let held = HELD.iter().map(|(family, _)| *family).filter(|family| *family != "gateway_rooms");
        let zero: String = held
            .chain(COUNTED.iter().chain(OF_CONNECTIONS).copied())
            .chain([PLANNED, FREE[1]])
            .map(|family| format!("{family} 0\n"))
            .collect();
        levels(&format!(
            "# HELP x\n{zero}gateway_rooms {rooms}\n{}{{pool=\"blocks\",size=\"256\"}} {free}\n{TURNS}{{worker=\"0\"}} {turns}\n",
            FREE[0]
        ))
    }

    #[test]
    fn what_stays_is_named_and_what_comes_back_is_not() {
        let before = all(100, 900, 1);
        assert_eq!(all(104, 880, 1).residue(&before), Vec::<String>::new());
        let mut worse = all(200, 10, 1);
        worse.descriptors = 99;
        let left = worse.residue(&before);
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left[0].contains("gateway_rooms 100 → 200"), "{left:?}");
    }

    #[test]
    fn a_metric_that_is_not_there_is_named() {
        assert_eq!(all(1, 1, 1).absent(), Vec::<&str>::new());
        let none = levels("gateway_rooms 1\n");
        assert_eq!(
            none.absent().len(),
            HELD.len() - 1 + FREE.len() + 2 + OF_CONNECTIONS.len() + COUNTED.len()
        );
        assert!(none.residue(&none).iter().any(|left| left == "gateway_sessions is gone"));
    }

    #[test]
    fn more_stopped_connections_than_connections_are_too_many() {
        let level = |stopped: u32| {
            levels(&format!(
                "{CONNECTIONS}{{listener=\"tcp\"}} 2\n{CONNECTIONS}{{listener=\"ws\"}} 3\n{} {stopped}\n",
                OF_CONNECTIONS[0]
            ))
        };
        assert_eq!(level(5).excess(), Vec::<String>::new());
        assert_eq!(level(6).excess(), ["gateway_rate_stopped_connections is 6 of 5 connections"]);
    }

    #[test]
    fn levels_are_newer_when_every_worker_has_had_turns() {
        let two =
            |a: u32, b: u32| levels(&format!("{TURNS}{{worker=\"0\"}} {a}\n{TURNS}{{worker=\"1\"}} {b}\n"));
        assert!(two(12, 7).is_newer_than(&two(10, 5)));
        assert!(!two(12, 6).is_newer_than(&two(10, 5)));
    }

    #[test]
    fn sums_take_a_family_and_not_its_namesakes() {
        let one = levels(&format!(
            "{PLANNED}{{owner=\"a b\"}} 10\n{PLANNED}{{owner=\"echoes\"}} 7\n{PLANNED}_other 5\n"
        ));
        assert_eq!((one.planned(|_| true), one.planned(|owner| owner != "echoes")), (17, 10));
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let own = std::process::id().cast_signed();
        assert!(rss(own) > 100_000 && descriptors(own) >= 3);
    }
}
