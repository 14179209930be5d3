//! A TCP segment on its way into the engine.

use crate::wire::flow::Tuple;
use crate::wire::{Mac, tcp};

/// A segment that came in, checked as far as one can without its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) tuple: Tuple,
    /// The flow table's hash of it.
    pub(crate) hash: u64,
    /// Our address.
    pub(crate) local_index: u8,
    /// Who put it on the link.
    pub(crate) mac: Mac,
    pub(crate) header: tcp::Tcp,
    /// Where its payload is in the frame.
    pub(crate) payload_at: u32,
    pub(crate) payload_size: u32,
}

impl Segment {
    /// Sequence numbers that it takes: SEG.LEN.
    pub(in crate::tcp) fn span(&self) -> u32 {
        let flags = self.header.flags;
        self.payload_size + u32::from(flags.has(tcp::Flags::SYN)) + u32::from(flags.has(tcp::Flags::FIN))
    }

    /// The sequence number behind it.
    pub(in crate::tcp) fn end(&self) -> u32 {
        self.header.sequence.wrapping_add(self.span())
    }
}
