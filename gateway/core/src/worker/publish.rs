//! Levels and the backend's counts, written for the scrape a few times a second.

use super::Worker;
use crate::metrics::{PoolGauges, Store};
use netpoll::{Backend, Introspect, PoolLevel, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// How often levels are written.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

fn publish_pool(gauges: &PoolGauges, level: PoolLevel) {
    gauges.size.set(u64::from(level.size));
    gauges.count.set(u64::from(level.count));
    gauges.free.set(u64::from(level.free));
    gauges.exhausted.set(level.exhausted);
}

impl<B: Backend> Worker<B> {
    /// Counts the turn; now and then writes the levels, too.
    pub(super) fn publish(&mut self) {
        let handler = &mut self.handler;
        let now = handler.io.now();
        let nanos = now.since(handler.turn.now).as_nanos() as u64;
        let metrics = &handler.io.metrics;
        metrics.turns.add(1);
        metrics.turn_time.record(nanos, 1);
        if handler.turn.receives > 0 {
            metrics.receive_to_send.record(nanos, std::mem::take(&mut handler.turn.receives));
        }
        self.publish_accepting(now);
        if now >= self.publication.due {
            self.publication.due = now + PUBLISH_EVERY;
            self.publish_levels();
            self.publish_stores();
        }
    }

    /// Counts how long peers wait in the backlog because the table is full.
    fn publish_accepting(&mut self, now: Timestamp) {
        let io = &self.handler.io;
        let full_at = io.queues().is_full().then_some(now);
        let was_full_at = std::mem::replace(&mut self.publication.full_at, full_at);
        if let Some(at) = was_full_at {
            io.metrics.accept_paused_nanos.add(now.since(at).as_nanos() as u64);
        }
        if was_full_at.is_some() != full_at.is_some() {
            io.metrics.accept_pauses.add(u64::from(was_full_at.is_none()));
            io.metrics.accept_paused.set(u64::from(was_full_at.is_none()));
        }
    }

    fn publish_levels(&mut self) {
        let handler = &mut self.handler;
        let metrics = Arc::clone(&handler.io.metrics);
        let (backend, shard) = (handler.io.backend_mut(), &handler.shard);
        let counters = backend.counters();
        metrics.backend.publish(&counters);
        metrics.stack.publish(backend);
        let pools = backend.pools();
        publish_pool(&metrics.receive_pool, pools.receive_level());
        for (gauges, level) in metrics.block_pools.iter().zip(pools.block_levels()) {
            publish_pool(gauges, level);
        }
        metrics.sessions.set(shard.sessions.open_count() as u64);
        metrics.lingering.set(shard.lingering.count() as u64);
        metrics.rooms.set(shard.hosted_rooms.len() as u64);
        metrics.memberships.set(shard.hosted_rooms.memberships_len() as u64);
        metrics.fanouts_pending.set(shard.fanouts.len() as u64);
        metrics.mailbox_depth.set(self.inbox.len() as u64);
        metrics.mailbox_waits.set(handler.outbox.waits());
        // An idle backend makes its table anew: no work waits for that.
        metrics.allocations.set(self.allocations.saturating_sub(counters.renewals));
    }

    /// The levels of the stores that connections share.
    fn publish_stores(&mut self) {
        let handler = &mut self.handler;
        let (shard, tables) = (&handler.shard, &handler.context.settings.tables);
        let metrics = Arc::clone(&handler.io.metrics);
        let (backend, stores) = (handler.io.backend_mut(), &metrics.stores);
        stores.set(Store::Connections, backend.connection_count(), tables.connections_max);
        stores.set(Store::Rooms, shard.hosted_rooms.len(), shard.hosted_rooms.capacity());
        stores.set(Store::HomeRooms, shard.home_rooms.len(), shard.home_rooms.capacity());
        let (used, max) = shard.texts.shared_level();
        stores.set(Store::SharedText, used, max);
        let [(rooms, rooms_max), (shared, shared_max)] = shard.hosted_rooms.shared_levels();
        stores.set(Store::SharedRooms, rooms, rooms_max);
        stores.set(Store::SharedMemberships, shared, shared_max);
        stores.set(Store::Memberships, shard.hosted_rooms.memberships_len(), tables.memberships_max);
        stores.set(Store::Names, shard.directory.len(), tables.names_max);
        stores.set(Store::Text, shard.texts.used_cells(), tables.text_cells_max);
        stores.set(Store::AcceptSets, shard.sessions.accept_sets.used(), tables.accept_sets_max);
        stores.set(
            Store::Fanouts,
            handler.outbox.places().taken(handler.context.id),
            tables.fanouts().total(),
        );
        stores.set(Store::Outcomes, shard.receipts.len(), tables.outcomes_max());
        let (requests, requests_max) = handler.outbox.requests_level();
        stores.set(Store::Outbox, requests, requests_max);
        let (waiting, waiting_max) = handler.turn.backlog.level();
        stores.set(Store::Backlog, waiting, waiting_max);
        stores.set(Store::Mailbox, self.inbox.len(), tables.mailbox_capacity);
        let pieces = backend.send_store();
        stores.set(Store::SendPieces, pieces.used, pieces.max);
        let flight = backend.flight_store();
        stores.set(Store::Segments, flight.used, flight.max);
        let pools = backend.pools();
        let receive = pools.receive_level();
        stores.set(Store::ReceiveBuffers, (receive.count - receive.free) as usize, receive.count as usize);
        let used = |level: &PoolLevel| f64::from(level.count - level.free) / f64::from(level.count.max(1));
        if let Some(level) = pools.block_levels().max_by(|a, b| used(a).total_cmp(&used(b))) {
            stores.set(Store::Blocks, (level.count - level.free) as usize, level.count as usize);
        }
    }
}
