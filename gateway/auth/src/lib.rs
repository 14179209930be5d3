//! Authentication of clients by a JSON Web Token (RFC 7519) in the Auth frame.
//!
//! ```text
//!   worker ── VerifySender::send(VerifyRequest) ──► one bounded lane a thread ──► TokenPolicy::check
//!     ▲                                                                                │
//!     └──────────────── Message::Verified(Verdict) ◄───────────────────────────────────┘
//! ```
//!
//! A signature costs tens of microseconds, so it is checked away from the workers, on threads of
//! its own; a full lane refuses, and the client receives "overload" and reconnects. A verdict is
//! plain and carries handles only: the body of the Auth frame goes there and back as the buffer
//! that it was received in. A user id as text comes in a block of the verifier's own pool. The
//! worker allocates and frees nothing.
//!
//! The algorithm belongs to the key and never to the token: a token that names another algorithm is
//! refused before anything is computed. So a public key can't be taken for a shared secret.

#![deny(clippy::print_stdout, clippy::print_stderr)] // What the program says goes through `output`.

mod keys;
mod policy;
#[cfg(test)]
mod set_tests;
#[cfg(test)]
mod tests;
mod verifier;

pub use keys::{KeySet, SECRET_SIZE_MIN, TokenAlgorithm};
pub use policy::unix_now_ms;
pub use policy::{Bearer, TokenPolicy, UserKind};
pub use verifier::reserved_bytes;
pub use verifier::{Lane, Verifier, VerifierMetrics, lanes};
