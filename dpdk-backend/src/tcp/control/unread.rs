//! Payloads that their owner returned because it had no block for its answers.
//!
//! A kernel copies what it sends; here the owner's blocks are in use until they are acknowledged.
//! They can run out among healthy connections, and are freed as acknowledgements arrive. Returned
//! payloads are delivered again when blocks are free. Meanwhile they hold receive buffers, which
//! limits the windows: peers that continue to send are slowed down.
//!
//! ```text
//!   Received ─► no block ─► returned, behind earlier ones
//!                            ├─ blocks freed ──► delivered again, before newer ones
//!                            └─ none for long ─► delivered again, not taken back
//! ```

use crate::tcp::engine::{Context, Tcp};
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists};
use netpoll::{Buffer, ConnectionId};

/// The longest time that payloads wait without a free block. Then the owner has to choose a
/// connection to close.
const WITHOUT_BLOCKS_MS: u32 = 1000;

impl Tcp {
    /// Takes back a payload until a block of `size` bytes is free, and with it everything that was
    /// delivered of the connection after it.
    ///
    /// # Errors
    /// The payload, when no block was freed for long, or the connection has ended.
    pub(crate) fn unread(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        payload: Buffer,
        size: usize,
    ) -> Result<(), Buffer> {
        let index = self.live(id).filter(|index| !self.table[*index].has(Facts::FIN_QUEUED));
        let unread = &mut self.reports.unread;
        let Some(index) = index else { return Err(payload) };
        if unread.refuses || unread.waiting.len() == unread.waiting.capacity() {
            return Err(payload);
        }
        if unread.is_empty() {
            unread.since_ms = cx.now.ms;
        }
        unread.size_min = unread.size_min.min(size);
        unread.waiting.push_back((index, payload));
        self.table[index].set(Lists::UNREAD);
        cx.counters.receives_put_back += 1;
        Ok(())
    }

    /// Whether the connection has returned payloads since they were last delivered.
    pub(crate) fn has_unread(&self, id: ConnectionId) -> bool {
        !self.reports.unread.is_empty()
            && self.live(id).is_some_and(|index| self.table[index].has(Lists::UNREAD))
    }

    /// Delivers returned payloads again, when blocks are free or there were none for long.
    pub(crate) fn deliver_again(&mut self, cx: &mut Context<'_>) {
        if self.reports.unread.has_ready() {
            return;
        }
        self.reports.unread.refuses = false;
        if self.reports.unread.is_empty() {
            return;
        }
        let waited = cx.now.since(self.reports.unread.since_ms);
        if self.reports.unread.is_worth_delivering(cx.pools, waited > 0) {
            self.deliver_all_again(cx.now.ms);
        } else if waited >= WITHOUT_BLOCKS_MS {
            self.deliver_all_again(cx.now.ms);
            self.reports.unread.refuses = true;
        }
    }

    fn deliver_all_again(&mut self, now_ms: u32) {
        let unread = &mut self.reports.unread;
        (unread.ready, unread.size_min, unread.since_ms) = (unread.waiting.len(), usize::MAX, now_ms);
        for (index, _) in &unread.waiting {
            self.table[*index].clear(Lists::UNREAD);
        }
    }

    /// Delivers everything again, before the end of a connection that has returned payloads.
    pub(in crate::tcp) fn deliver_before_end(&mut self, index: BlockIndex) -> bool {
        let waits = !self.reports.unread.is_empty() && self.table[index].has(Lists::UNREAD);
        if waits {
            self.deliver_all_again(self.reports.unread.since_ms);
        }
        waits
    }
}
