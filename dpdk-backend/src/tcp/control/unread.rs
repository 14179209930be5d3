//! Payloads that their owner gave back: it had no block for what it makes of them.
//!
//! Where a kernel copies what it sends, the owner's blocks stay away until they are acknowledged.
//! So they can run out among healthy connections, and come home by themselves: acknowledgements are
//! taken in meanwhile, and what was given back is told again when there are blocks. It holds
//! receive buffers, which make the windows: peers that send on are slowed down.
//!
//! ```text
//!   told: Received ─► no block ─► put back, behind earlier ones ─ blocks came home ─► told again, before anything newer
//!                                                                └ none for long ────► told again, and not taken back
//! ```

use crate::tcp::engine::{Context, Tcp};
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists};
use netpoll::{Buffer, ConnectionId};

/// As long as no block comes home, payloads wait at most: then their owner has to decide who goes.
const WITHOUT_BLOCKS_MS: u32 = 1000;
impl Tcp {
    /// Takes a payload back that was told, until a block of `size` bytes is free; with all that the
    /// owner was told of the connection behind it.
    ///
    /// # Errors
    /// The payload: no block came home for long, or the connection is over.
    pub(crate) fn put_back(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        payload: Buffer,
        size: usize,
    ) -> Result<(), Buffer> {
        let index = self.live(id).filter(|index| !self.table[*index].has(Facts::FIN_QUEUED));
        let put_back = &mut self.reports.unread;
        let Some(index) = index else { return Err(payload) };
        if put_back.refuses || put_back.waiting.len() == put_back.waiting.capacity() {
            return Err(payload);
        }
        if put_back.is_empty() {
            put_back.since_ms = cx.now.ms;
        }
        put_back.size_min = put_back.size_min.min(size);
        put_back.waiting.push_back((index, payload));
        self.table[index].set(Lists::UNREAD);
        cx.counters.receives_put_back += 1;
        Ok(())
    }

    /// Whether something of the connection waits that was put back since it was told last.
    pub(crate) fn has_put_back(&self, id: ConnectionId) -> bool {
        !self.reports.unread.is_empty()
            && self.live(id).is_some_and(|index| self.table[index].has(Lists::UNREAD))
    }

    /// Lets what was put back be told again, when there are blocks for it or there were none for
    /// long.
    pub(crate) fn tell_again(&mut self, cx: &mut Context<'_>) {
        if self.reports.unread.has_told() {
            return;
        }
        self.reports.unread.refuses = false;
        if self.reports.unread.is_empty() {
            return;
        }
        let waited = cx.now.since(self.reports.unread.since_ms);
        if self.reports.unread.is_worth_telling(cx.pools, waited > 0) {
            self.tell_all_again(cx.now.ms);
        } else if waited >= WITHOUT_BLOCKS_MS {
            self.tell_all_again(cx.now.ms);
            self.reports.unread.refuses = true;
        }
    }

    fn tell_all_again(&mut self, now_ms: u32) {
        let put_back = &mut self.reports.unread;
        (put_back.told, put_back.size_min, put_back.since_ms) = (put_back.waiting.len(), usize::MAX, now_ms);
        for (index, _) in &put_back.waiting {
            self.table[*index].clear(Lists::UNREAD);
        }
    }

    /// A connection is over: what it has put back is told before that, and with it all else.
    pub(in crate::tcp) fn tell_before_end(&mut self, index: BlockIndex) -> bool {
        let waits = !self.reports.unread.is_empty() && self.table[index].has(Lists::UNREAD);
        if waits {
            self.tell_all_again(self.reports.unread.since_ms);
        }
        waits
    }
}
