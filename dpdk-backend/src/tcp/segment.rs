//! A received TCP segment.

use crate::wire::flow::Tuple;
use crate::wire::{Mac, tcp};

/// A received segment, validated as far as possible without its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) tuple: Tuple,
    /// The flow table's hash of the tuple.
    pub(crate) hash: u64,
    /// The index of our address.
    pub(crate) local_index: u8,
    /// The sender's hardware address.
    pub(crate) mac: Mac,
    pub(crate) header: tcp::Tcp,
    /// The offset of its payload in the frame.
    pub(crate) payload_at: u32,
    pub(crate) payload_size: u32,
}

impl Segment {
    /// Sequence numbers that it takes: SEG.LEN.
    pub(in crate::tcp) fn span(&self) -> u32 {
        let flags = self.header.flags;
        self.payload_size + u32::from(flags.has(tcp::Flags::SYN)) + u32::from(flags.has(tcp::Flags::FIN))
    }

    /// The sequence number after the segment.
    pub(in crate::tcp) fn end(&self) -> u32 {
        self.header.sequence.wrapping_add(self.span())
    }
}
