//! Answers of the API: JSON that ends its line, and errors with a status, a code for programs and a
//! sentence for people.

use super::encoder::EncodeError;
use super::http::HeadError;
use super::refusals::cut;
use super::tickets::TicketError;
use super::workers::{MailboxFull, SendError};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A JSON answer. It ends its line, so that a shell's prompt begins on the next one.
pub(super) struct Json(pub(super) Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], format!("{}\n", self.0)).into_response()
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unauthorized() -> ApiError {
        let message = "an API key is needed: send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// `name` is the setting that the key is compared with.
    pub(super) fn forbidden(name: &str) -> ApiError {
        let message = format!("the API key is not the one in {name}");
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn foreign_origin(origin: &str) -> ApiError {
        let message = format!(
            "pages of another origin ({}) may not call this port while no API key is set: set control.api_key and control.goim_api_key",
            cut(origin)
        );
        ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", message)
    }

    pub(super) fn foreign_host(host: &str) -> ApiError {
        let message = format!(
            "{:?} is not known as a name of this gateway, and no API key is set: call it by a loopback name, write the name into \
             control.hosts, or set an API key",
            cut(host)
        );
        ApiError::new(StatusCode::FORBIDDEN, "foreign_host", message)
    }

    pub(super) fn of_head(error: HeadError) -> ApiError {
        ApiError::new(error.status(), error.label(), error.message())
    }

    pub(super) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> ApiError {
        let message = "this path has another method (see Allow); GET /api/v1/openapi.json lists all";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(super) fn too_large(limit: usize, key: &str) -> ApiError {
        let message = format!("at most {limit} bytes are taken ({key})");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn unsupported_media_type() -> ApiError {
        let message = "the body must be JSON: send `Content-Type: application/json`";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn content_encoding() -> ApiError {
        let message = "a body with a Content-Encoding is not decoded here: send it as it is";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message)
    }

    pub(super) fn busy() -> ApiError {
        let message = "too many requests are under way (control.requests_max); retry after a second";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn kicks_busy() -> ApiError {
        let message = "eight kicks of many connections are under way; retry after a second";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn bodies_busy() -> ApiError {
        let message =
            "too much is being sent in large bodies at a time; retry after a second, or send less in each";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn target_busy() -> ApiError {
        let message = "refused: as much waits for the target already as may wait; retry after a second";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "target_busy", message)
    }

    pub(super) fn places_busy() -> ApiError {
        let message =
            "all connections to this port are in use (control.connections_max); retry after a second";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn answers_busy() -> ApiError {
        let message = "too many large answers wait for callers that do not read them; retry after a second";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn too_slow() -> ApiError {
        let message = "the request came too slowly while other connections waited for its place; retry";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub(super) fn request_timeout(message: &str) -> ApiError {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub(super) fn handler_timeout() -> ApiError {
        ApiError::request_timeout("the request took longer than control.request_timeout_ms")
    }
}

impl From<MailboxFull> for ApiError {
    fn from(MailboxFull(worker): MailboxFull) -> ApiError {
        let message = format!("worker {} has no room for more messages; retry after a second", worker.0);
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "mailbox_full", message)
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> ApiError {
        match error {
            SendError::MailboxFull(full) => full.into(),
            SendError::NoFanout => ApiError::target_busy(),
        }
    }
}

impl From<TicketError> for ApiError {
    fn from(error: TicketError) -> ApiError {
        match error {
            TicketError::TooMany => ApiError::busy(),
            TicketError::Refused => ApiError::target_busy(),
            TicketError::TimedOut => ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "worker_timeout",
                "a worker did not answer in time; the request may still take effect",
            ),
        }
    }
}

impl ApiError {
    pub(super) fn encode(error: EncodeError, body_size_max: usize) -> ApiError {
        match error {
            EncodeError::TooLarge => ApiError::too_large(body_size_max, "limits.frame_body_size_max"),
            EncodeError::NoMemory => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_memory",
                "all push buffers are held by receivers that have not read them yet; retry after a second",
            ),
        }
    }
}

impl ApiError {
    pub(super) fn json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(self.json());
        let mut response = (self.status, body).into_response();
        let extra = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            // RFC 9110 §15.5.16.
            StatusCode::UNSUPPORTED_MEDIA_TYPE if self.code == "content_encoding" => {
                Some((header::ACCEPT_ENCODING, "identity"))
            }
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
