//! `GET /api/v1/capture`: the last frames of a gateway past the kernel, as a pcap file.

use super::control::Control;
use super::http::SharedBody;
use super::reply::ApiError;
use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// The file; 404 where no frames are kept.
pub(super) async fn capture(State(control): State<Arc<Control>>) -> Result<Response, ApiError> {
    let source = control.capture.as_ref().ok_or_else(|| {
        ApiError::not_found(
            "no frames are kept: that is for io.backend = \"dpdk\" with dpdk.capture_frames above 0",
        )
    })?;
    let permit = Arc::clone(&control.captures).try_acquire_owned().map_err(|_| ApiError::busy())?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.tcpdump.pcap"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"gateway.pcap\""),
    ];
    // Not from the budget of answers: the plan has room for this one.
    let file = Bytes::from_owner(File { bytes: (source.0)(), _permit: permit });
    Ok((Extension(SharedBody), headers, file).into_response())
}

/// A file that counts until its caller has taken it.
struct File {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
