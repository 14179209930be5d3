//! What a listener speaks: three properties, each independent of the others.
//!
//! ```text
//!   bytes of the socket ─ Security ─► plaintext ─ Framing ─► frames ─► Application
//! ```

/// How plaintext is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One behind the other, each with its length in its header.
    Tcp,
    /// In binary messages of a WebSocket (RFC 6455), which begins with an HTTP upgrade.
    WebSocket,
}

/// What is between a socket's bytes and the framing.
///
/// TLS will be the second variant: records are opened and sealed below the framing, so that
/// sessions and router see plaintext only (ARCHITECTURE.md, "TLS").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The socket's bytes are the plaintext.
    None,
}

/// What answers the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// Sessions and the router, by goim's protocol.
    Goim,
    /// Each WebSocket message comes back as it is, without a login: for development and conformance
    /// tests. The configuration makes it over [`Framing::WebSocket`] only.
    Echo,
}
