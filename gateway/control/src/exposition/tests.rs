//! The table of metrics against what a scrape shows.

use super::*;
use crate::MemoryState;
use gateway_core::memory::Reading;
use gateway_core::metrics::{Metric, MetricKind, Store};
use std::collections::BTreeSet;

/// A gateway with everything that has metrics of its own, but the TCP/IP stack in user space.
fn snapshot() -> ControlSnapshot {
    ControlSnapshot {
        start: StartSnapshot {
            backend: "epoll",
            backend_reason: "asked for".into(),
            listeners: vec![("tcp".into(), "tcp")],
            connections_max: 1,
            worker_threads: 1,
            memory_planned: vec![("rooms".into(), 1)],
        },
        busiest_address: Some((40, 500)),
        ready: true,
        port: Some((true, 2, 1)),
        memory: MemoryState { reading: Some(Reading { used: 1, limit: 2 }), ..MemoryState::default() },
        http: HttpSnapshot {
            requests: vec![("/metrics".into(), "GET", 200, 1, 0.1)],
            bad_heads: vec![("target", 1)],
            ends: vec![("closed", 1)],
            ..HttpSnapshot::default()
        },
        reload: ReloadSnapshot { success: true, at: 0, applied: 0, refused: 0 },
        log_dropped: 0,
        ticket_timeouts: 0,
        worker_messages: 0,
        journal: [0; 4],
        mailbox_depths: vec![0],
    }
}

#[test]
fn a_scrape_shows_every_metric_of_the_table_once_and_no_other() {
    let worker = Arc::new(WorkerMetrics::default());
    worker.stores.set(Store::Rooms, 1, 2);
    worker.receive_pool.size.set(4096);
    let verifier = Arc::new(VerifierMetrics::default());
    let families = collect(&[worker], &[verifier], &snapshot());
    let shown: BTreeSet<&str> = families.names().into_iter().collect();
    assert_eq!(shown.len(), families.names().len(), "a metric is shown twice");
    let declared: BTreeSet<&str> = metrics().map(|metric| metric.name).collect();
    assert_eq!(declared.len(), metrics().count(), "a metric is declared twice");
    let undeclared: Vec<_> = shown.difference(&declared).collect();
    assert!(undeclared.is_empty(), "{undeclared:?}");
    // Counts of the stack come with a backend that has one; before Linux 6.2 the kernel does not
    // say how many descriptors are open.
    let elsewhere = ["gateway_stack_drops_total", "gateway_stack_events_total", "process_open_fds"];
    let hidden: Vec<_> = declared.difference(&shown).filter(|name| !elsewhere.contains(name)).collect();
    assert!(hidden.is_empty(), "declared and not shown: {hidden:?}");
}

#[test]
fn metrics_are_named_as_prometheus_asks_and_say_what_they_are() {
    let ends_as_it_counts = |metric: &Metric| match metric.kind {
        MetricKind::Counter => metric.name.ends_with("_total"),
        MetricKind::Gauge => !metric.name.ends_with("_total"),
        MetricKind::Histogram => metric.unit() == Some("seconds"),
    };
    for metric in metrics() {
        assert!(ends_as_it_counts(metric), "{metric:?}");
        let is_ours = metric.name.starts_with("gateway_") || metric.name.starts_with("process_");
        assert!(is_ours && metric.help.len() > 5 && metric.help.ends_with('.'), "{metric:?}");
    }
    let mut helps: Vec<&str> = metrics().map(|metric| metric.help).collect();
    let count = helps.len();
    helps.sort_unstable();
    helps.dedup();
    assert_eq!(helps.len(), count, "two metrics say the same of themselves");
}
