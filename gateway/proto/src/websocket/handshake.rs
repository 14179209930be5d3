//! The opening handshake (RFC 6455 §4), for both ends.
//!
//! A server's port also receives plain HTTP: probes of load balancers, requests of browsers. So a
//! well-formed request that asks for no upgrade is not an error but [`HandshakeParse::Plain`], and
//! the caller may answer with a page or with [`HandshakeError::NotUpgrade`]'s response.

mod client;
mod error;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use client::{ResponseError, ResponseParse, client_request, verify_response};
pub use error::HandshakeError;
pub use request::{
    HEAD_SIZE_MAX, HEADERS_MAX, HandshakeParse, HandshakeRules, KEY_SIZE, Request, RequestHead,
};
pub use response::{ACCEPT_SIZE, accept_key, accept_response};

/// Whether a comma-separated header value holds `token`, case-insensitively (RFC 9110 §5.6.1).
fn has_token(value: &[u8], token: &str) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether it is a token that may stand in a header (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let is_mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}
