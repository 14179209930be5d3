//! Check that the tables of a worker hold what each connection is guaranteed.

use super::config::Config;
use super::plan::Plan;
use super::units::grouped;
use gateway_core::router::rooms::{entries_for, hosted_max, records_for};
use gateway_core::session::text::{CELL_SIZE, TextStore};

impl Plan {
    /// Warns about each table that is configured smaller than that: other connections may then keep
    /// a connection from its first rooms.
    pub fn table_warnings(&self, config: &Config) -> Vec<String> {
        let (tables, limits) = (&self.tables, &config.limits);
        let (connections, workers) = (tables.connections_max, self.workers);
        let needed = entries_for(connections);
        // What logins need comes on top, and rooms have three quarters of the rest at most.
        let cells = 2 * connections + (needed * 4).div_ceil(3);
        let own = TextStore::own_cells(tables.text_cells_max, 2 * connections, needed);
        let keys = [
            (
                "rooms_per_worker_max",
                limits.rooms.is_some() && hosted_max(tables.rooms_max, workers) < needed,
                records_for(needed, workers),
            ),
            (
                "memberships_per_worker_max",
                limits.memberships.is_some() && tables.memberships_max < needed,
                needed,
            ),
            (
                "text_bytes_per_worker_max",
                limits.text_bytes.is_some() && own != (2 * connections, needed),
                cells * CELL_SIZE,
            ),
        ];
        let small = keys.into_iter().filter(|(_, is_small, _)| *is_small);
        small
            .map(|(key, _, least)| {
                format!(
                    "limits.{key} is too small for two rooms of each of {} connections of a worker: clients may be refused \
                     their first room (503) for what others hold; write {least} or more, or 0",
                    grouped(connections)
                )
            })
            .collect()
    }
}
