//! How many rooms a worker has records for.

/// Rooms that each connection can be in, whatever others hold.
pub const GUARANTEED_ROOMS: u8 = 2;

/// Records of a worker's two tables of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomSizes {
    /// Rooms with members on the worker at most: what homes have records for.
    pub hosted_max: usize,
    /// Records at the host: also for rooms without a member any more, which wait for their fan-outs
    /// or for their homes to hear of it.
    pub hosted_records: usize,
    /// Records at the home.
    pub home_records: usize,
}

impl RoomSizes {
    /// What a worker of `workers` has where `rooms_max` is configured.
    pub fn of(rooms_max: usize, workers: usize) -> RoomSizes {
        let hosted_max = hosted_max(rooms_max, workers);
        let hosted_records = hosted_max + hosted_max / 32;
        RoomSizes { hosted_max, hosted_records, home_records: home_records(hosted_records, workers) }
    }
}

/// Records that a home needs where each host has at most `hosted` of them, a room in each: a keyed
/// hash spreads the rooms of all hosts over the homes, which leaves `hosted` to each on average.
/// Eight standard deviations above that are never met.
fn home_records(hosted: usize, workers: usize) -> usize {
    let of_others = (hosted * workers.saturating_sub(1)).div_ceil(workers.max(1));
    (hosted + 8 * of_others.isqrt()).min(hosted * workers)
}

/// What `limits.rooms_per_worker_max` has to be so that each of `workers` may host `hosted` rooms:
/// those, rooms of other hosts with their home here, and rooms that have ended and wait for their
/// fan-outs.
///
/// All other hosts together have `(workers - 1) * hosted` rooms at most, which a keyed hash spreads
/// over the homes. Eight standard deviations above the mean are never met.
pub fn records_for(hosted: usize, workers: usize) -> usize {
    let of_others = hosted * workers.saturating_sub(1) / workers.max(1);
    hosted + of_others + 8 * of_others.isqrt() + hosted / 32
}

/// Most rooms with members on a worker where `rooms_max` is configured: the inverse of
/// [`records_for`].
pub fn hosted_max(rooms_max: usize, workers: usize) -> usize {
    let (mut most, mut too_many) = (rooms_max.min(1), rooms_max + 1);
    while most + 1 < too_many {
        let middle = most.midpoint(too_many);
        *(if records_for(middle, workers) <= rooms_max { &mut most } else { &mut too_many }) = middle;
    }
    most
}

/// Entries that a table must have so that its guaranteed part is enough for so many connections.
pub fn entries_for(connections_max: usize) -> usize {
    (connections_max * usize::from(GUARANTEED_ROOMS) * 5).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_holds_what_the_records_are_for() {
        for workers in [1, 2, 3, 16, 255] {
            for hosted in [1, 2, 7, 100, 1024, 50_000] {
                let records = records_for(hosted, workers);
                let max = hosted_max(records, workers);
                assert!(max >= hosted && records_for(max, workers) <= records, "{workers}: {hosted}, {max}");
                let sizes = RoomSizes::of(records, workers);
                assert!(sizes.hosted_max == max && sizes.home_records >= max, "{workers}: {sizes:?}");
            }
            assert_eq!(
                RoomSizes::of(0, workers),
                RoomSizes { hosted_max: 0, hosted_records: 0, home_records: 0 }
            );
        }
        let alone = RoomSizes::of(records_for(1024, 1), 1);
        assert_eq!(alone.home_records, alone.hosted_records, "a lone worker is the home of what it hosts");
    }
}
