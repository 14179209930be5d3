//! What a TCP/IP stack in user space counts: every drop with its reason, everything else as an
//! event.

use super::families::{Families, Row};
use super::table;
use gateway_core::metrics::WorkerMetrics;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The reason, if the counter of this name counts what was dropped: `drop_paws` → `paws`,
/// `port_drop_stuck` → `port_stuck`.
fn drop_reason(name: &str) -> Option<String> {
    name.strip_prefix("drop_")
        .map(str::to_owned)
        .or_else(|| name.strip_prefix("port_drop_").map(|reason| format!("port_{reason}")))
}

pub(super) fn collect(families: &mut Families, workers: &[Arc<WorkerMetrics>]) {
    let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (name, count) in workers.iter().flat_map(|one| one.stack.all()) {
        *sums.entry(name).or_default() += count;
    }
    let (mut drops, mut events) = (Vec::<Row>::new(), Vec::<Row>::new());
    for (name, count) in sums {
        match drop_reason(name) {
            Some(reason) => drops.push((vec![reason], count as f64)),
            None => events.push((vec![name.to_owned()], count as f64)),
        }
    }
    families.rows(&table::STACK_DROPS, drops);
    families.rows(&table::STACK_EVENTS, events);
}
