//! Levels and the backend's counts, written for the scrape a few times a second.

use super::Worker;
use crate::metrics::PoolGauges;
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
        metrics.rooms.set(self.shard.rooms.len() as u64);
        metrics.memberships.set(self.shard.rooms.memberships_len() as u64);
        let (shard, tables) = (&self.shard, &self.context.settings.tables);
        let levels = [
            (shard.rooms.len(), tables.rooms_max),
            (shard.rooms.memberships_len(), tables.memberships_max),
            (shard.directory.len(), tables.names_max),
            (shard.texts.used_cells(), tables.text_cells_max),
            (shard.sessions.accept_sets.used(), tables.accept_sets_max),
        ];
        for (table, (used, max)) in levels.into_iter().enumerate() {
            metrics.table_used[table].set(used as u64);
            metrics.table_max[table].set(max as u64);
        }
        metrics.fanouts_pending.set(self.shard.fanouts.len() as u64);
        metrics.mailbox_depth.set(self.mailbox.len() as u64);
        metrics.mailbox_waits.set(self.post.waits());
        // In a silence the backend makes its table anew: no work waits for that, and nobody need hear of it.
        metrics.allocations.set(self.allocations.saturating_sub(counters.renewals));
    }
}
