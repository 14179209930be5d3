//! A connection's socket, its bounded buffers, and every way of waiting for its peer.
//!
//! Reading and writing end by themselves: with the peer, at a deadline, or when the place is needed
//! for another connection. Output is sent before any wait, so bytes that follow a request never
//! delay its answer.

use super::admission::{Admission, Doing, Place};
use super::budget::{Budget, Held, INPUT_OWN};
use super::input::Input;
use bytes::{Buf, Bytes, BytesMut};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A peer that takes nothing of an answer for this long is closed.
const UNREAD_MAX: Duration = Duration::from_secs(20);
/// Longest wait for the peer's FIN after an answer that closes the connection (RFC 9112 §9.6).
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Most bytes that are received and dropped meanwhile.
const LINGER_SIZE_MAX: usize = 16 << 20;
/// Tries to find room for a request before it is refused, and the time between two of them.
const CLAIM_TRIES: u32 = 20;
const CLAIM_AGAIN: Duration = Duration::from_millis(5);
/// Bytes received at a time at most.
pub(crate) const STEP_MAX: usize = 64 << 10;

/// Why a connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The peer has ended, or reset, it.
    Peer,
    /// The peer was too slow to send.
    TimedOut,
    /// The peer did not take its answer.
    Unread,
    /// The place was needed.
    Evicted,
    /// There is no memory for what it sends.
    Busy,
}

/// See the module.
pub(super) struct Wire {
    stream: TcpStream,
    /// Received, not yet used.
    pub(super) input: Input,
    /// Answers that have not left yet: at most `OUTPUT_OWN` bytes, and one head.
    pub(super) output: BytesMut,
    pub(super) place: Arc<Place>,
    admission: Arc<Admission>,
    /// Bytes that the request under way holds outside of `input`: its head, its body.
    beside: usize,
    /// What `input` and those take of the shared budget.
    held: Held,
}

impl Wire {
    pub(super) fn new(
        stream: TcpStream,
        place: Arc<Place>,
        admission: Arc<Admission>,
        budget: &Arc<Budget>,
    ) -> Wire {
        // Only costs latency when it fails.
        let _ = stream.set_nodelay(true);
        let (input, output) = (Input::default(), BytesMut::new());
        Wire { stream, input, output, place, admission, beside: 0, held: budget.empty() }
    }

    /// Receives some bytes before `until`; the more have come already, here and to a body of
    /// `joined` bytes, the more at once.
    ///
    /// # Errors
    /// [`Gone`]; what was received stays.
    pub(super) async fn fill(&mut self, until: Instant, joined: usize) -> Result<(), Gone> {
        let step = (self.input.len() + joined).clamp(INPUT_OWN / 2, STEP_MAX);
        self.claim_soon(self.input.held_with(step) + self.beside).await?;
        self.input.reserve(step);
        // Bytes that have arrived are taken even if the connection's place is needed.
        tokio::select! {
            biased;
            received = self.stream.read_buf(self.input.end()) => match received {
                Ok(0) | Err(_) => Err(Gone::Peer),
                Ok(bytes) => {
                    self.place.moved(bytes);
                    Ok(())
                }
            },
            () = self.place.evicted() => Err(Gone::Evicted),
            () = tokio::time::sleep_until(until) => Err(Gone::TimedOut),
        }
    }

    /// As [`Wire::claim`], with some time for the holder that is closed, and for those that are
    /// about to end.
    async fn claim_soon(&mut self, bytes: usize) -> Result<(), Gone> {
        for _ in 0..CLAIM_TRIES {
            if self.claim(bytes) {
                return Ok(());
            }
            tokio::time::sleep(CLAIM_AGAIN).await;
        }
        Err(Gone::Busy)
    }

    /// Counts `bytes` for what this connection has received. When there is no room, the slowest
    /// holder is closed for it.
    fn claim(&mut self, bytes: usize) -> bool {
        let shared = bytes.saturating_sub(INPUT_OWN);
        let fits = self.held.set(shared) || (self.admission.relieve() && self.held.set(shared));
        self.place.holds(self.held.bytes());
        fits
    }

    /// Counts `bytes` that the request under way holds outside of `input` from now on.
    ///
    /// # Errors
    /// [`Gone::Busy`] when there is no room for them.
    pub(super) async fn hold_beside(&mut self, bytes: usize) -> Result<(), Gone> {
        self.beside = bytes;
        self.input.shrink();
        self.claim_soon(self.input.held() + bytes).await
    }

    /// Ends a request: its memory is released as far as no further request follows.
    pub(super) fn end_request(&mut self) {
        self.beside = 0;
        self.input.shrink();
        // Less than before, which always fits.
        let _ = self.held.set(self.input.held().saturating_sub(INPUT_OWN).min(self.held.bytes()));
        self.place.holds(self.held.bytes());
    }

    /// Bytes of the shared budget that requests of this connection hold.
    pub(super) fn held(&self) -> usize {
        self.held.bytes()
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        self.send(Bytes::new()).await
    }

    /// Sends what waits, and `body` behind it.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) async fn send(&mut self, mut body: Bytes) -> Result<(), Gone> {
        if self.output.is_empty() && body.is_empty() {
            return Ok(());
        }
        self.place.begins(Doing::Sending);
        while !self.output.is_empty() || !body.is_empty() {
            let pieces = [IoSlice::new(&self.output), IoSlice::new(&body)];
            let taken = tokio::select! {
                biased;
                taken = self.stream.write_vectored(&pieces) => taken.map_err(|_| Gone::Peer)?,
                () = self.place.evicted() => return Err(Gone::Evicted),
                () = tokio::time::sleep(UNREAD_MAX) => return Err(Gone::Unread),
            };
            if taken == 0 {
                return Err(Gone::Peer);
            }
            self.place.moved(taken);
            let of_output = taken.min(self.output.len());
            self.output.advance(of_output);
            body.advance(taken - of_output);
        }
        self.output = BytesMut::new();
        Ok(())
    }

    /// Sends waiting output as far as the socket takes it at once: the last output of a connection
    /// that is not waited for.
    pub(super) fn send_at_once(&mut self) {
        let _ = self.stream.try_write(&self.output);
        self.output.clear();
    }

    /// Ends the connection so that the peer can read the last answer: closing a socket that holds
    /// unread bytes would reset it, and the answer be lost with them.
    pub(super) async fn linger(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        self.place.begins(Doing::Idle);
        self.input = Input::default();
        self.end_request();
        let (until, mut dropped) = (Instant::now() + LINGER_MAX, 0);
        while dropped < LINGER_SIZE_MAX && self.fill(until, 0).await.is_ok() {
            dropped += self.input.len();
            self.input.clear();
        }
    }
}
