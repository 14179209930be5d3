//! Traffic secrets, caught on their way to a key log.
//!
//! rustls logs them on the thread that runs the handshake, so a slot of the thread takes them. The
//! slot is empty outside of [`capturing`].

use crate::suite::SECRET_SIZE_MAX;
use rustls::KeyLog;
use std::cell::Cell;
use zeroize::Zeroize;

const CLIENT_LABEL: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_LABEL: &str = "SERVER_TRAFFIC_SECRET_0";

/// A traffic secret, overwritten when it is dropped.
#[derive(Default)]
pub(super) struct Secret {
    bytes: [u8; 32],
    rest: [u8; SECRET_SIZE_MAX - 32],
    size: usize,
}

impl Secret {
    fn new(secret: &[u8]) -> Option<Secret> {
        let mut caught = Secret { size: secret.len(), ..Secret::default() };
        let (bytes, rest) = secret.split_at_checked(32)?;
        caught.bytes.copy_from_slice(bytes);
        caught.rest.get_mut(..rest.len())?.copy_from_slice(rest);
        Some(caught)
    }

    /// The secret, if it has `size` bytes.
    pub(super) fn of_size(&self, size: usize) -> Option<[u8; SECRET_SIZE_MAX]> {
        let mut secret = [0; SECRET_SIZE_MAX];
        secret[..32].copy_from_slice(&self.bytes);
        secret[32..].copy_from_slice(&self.rest);
        (self.size == size).then_some(secret)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
        self.rest.zeroize();
    }
}

/// The secrets of a handshake, as far as they have been derived.
#[derive(Default)]
pub(super) struct Captured {
    pub(super) client: Option<Secret>,
    pub(super) server: Option<Secret>,
}

thread_local! {
    static SLOT: Cell<Option<Captured>> = const { Cell::new(None) };
}

/// Runs a part of a handshake; what it derives is added to `captured`.
pub(super) fn capturing<R>(captured: &mut Captured, run: impl FnOnce() -> R) -> R {
    SLOT.set(Some(std::mem::take(captured)));
    let result = run();
    *captured = SLOT.take().unwrap_or_default();
    result
}

/// The key log of all handshakes. It writes nothing anywhere.
#[derive(Debug)]
pub(super) struct KeyCapture;

impl KeyLog for KeyCapture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let Some(mut captured) = SLOT.take() else { return };
        match label {
            CLIENT_LABEL => captured.client = Secret::new(secret),
            SERVER_LABEL => captured.server = Secret::new(secret),
            _ => {}
        }
        SLOT.set(Some(captured));
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT_LABEL | SERVER_LABEL)
    }
}
