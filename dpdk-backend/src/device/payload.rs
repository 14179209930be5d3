//! The payload of a frame: bytes in several buffers, by reference.

use netpoll::{PieceList, PieceStore, SharedBuffer};

/// A range of a list of pieces. Copying it copies none of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    store: Option<&'a PieceStore>,
    index: u32,
    offset: u32,
    left: u32,
}

impl<'a> Payload<'a> {
    /// No payload.
    pub const EMPTY: Payload<'static> = Payload { store: None, index: PieceList::NONE, offset: 0, left: 0 };

    /// `size` bytes of a list in `store`, from byte `offset` of the piece at `index` on.
    pub fn new(store: &'a PieceStore, index: u32, offset: u32, size: u32) -> Payload<'a> {
        Payload { store: Some(store), index, offset, left: size }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Payload<'a> {
    /// The piece's buffer, and the range of it that belongs to the payload.
    type Item = (&'a SharedBuffer, std::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let store = self.store?;
        let buffer = store.get(self.index)?;
        let start = self.offset as usize;
        let size = (buffer.len() - start).min(self.left as usize);
        self.left -= size as u32;
        (self.index, self.offset) = (store.next(self.index), 0);
        Some((buffer, start..start + size))
    }
}
