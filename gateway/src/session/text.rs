//! Short texts (connection keys, user ids, room names) in cells of one reserved store.

/// Bytes of text in one cell: a UUID in its usual form.
const CELL_SIZE: usize = 36;
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Cell {
    next: u32,
    bytes: [u8; CELL_SIZE],
}

const _: () = assert!(size_of::<Cell>() == 40);

/// A text in a [`TextStore`], or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextId {
    head: u32,
    size: u8,
}

impl TextId {
    /// No text.
    pub const NONE: TextId = TextId { head: NONE, size: 0 };

    /// Whether there is no text.
    pub fn is_none(self) -> bool {
        self.head == NONE
    }

    /// Cells that it takes.
    pub fn cells(self) -> usize {
        usize::from(self.size).div_ceil(CELL_SIZE)
    }
}

/// Texts of at most 255 bytes, each a chain of cells. Reserved once, touched as used.
#[derive(Debug)]
pub struct TextStore {
    cells: Vec<Cell>,
    free: u32,
    free_count: usize,
    capacity: usize,
}

impl TextStore {
    /// Bytes of a cell.
    pub const CELL_BYTES: usize = size_of::<Cell>();

    /// Room for `capacity` cells of 36 bytes.
    pub fn with_capacity(capacity: usize) -> TextStore {
        TextStore { cells: Vec::with_capacity(capacity), free: NONE, free_count: 0, capacity }
    }

    /// Keeps `text`; `None` when it is empty, over 255 bytes, or when the cells are used up.
    pub fn insert(&mut self, text: &[u8]) -> Option<TextId> {
        let size = u8::try_from(text.len()).ok()?;
        let needed = text.len().div_ceil(CELL_SIZE);
        if needed == 0 || needed > self.free_cells() {
            return None;
        }
        let mut head = NONE;
        for chunk in text.chunks(CELL_SIZE).rev() {
            let mut bytes = [0; CELL_SIZE];
            bytes[..chunk.len()].copy_from_slice(chunk);
            head = self.take(Cell { next: head, bytes });
        }
        Some(TextId { head, size })
    }

    fn take(&mut self, cell: Cell) -> u32 {
        if self.free == NONE {
            self.cells.push(cell);
            return self.cells.len() as u32 - 1;
        }
        let index = self.free;
        let slot = &mut self.cells[index as usize];
        self.free = slot.next;
        self.free_count -= 1;
        *slot = cell;
        index
    }

    /// Frees a text; the id must not be used again.
    pub fn remove(&mut self, id: TextId) {
        let mut index = id.head;
        while index != NONE {
            let cell = &mut self.cells[index as usize];
            let next = std::mem::replace(&mut cell.next, self.free);
            self.free = index;
            self.free_count += 1;
            index = next;
        }
    }

    /// Copies a text to the front of `scratch` and returns it.
    pub fn read<'s>(&self, id: TextId, scratch: &'s mut [u8; 255]) -> &'s str {
        let (mut index, mut at) = (id.head, 0);
        let size = usize::from(id.size);
        while index != NONE && at < size {
            let cell = &self.cells[index as usize];
            let count = CELL_SIZE.min(size - at);
            scratch[at..at + count].copy_from_slice(&cell.bytes[..count]);
            at += count;
            index = cell.next;
        }
        std::str::from_utf8(&scratch[..at]).unwrap_or_default()
    }

    /// Gives the memory back when no text is kept.
    pub fn trim(&mut self) {
        if self.used_cells() == 0 && !self.cells.is_empty() {
            self.cells.clear();
            (self.free, self.free_count) = (NONE, 0);
            netpoll::release_spare(&mut self.cells);
        }
    }

    /// Cells in use.
    pub fn used_cells(&self) -> usize {
        self.cells.len() - self.free_count
    }

    /// As many cells are free as counted.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self) {
        let (mut index, mut count) = (self.free, 0);
        while let Some(cell) = self.cells.get(index as usize) {
            count += 1;
            assert!(count <= self.free_count, "the free cells go round in circles, or are more than counted");
            index = cell.next;
        }
        assert_eq!(count, self.free_count, "free cells");
        assert!(self.cells.len() <= self.capacity, "cells");
    }

    /// Cells left.
    pub fn free_cells(&self) -> usize {
        self.free_count + self.capacity - self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_size_come_back_and_their_cells_too() {
        let mut store = TextStore::with_capacity(64);
        let text = "ö0123456789".repeat(40);
        for size in (1..=255).filter(|size| text.is_char_boundary(*size)) {
            let id = store.insert(&text.as_bytes()[..size]).unwrap();
            assert_eq!(store.read(id, &mut [0; 255]), &text[..size]);
            store.remove(id);
            assert_eq!(store.free_cells(), 64);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let mut store = TextStore::with_capacity(2);
        assert_eq!(store.insert(b""), None);
        assert_eq!(store.insert(&[b'a'; 73]), None);
        let id = store.insert(&[b'a'; 72]).unwrap();
        assert_eq!(store.insert(b"b"), None);
        store.remove(id);
        assert!(store.insert(b"b").is_some());
    }
}
