//! The worker's only exit for bytes: its backend, the encoder of frames that the server writes itself, and their counts.

mod encoder;

pub use encoder::{Encoder, Framed, rewrite_in_place};

use crate::metrics::WorkerMetrics;
use netpoll::Backend;
use std::sync::Arc;

/// The backend, and what is needed to hand bytes to it.
#[derive(Debug)]
pub(crate) struct Io<B: Backend> {
    pub(crate) backend: B,
    pub(crate) encoder: Encoder,
    pub(crate) metrics: Arc<WorkerMetrics>,
}
