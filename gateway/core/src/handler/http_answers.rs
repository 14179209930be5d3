//! Answers in HTTP to requests that are not upgraded to WebSocket.

use crate::session::Refusal;

impl Refusal {
    /// The whole answer to an HTTP request.
    pub(super) const fn response(self) -> &'static [u8] {
        match self {
            Refusal::Memory => NO_MEMORY,
            Refusal::Address => TOO_MANY,
        }
    }
}

/// To a request while new connections are refused for want of memory (RFC 9110 §15.6.4).
const NO_MEMORY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 55\r\n\r\nmemory is short: come back later, or try another server";

/// To an upgrade request that did not come whole in time (RFC 9110 §15.5.9).
pub(super) const TOO_LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 33\r\n\r\nno whole upgrade request in time.";

/// To an upgrade while this server cannot serve (RFC 9110 §15.6.4): it shuts down, or a buffer is
/// not to be had.
pub(super) const NOT_NOW: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 55\r\n\r\nthis server can't serve now: come back in a few moments";

/// To a request beyond `limits.connections_per_address_max` (RFC 6585 §4).
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 48\r\n\r\nthis address has as many connections as it may.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_length_that_they_name() {
        for response in [NO_MEMORY, TOO_LATE, NOT_NOW, TOO_MANY] {
            let text = std::str::from_utf8(response).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        }
    }
}
