//! `GET /api/v1/capture`: the last frames of a gateway past the kernel, as a pcap file.

use super::Control;
use super::reply::ApiError;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::sync::Arc;

/// Makes a file of the frames that workers keep.
pub struct CaptureSource(Box<dyn Fn() -> Vec<u8> + Send + Sync>);

impl CaptureSource {
    /// `file` is called on the control thread, once a request; workers do not wait for it.
    pub fn new(file: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> CaptureSource {
        CaptureSource(Box::new(file))
    }
}

impl fmt::Debug for CaptureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureSource")
    }
}

/// The file; 404 where no frames are kept.
pub(super) async fn capture(State(control): State<Arc<Control>>) -> Result<Response, ApiError> {
    let source = control.capture.as_ref().ok_or_else(|| {
        ApiError::not_found(
            "no frames are kept: that is for io.backend = \"dpdk\" with dpdk.capture_frames above 0",
        )
    })?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.tcpdump.pcap"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"gateway.pcap\""),
    ];
    Ok((headers, (source.0)()).into_response())
}
