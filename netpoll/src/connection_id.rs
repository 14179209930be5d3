//! Names for connections that outlive the connections.

use std::fmt;

/// A connection of one backend: a table index and the generation of that slot.
///
/// A slot's generation rises each time the slot is freed, so an id kept after its connection has
/// closed names nothing instead of the next connection in the same slot. The index fits 24 bits so
/// that index, generation and an operation tag fit the 64-bit `user_data` of an io_uring
/// submission.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    index: u32,
    generation: u32,
}

/// Connections that one backend can hold at most: the index has 24 bits.
pub const CONNECTIONS_PER_BACKEND_MAX: u32 = 1 << 24;

const _: () = assert!(size_of::<ConnectionId>() == 8);

impl ConnectionId {
    /// The id of slot `index` in its `generation`.
    ///
    /// # Panics
    /// If `index` is not below [`CONNECTIONS_PER_BACKEND_MAX`]; tables are never larger.
    pub fn new(index: u32, generation: u32) -> Self {
        assert!(index < CONNECTIONS_PER_BACKEND_MAX, "connection index {index} needs more than 24 bits");
        ConnectionId { index, generation }
    }

    /// The slot, from 0. Dense: fit to index a parallel table.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The slot's generation: rises each time the slot is freed, modulo 2^32.
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Packs the id under an 8-bit `tag`: tag in the top byte, then the index, then the generation.
    pub const fn pack(self, tag: u8) -> u64 {
        (tag as u64) << 56 | (self.index as u64) << 32 | self.generation as u64
    }

    /// Undoes [`ConnectionId::pack`].
    pub const fn unpack(packed: u64) -> (u8, ConnectionId) {
        let index = (packed >> 32) as u32 & (CONNECTIONS_PER_BACKEND_MAX - 1);
        ((packed >> 56) as u8, ConnectionId { index, generation: packed as u32 })
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_reversible_at_the_edges() {
        for (tag, index, generation) in
            [(0, 0, 0), (255, CONNECTIONS_PER_BACKEND_MAX - 1, u32::MAX), (7, 12_345, 1 << 31)]
        {
            let id = ConnectionId::new(index, generation);
            assert_eq!(ConnectionId::unpack(id.pack(tag)), (tag, id));
        }
    }

    #[test]
    #[should_panic(expected = "24 bits")]
    fn an_index_of_25_bits_is_refused() {
        let _ = ConnectionId::new(CONNECTIONS_PER_BACKEND_MAX, 0);
    }
}
