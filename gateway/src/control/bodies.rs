//! Bodies of requests: each has a bound, and what is large of all of them together has one.
//!
//! A request may bring a megabyte, and many may be under way. Without a common bound those who send slowly, or ask for much
//! at a time, would hold more than everything that was reserved at the start.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that a body may have without being counted: `control.requests_max` bounds those.
const SMALL: usize = 16 << 10;
/// Bytes of larger bodies that are held at a time, all requests together.
const ROOM: usize = 4 << 20;
/// What is counted at a time.
const UNIT: usize = 4 << 10;
/// What a body becomes when it is read: its text, and the values in it.
const COPIES: usize = 2;

/// What bodies take at most, in bytes.
pub(super) const RESERVED: usize = ROOM * COPIES;

/// See the module.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Semaphore,
}

/// A body that was read whole. It counts while it lives.
#[derive(Debug)]
pub(super) struct HeldBody<'b> {
    pub(super) bytes: Bytes,
    room: Option<SemaphorePermit<'b>>,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It exceeds its own bound.
    TooLarge,
    /// All together exceed theirs.
    Busy,
    /// It ended early, or makes no sense.
    Broken,
}

impl Bodies {
    pub(super) fn new() -> Bodies {
        Bodies { room: Semaphore::new(ROOM / UNIT) }
    }

    /// Reads a body of at most `size_max` bytes.
    ///
    /// # Errors
    /// [`BodyError`]; what was read until then is dropped.
    pub(super) async fn read(&self, mut body: Body, size_max: usize) -> Result<HeldBody<'_>, BodyError> {
        let mut held = HeldBody { bytes: Bytes::new(), room: None };
        let mut joined = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            let before = held.bytes.len().max(joined.len());
            let size = before + data.len();
            if size > size_max {
                return Err(BodyError::TooLarge);
            }
            self.claim(&mut held, size)?;
            // Nearly all come in one piece, which is not copied.
            if before == 0 {
                held.bytes = data;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut held.bytes));
                joined.extend_from_slice(&data);
            }
        }
        if !joined.is_empty() {
            held.bytes = joined.into();
        }
        Ok(held)
    }

    /// Counts a body that has `size` bytes by now.
    fn claim<'b>(&'b self, held: &mut HeldBody<'b>, size: usize) -> Result<(), BodyError> {
        let wanted = if size <= SMALL { 0 } else { size.div_ceil(UNIT) };
        let has = held.room.as_ref().map_or(0, SemaphorePermit::num_permits);
        if wanted > has {
            let more = self.room.try_acquire_many((wanted - has) as u32).map_err(|_| BodyError::Busy)?;
            match &mut held.room {
                Some(room) => room.merge(more),
                none => *none = Some(more),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bodies: &Bodies, size: usize, size_max: usize) -> Result<HeldBody<'_>, BodyError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(bodies.read(Body::from(vec![b'x'; size]), size_max))
    }

    #[test]
    fn each_has_a_bound_and_so_have_all() {
        let bodies = Bodies::new();
        assert_eq!(read(&bodies, 1001, 1000).unwrap_err(), BodyError::TooLarge);
        let held: Vec<_> = (0..4).map(|_| read(&bodies, 1 << 20, 1 << 20).unwrap()).collect();
        assert!(held.iter().all(|body| body.bytes.len() == 1 << 20));
        assert_eq!(read(&bodies, SMALL + 1, 1 << 20).unwrap_err(), BodyError::Busy);
        assert_eq!(
            read(&bodies, SMALL, 1 << 20).unwrap().bytes.len(),
            SMALL,
            "small ones have their own bound"
        );
        drop(held);
        assert_eq!(read(&bodies, 1 << 20, 1 << 20).unwrap().bytes.len(), 1 << 20);
    }

    #[test]
    fn pieces_are_joined_in_their_order() {
        let bodies = Bodies::new();
        let pieces = ["", "ab", "", "c", "def"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(bodies.read(body, 10)).unwrap().bytes, "abcdef");
        assert_eq!(bodies.room.available_permits(), ROOM / UNIT);
    }
}
