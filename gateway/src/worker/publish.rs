//! Levels and the backend's counts, written for the scrape a few times a second.

use super::Worker;
use crate::metrics::{PoolGauges, Store};
use netpoll::{Backend, PoolLevel};

fn publish_pool(gauges: &PoolGauges, level: PoolLevel) {
    gauges.size.set(u64::from(level.size));
    gauges.count.set(u64::from(level.count));
    gauges.free.set(u64::from(level.free));
    gauges.exhausted.set(level.exhausted);
}

impl<B: Backend> Worker<B> {
    pub(super) fn publish_metrics(&mut self) {
        let metrics = &self.metrics;
        let counters = self.backend.counters();
        metrics.backend.publish(&counters);
        metrics.stack.publish(&mut self.backend);
        let pools = self.backend.pools();
        publish_pool(&metrics.receive_pool, pools.receive_level());
        for (gauges, level) in metrics.block_pools.iter().zip(pools.block_levels()) {
            publish_pool(gauges, level);
        }
        metrics.sessions.set(self.shard.sessions.open_count() as u64);
        metrics.lingering.set(self.shard.lingering.count() as u64);
        metrics.rooms.set(self.shard.rooms.len() as u64);
        metrics.memberships.set(self.shard.rooms.memberships_len() as u64);
        self.publish_stores();
        let metrics = &self.metrics;
        metrics.fanouts_pending.set(self.shard.fanouts.len() as u64);
        metrics.mailbox_depth.set(self.mailbox.len() as u64);
        metrics.mailbox_waits.set(self.post.waits());
        // In a silence the backend makes its table anew: no work waits for that, and nobody need hear of it.
        metrics.allocations.set(self.allocations.saturating_sub(counters.renewals));
    }

    /// The levels of the stores that connections share.
    fn publish_stores(&mut self) {
        let (shard, tables) = (&self.shard, &self.context.settings.tables);
        let stores = &self.metrics.stores;
        stores.set(Store::Connections, self.backend.connection_count(), tables.connections_max);
        stores.set(Store::Rooms, shard.rooms.len(), tables.rooms_max);
        let (used, max) = shard.texts.shared_level();
        stores.set(Store::SharedText, used, max);
        let [(rooms, rooms_max), (shared, shared_max)] = shard.rooms.shared_levels();
        stores.set(Store::SharedRooms, rooms, rooms_max);
        stores.set(Store::SharedMemberships, shared, shared_max);
        stores.set(Store::Memberships, shard.rooms.memberships_len(), tables.memberships_max);
        stores.set(Store::Names, shard.directory.len(), tables.names_max);
        stores.set(Store::Text, shard.texts.used_cells(), tables.text_cells_max);
        stores.set(Store::AcceptSets, shard.sessions.accept_sets.used(), tables.accept_sets_max);
        stores.set(Store::Fanouts, self.post.places().taken(self.context.id), tables.fanouts().total());
        stores.set(Store::Outcomes, shard.sums.len(), tables.sums_max());
        let (requests, requests_max) = self.post.requests_level();
        stores.set(Store::Outbox, requests, requests_max);
        stores.set(Store::Mailbox, self.mailbox.len(), tables.mailbox_capacity);
        let pieces = self.backend.send_store();
        stores.set(Store::SendPieces, pieces.used, pieces.max);
        let flight = self.backend.flight_store();
        stores.set(Store::Segments, flight.used, flight.max);
        let pools = self.backend.pools();
        let receive = pools.receive_level();
        stores.set(Store::ReceiveBuffers, (receive.count - receive.free) as usize, receive.count as usize);
        let used = |level: &PoolLevel| f64::from(level.count - level.free) / f64::from(level.count.max(1));
        if let Some(level) = pools.block_levels().max_by(|a, b| used(a).total_cmp(&used(b))) {
            stores.set(Store::Blocks, (level.count - level.free) as usize, level.count as usize);
        }
    }
}
