//! The routes that carry messages.
//!
//! There may be thousands of requests a second, so they go past the router and its layers, which
//! cost more than the message (docs/decisions/0008):
//!
//! ```text
//!   connection ─► POST and one of these paths? ─ yes ─► permit, time ─► handler ─► counted
//!                                │ no
//!                                └─► router (`routes`), which answers other methods: 405
//! ```

use super::control::Control;
use super::gate::admit;
use super::paths::PushRoute;
use super::reply::ApiError;
use super::{api, goim};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::time::Instant;
use tokio::time::timeout;

/// Answers a request that the [gate](super::gate) has let through, in bounded time, and counts it.
pub(super) async fn serve(
    control: &Control,
    route: PushRoute,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let start = Instant::now();
    let config = control.config();
    let answer = async {
        match route {
            PushRoute::Publish => api::publish(control, headers, body).await.into_response(),
            _ => goim::push(control, route, query, headers, body).await,
        }
    };
    let response = match admit(control, route.access()) {
        Err(error) => error.into_response(),
        Ok(_permit) => match timeout(config.control.request_timeout, answer).await {
            Ok(response) => response,
            Err(_) => ApiError::handler_timeout().into_response(),
        },
    };
    control.metrics.count(route.path(), "POST", response.status().as_u16(), start.elapsed());
    response
}
