//! Counters that workers keep and the control thread reads.
//!
//! Each worker owns one [`WorkerMetrics`]; only it writes, with plain loads and stores, so that
//! counting costs no locked instruction and no shared cache line. A scrape reads them at any time
//! and adds them up.
//!
//! What a scrape says of a metric is declared once, as a [`Metric`]: with the counter that it shows
//! (`worker`, `backend`), or in the control thread's table where there is none, or an array with
//! labels of its own.

mod backend;
mod counter;
mod labels;
mod stores;
mod table;
mod worker;

pub use backend::{BackendMetrics, StackMetrics};
pub use counter::{Counter, Gauge, Histogram, bucket_bound};
pub use labels::{EndReason, OperationClass, SlowReason};
pub use stores::{Store, StoreGauges, StoreLevel};
pub use table::{Metric, MetricKind};
pub use worker::{
    CODES_MAX, CountOf, LISTENERS_MAX, POOLS_MAX, PoolGauges, TokenKeySessions, Traffic, WorkerMetric,
    WorkerMetrics,
};
