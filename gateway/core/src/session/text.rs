//! Short texts (connection keys, user ids, room names) in cells of one reserved store.

/// Bytes of text in one cell: a UUID in its usual form.
pub const CELL_SIZE: usize = 36;
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Cell {
    next: u32,
    bytes: [u8; CELL_SIZE],
}

const _: () = assert!(size_of::<Cell>() == 40);

/// A text in a [`TextStore`], or none. In six bytes: sessions and rooms keep some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextId {
    /// The first cell, its lower half first.
    head: [u16; 2],
    size: u16,
}

const _: () = assert!(size_of::<TextId>() == 6);

impl TextId {
    /// No text.
    pub const NONE: TextId = TextId::new(NONE, 0);

    const fn new(head: u32, size: u16) -> TextId {
        TextId { head: [head as u16, (head >> 16) as u16], size }
    }

    fn head(self) -> u32 {
        u32::from(self.head[0]) | u32::from(self.head[1]) << 16
    }

    /// Whether there is no text.
    pub fn is_none(self) -> bool {
        self.head() == NONE
    }

    /// Cells that it takes.
    pub fn cells(self) -> usize {
        usize::from(self.size).div_ceil(CELL_SIZE)
    }

    /// As two numbers.
    pub(super) fn pack(self) -> [u32; 2] {
        [self.head(), u32::from(self.size)]
    }

    pub(super) fn unpack([head, size]: [u32; 2]) -> TextId {
        TextId::new(head, size as u16)
    }
}

/// Use of a text. Logins and rooms share the store, and neither must fill it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextUse {
    /// The key or user of a connection, or the rooms of its token.
    Login,
    /// The key of a room.
    Room,
}

/// Texts, each a chain of cells. Reserved once, touched as used.
///
/// The first cell of each text comes from a part that is for texts of its use alone: one cell for
/// each key and user id that connections can have, and one for each room that the worker can host.
/// So short names find room whatever others hold. What is longer than a cell shares the rest, of
/// which rooms have half at most.
#[derive(Debug)]
pub struct TextStore {
    cells: Vec<Cell>,
    free: u32,
    free_count: usize,
    capacity: usize,
    logins: Part,
    rooms: Part,
}

/// The texts of one use.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Cells that first cells of its texts have alone.
    own: usize,
    texts: usize,
    cells: usize,
}

impl Part {
    /// Cells in use that are not of its own.
    fn shared(self) -> usize {
        self.cells - self.texts.min(self.own)
    }

    /// Cells that one more text of `needed` cells takes from what is shared.
    fn more_shared(self, needed: usize) -> usize {
        needed - usize::from(self.texts < self.own).min(needed)
    }
}

impl TextStore {
    /// Bytes of a cell.
    pub const CELL_BYTES: usize = size_of::<Cell>();

    /// Room for `capacity` cells of 36 bytes, `login_texts` of them for logins alone, but half of
    /// all at most, and `room_texts` for rooms alone, but three quarters of the others at most.
    pub fn with_capacity(capacity: usize, login_texts: usize, room_texts: usize) -> TextStore {
        let (of_logins, of_rooms) = TextStore::own_cells(capacity, login_texts, room_texts);
        let part = |own| Part { own, texts: 0, cells: 0 };
        TextStore {
            cells: Vec::with_capacity(capacity),
            free: NONE,
            free_count: 0,
            capacity,
            logins: part(of_logins),
            rooms: part(of_rooms),
        }
    }

    /// Cells of `capacity` that are for logins alone and for rooms alone.
    pub fn own_cells(capacity: usize, login_texts: usize, room_texts: usize) -> (usize, usize) {
        let of_logins = login_texts.min(capacity / 2);
        (of_logins, room_texts.min((capacity - of_logins) * 3 / 4))
    }

    /// Count of rooms with a cell of their own for their name.
    pub fn room_names_max(&self) -> usize {
        self.rooms.own
    }

    /// Cells that are no text's own.
    fn shared(&self) -> usize {
        self.capacity - self.logins.own - self.rooms.own
    }

    /// Cells of the shared part in use.
    fn shared_used(&self) -> usize {
        self.logins.shared() + self.rooms.shared()
    }

    /// Cells that a text takes.
    pub fn cells_for(text: &str) -> usize {
        text.len().div_ceil(CELL_SIZE)
    }

    /// Shared cells that names of rooms may still take.
    pub fn room_cells_left(&self) -> usize {
        let of_rooms = (self.shared() / 2).saturating_sub(self.rooms.shared());
        of_rooms.min(self.shared().saturating_sub(self.shared_used()))
    }

    /// Used and all cells of the shared part.
    pub fn shared_level(&self) -> (usize, usize) {
        (self.shared_used(), self.shared())
    }

    fn has_room(&self, needed: usize, of: TextUse) -> bool {
        match of {
            TextUse::Room => self.rooms.more_shared(needed) <= self.room_cells_left(),
            TextUse::Login => {
                let left = self.shared().saturating_sub(self.shared_used());
                self.logins.more_shared(needed) <= left
            }
        }
    }

    fn part(&mut self, of: TextUse) -> &mut Part {
        match of {
            TextUse::Login => &mut self.logins,
            TextUse::Room => &mut self.rooms,
        }
    }

    /// Keeps `text`; `None` when it is empty, over 64 KiB, or when the cells for its use are used
    /// up.
    pub fn insert(&mut self, text: &[u8], of: TextUse) -> Option<TextId> {
        let size = u16::try_from(text.len()).ok()?;
        let needed = text.len().div_ceil(CELL_SIZE);
        if needed == 0 || !self.has_room(needed, of) {
            return None;
        }
        let part = self.part(of);
        part.texts += 1;
        part.cells += needed;
        let mut head = NONE;
        for chunk in text.chunks(CELL_SIZE).rev() {
            let mut bytes = [0; CELL_SIZE];
            bytes[..chunk.len()].copy_from_slice(chunk);
            head = self.take(Cell { next: head, bytes });
        }
        Some(TextId::new(head, size))
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
    pub fn remove(&mut self, id: TextId, of: TextUse) {
        if id.is_none() {
            return;
        }
        let part = self.part(of);
        part.texts -= 1;
        part.cells -= id.cells();
        let mut index = id.head();
        while index != NONE {
            let cell = &mut self.cells[index as usize];
            let next = std::mem::replace(&mut cell.next, self.free);
            self.free = index;
            self.free_count += 1;
            index = next;
        }
    }

    /// Copies a text, as much as fits, to the front of `scratch` and returns it.
    pub fn read<'s>(&self, id: TextId, scratch: &'s mut [u8]) -> &'s str {
        let (mut index, mut at) = (id.head(), 0);
        let size = usize::from(id.size).min(scratch.len());
        while index != NONE && at < size {
            let cell = &self.cells[index as usize];
            let count = CELL_SIZE.min(size - at);
            scratch[at..at + count].copy_from_slice(&cell.bytes[..count]);
            at += count;
            index = cell.next;
        }
        std::str::from_utf8(&scratch[..at]).unwrap_or_default()
    }

    /// Releases the memory when no text is kept.
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
        assert_eq!(self.logins.cells + self.rooms.cells, self.used_cells(), "cells of logins and of rooms");
        assert!(self.shared_used() <= self.shared(), "cells of their own are taken by others");
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
        let mut store = TextStore::with_capacity(128, 2, 2);
        let text = "ö0123456789".repeat(200);
        for size in (1..=2100).filter(|size| text.is_char_boundary(*size)) {
            let id = store.insert(&text.as_bytes()[..size], TextUse::Login).unwrap();
            assert_eq!(store.read(id, &mut [0; 2200]), &text[..size]);
            store.invariants();
            store.remove(id, TextUse::Login);
            assert_eq!(store.free_cells(), 128);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let mut store = TextStore::with_capacity(2, 0, 0);
        assert_eq!(store.insert(b"", TextUse::Login), None);
        assert_eq!(store.insert(&[b'a'; 73], TextUse::Login), None);
        let id = store.insert(&[b'a'; 72], TextUse::Login).unwrap();
        assert_eq!(store.insert(b"b", TextUse::Login), None);
        store.remove(id, TextUse::Login);
        assert!(store.insert(b"b", TextUse::Login).is_some());
    }

    /// Inserts texts of a use until none finds room, the longest first. Returns them.
    fn fill(store: &mut TextStore, of: TextUse, sizes: &[usize]) -> Vec<TextId> {
        let mut texts = vec![];
        for size in sizes {
            while let Some(text) = store.insert(&vec![b'x'; *size], of) {
                texts.push(text);
                store.invariants();
            }
        }
        texts
    }

    #[test]
    fn logins_with_short_names_find_room_whatever_rooms_hold() {
        let mut store = TextStore::with_capacity(40, 16, 8);
        fill(&mut store, TextUse::Room, &[255, 72, 1]);
        let short = (0..16).filter(|_| store.insert(&[b'k'; 36], TextUse::Login).is_some());
        assert_eq!(short.count(), 16);
        assert!(store.insert(&[b'k'; 128], TextUse::Login).is_some(), "rooms have half of what is shared");
        store.invariants();
    }

    #[test]
    fn rooms_with_short_names_find_room_whatever_logins_hold() {
        let mut store = TextStore::with_capacity(40, 16, 8);
        fill(&mut store, TextUse::Login, &[2000, 255, 72, 1]);
        assert_eq!(store.room_names_max(), 8);
        let short: Vec<_> = (0..8).filter_map(|_| store.insert(&[b'r'; 36], TextUse::Room)).collect();
        assert_eq!(short.len(), 8);
        assert_eq!((store.insert(b"r", TextUse::Room), store.free_cells()), (None, 0));
        store.remove(short[3], TextUse::Room);
        assert_eq!(store.insert(b"k", TextUse::Login), None, "what a room gives back is a room's");
        assert!(store.insert(b"r", TextUse::Room).is_some());
        store.invariants();
    }
}
