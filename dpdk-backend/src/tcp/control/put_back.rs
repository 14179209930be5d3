//! Payloads that their owner gave back: it had no block for what it makes of them.
//!
//! Where a kernel copies what it sends, the owner's blocks stay away until they are acknowledged. So they can run out among
//! healthy connections, and come home by themselves: acknowledgements are taken in meanwhile, and what was given back is told
//! again when there are blocks. It holds receive buffers, which make the windows: peers that send on are slowed down.
//!
//! ```text
//!   told: Received ─► no block ─► put back, behind earlier ones ─ blocks came home ─► told again, before anything newer
//!                                                                └ none for long ────► told again, and not taken back
//! ```

use crate::tcp::engine::{Context, Tcp};
use crate::tcp::tables::control_block::flag;
use netpoll::{Buffer, BufferPools, ConnectionId, release_queue};
use std::collections::VecDeque;

/// As long as no block comes home, payloads wait at most: then their owner has to decide who goes.
const WITHOUT_BLOCKS_MS: u32 = 1000;
/// Blocks that have to be there to tell everything again at once. When fewer are, once a millisecond: who finds none of them
/// puts back once more, which costs a little each time.
const WORTH_TELLING: usize = 32;

/// See the text of this file. All that wait are told at once, or none: so the order of each connection's stays what it was.
#[derive(Debug)]
pub(in crate::tcp) struct PutBack {
    waiting: VecDeque<(u32, Buffer)>,
    /// How many of them, from the front on, are to be told again.
    told: usize,
    /// The least block that any of the others needs.
    size_min: usize,
    /// When they were last told, or the first of them came.
    since_ms: u32,
    /// Nothing is taken back now.
    refuses: bool,
}

impl PutBack {
    pub(in crate::tcp) const BYTES_PER_PAYLOAD: usize = size_of::<(u32, Buffer)>();

    /// For `capacity` payloads at most.
    pub(in crate::tcp) fn new(capacity: usize) -> PutBack {
        PutBack {
            waiting: VecDeque::with_capacity(capacity),
            told: 0,
            size_min: usize::MAX,
            since_ms: 0,
            refuses: false,
        }
    }

    pub(in crate::tcp) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives the memory of what is not used back.
    pub(in crate::tcp) fn trim(&mut self) {
        release_queue(&mut self.waiting);
    }

    /// Whether something is to be told again.
    pub(in crate::tcp) fn has_told(&self) -> bool {
        self.told > 0
    }

    /// The next payload to be told again.
    pub(in crate::tcp) fn next(&mut self) -> Option<(u32, Buffer)> {
        self.told = self.told.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// Forgets a connection's; returns whether there were any.
    pub(in crate::tcp) fn purge(&mut self, index: u32) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let before = self.waiting.len();
        let told = self.waiting.iter().take(self.told).filter(|(other, _)| *other == index).count();
        self.waiting.retain(|(other, _)| *other != index);
        self.told -= told;
        self.waiting.len() < before
    }

    fn is_worth_telling(&self, pools: &mut BufferPools, is_first_in_ms: bool) -> bool {
        let enough = self.waiting.len().min(WORTH_TELLING) as u32;
        let free = pools.free_for(self.size_min, enough);
        free >= enough || (free > 0 && is_first_in_ms)
    }
}

impl Tcp {
    /// Takes a payload back that was told, until a block of `size` bytes is free; with all that the owner was told of the
    /// connection behind it.
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
        let index = self.live(id).filter(|index| !self.table[*index].has(flag::FIN_QUEUED));
        let put_back = &mut self.put_back;
        let Some(index) = index else { return Err(payload) };
        if put_back.refuses || put_back.waiting.len() == put_back.waiting.capacity() {
            return Err(payload);
        }
        if put_back.is_empty() {
            put_back.since_ms = cx.now.ms;
        }
        put_back.size_min = put_back.size_min.min(size);
        put_back.waiting.push_back((index, payload));
        self.table[index].set(flag::PUT_BACK);
        cx.counters.receives_put_back += 1;
        Ok(())
    }

    /// Whether something of the connection waits that was put back since it was told last.
    pub(crate) fn has_put_back(&self, id: ConnectionId) -> bool {
        !self.put_back.is_empty() && self.live(id).is_some_and(|index| self.table[index].has(flag::PUT_BACK))
    }

    /// Lets what was put back be told again, when there are blocks for it or there were none for long.
    pub(crate) fn tell_again(&mut self, cx: &mut Context<'_>) {
        if self.put_back.has_told() {
            return;
        }
        self.put_back.refuses = false;
        if self.put_back.is_empty() {
            return;
        }
        let waited = cx.now.since(self.put_back.since_ms);
        if self.put_back.is_worth_telling(cx.pools, waited > 0) {
            self.tell_all_again(cx.now.ms);
        } else if waited >= WITHOUT_BLOCKS_MS {
            self.tell_all_again(cx.now.ms);
            self.put_back.refuses = true;
        }
    }

    fn tell_all_again(&mut self, now_ms: u32) {
        let put_back = &mut self.put_back;
        (put_back.told, put_back.size_min, put_back.since_ms) = (put_back.waiting.len(), usize::MAX, now_ms);
        for (index, _) in &put_back.waiting {
            self.table[*index].clear(flag::PUT_BACK);
        }
    }

    /// A connection is over: what it has put back is told before that, and with it all else.
    pub(in crate::tcp) fn tell_before_end(&mut self, index: u32) -> bool {
        let waits = !self.put_back.is_empty() && self.table[index].has(flag::PUT_BACK);
        if waits {
            self.tell_all_again(self.put_back.since_ms);
        }
        waits
    }
}
