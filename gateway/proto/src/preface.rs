//! Recognition of other protocols by a connection's first bytes, when these are no frame: the
//! refusal then names the mistake instead of a frame's length.

/// Another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preface {
    /// The PROXY protocol, version 1 or 2 (HAProxy's `proxy-protocol.txt`, §2.1 and §2.2).
    Proxy,
    /// An HTTP request (RFC 9112 §3), or HTTP/2's preface (RFC 9113 §3.4).
    Http,
    /// A TLS handshake record (RFC 8446 §5.1).
    Tls,
}

/// What requests begin with: the methods of RFC 9110 §9 and RFC 5789, and HTTP/2.
const METHODS: [&[u8; 4]; 10] =
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI "];

impl Preface {
    /// The protocol that the first bytes of a connection are of; four are enough. `None`: none that
    /// is known.
    ///
    /// As a frame's length, each of them is over 200 MiB: no frame that may be sent begins so.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let first: &[u8; 4] = bytes.first_chunk()?;
        match first {
            b"PROX" | b"\r\n\r\n" => Some(Self::Proxy),
            [0x16, 0x03, ..] => Some(Self::Tls),
            first if METHODS.contains(&first) => Some(Self::Http),
            _ => None,
        }
    }
}

impl core::fmt::Display for Preface {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Proxy => {
                "the PROXY protocol is not spoken here: turn it off in front (send-proxy, proxy_protocol)"
            }
            Self::Http => {
                "this listener takes goim frames over TCP, not HTTP; WebSocket has a listener of its own"
            }
            Self::Tls => "TLS is not spoken here: terminate it in front",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::REASON_SIZE_MAX;
    use crate::frame::{FrameError, Header};

    #[test]
    fn other_protocols_are_known_by_four_bytes_and_no_frame_begins_so() {
        let cases: [(&[u8], Preface); 7] = [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Preface::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Preface::Proxy),
            (b"GET /sub HTTP/1.1\r\n", Preface::Http),
            (b"POST", Preface::Http),
            (b"PRI * HTTP/2.0\r\n", Preface::Http),
            (&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01], Preface::Tls),
            (&[0x16, 0x03, 0x03, 0x00], Preface::Tls),
        ];
        for (bytes, preface) in cases {
            assert_eq!(Preface::of(bytes), Some(preface), "{bytes:?}");
            assert_eq!(Header::peek(bytes, 16 << 20), Err(FrameError::LengthTooLarge), "{bytes:?}");
            assert!(std::format!("{preface}").len() <= REASON_SIZE_MAX, "{preface}");
        }
        for bytes in [&b"PRO"[..], b"", &[0, 0, 0, 16, 0, 16, 0, 1], b"SSH-2.0-x"] {
            assert_eq!(Preface::of(bytes), None, "{bytes:?}");
        }
    }
}
