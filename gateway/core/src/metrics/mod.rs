//! Counters that workers keep and the control thread reads.
//!
//! Each worker owns one [`WorkerMetrics`]; only it writes, with plain loads and stores, so that
//! counting costs no locked instruction and no shared cache line. A scrape reads them at any time
//! and adds them up.

mod counter;
mod stores;
mod worker;

pub use counter::{Counter, Gauge, Histogram, bucket_bound};
pub use stores::{Store, StoreGauges, StoreLevel};
pub use worker::{
    BackendMetrics, CODES_MAX, EndReason, LISTENERS_MAX, OperationClass, POOLS_MAX, PoolGauges, SlowReason,
    TokenKeySessions, Traffic, WorkerMetrics,
};
