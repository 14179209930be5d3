//! Gauge of memory: a level with hysteresis, from readings.

use super::BYTES_PER_NEW_CONNECTION;

/// Usage and limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Used, without what the kernel would give back before it kills (inactive page cache).
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

impl Reading {
    /// Bytes until the limit.
    pub fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// How many new connections each of `workers` may take on before `percent` of the limit are
    /// used.
    pub fn room(self, percent: u8, workers: usize) -> u32 {
        let threshold = (u128::from(self.limit) * u128::from(percent) / 100) as u64;
        let connections = threshold.saturating_sub(self.used) / BYTES_PER_NEW_CONNECTION;
        u32::try_from(connections / workers.max(1) as u64).unwrap_or(u32::MAX)
    }

    /// Whether at least `percent` of the limit are used.
    pub fn is_at(self, percent: u64) -> bool {
        u128::from(self.used) * 100 >= u128::from(self.limit) * u128::from(percent)
    }
}

/// Measures that the state of memory requires. Each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    #[default]
    Normal,
    /// New connections are refused with a code, and closed.
    Refuse,
    /// Droppable messages to connections that have something waiting are dropped.
    Shed,
    /// The slowest consumers are closed.
    Close,
}

impl Level {
    /// All of them, for metrics.
    pub const ALL: [Level; 4] = [Level::Normal, Level::Refuse, Level::Shed, Level::Close];

    /// Name in logs and as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Level::Normal => "normal",
            Level::Refuse => "refuse",
            Level::Shed => "shed",
            Level::Close => "close",
        }
    }
}

/// Where the levels begin, in percent of the limit, and the share of time that tasks may stall for
/// memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Refuse new connections from here.
    pub refuse_percent: u8,
    /// Shed from here.
    pub shed_percent: u8,
    /// Close slow consumers from here.
    pub close_percent: u8,
    /// Refuse new connections when tasks stalled for memory for this share of the last ten seconds
    /// (PSI, `some avg10`); 0: never for that.
    pub stall_percent: u8,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { refuse_percent: 90, shed_percent: 95, close_percent: 98, stall_percent: 20 }
    }
}

/// A level is left only when usage is this far below where it begins, in percent of the limit.
const HYSTERESIS_PERCENT: u64 = 2;

/// Turns readings into levels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauge {
    level: Level,
}

impl Gauge {
    /// The level after another reading and the stall in percent.
    pub fn update(&mut self, thresholds: &Thresholds, reading: Option<Reading>, stall_percent: f32) -> Level {
        let beyond = |level: Level| {
            let begins = match level {
                Level::Normal => return true,
                Level::Refuse => thresholds.refuse_percent,
                Level::Shed => thresholds.shed_percent,
                Level::Close => thresholds.close_percent,
            };
            let stays = if level <= self.level { HYSTERESIS_PERCENT } else { 0 };
            reading.is_some_and(|reading| reading.is_at(u64::from(begins).saturating_sub(stays)))
        };
        let by_usage = Level::ALL.into_iter().rev().find(|level| beyond(*level)).unwrap_or_default();
        let limit = f32::from(thresholds.stall_percent);
        let stays = if self.level > Level::Normal { limit / 2.0 } else { limit };
        let stalled = limit > 0.0 && stall_percent >= stays;
        self.level = if stalled { by_usage.max(Level::Refuse) } else { by_usage };
        self.level
    }

    /// The present level.
    pub fn level(&self) -> Level {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(percents: &[u64]) -> Vec<Level> {
        let mut gauge = Gauge::default();
        let update = |percent: &u64| {
            let reading = Reading { used: percent * 10, limit: 1000 };
            gauge.update(&Thresholds::default(), Some(reading), 0.0)
        };
        percents.iter().map(update).collect()
    }

    #[test]
    fn levels_rise_at_once_and_fall_with_hysteresis() {
        use Level::*;
        assert_eq!(levels(&[0, 89, 90, 89, 88, 87]), [Normal, Normal, Refuse, Refuse, Refuse, Normal]);
        assert_eq!(levels(&[99, 96, 95, 94, 92]), [Close, Close, Shed, Shed, Refuse]);
        assert_eq!(levels(&[150, 10]), [Close, Normal]);
    }

    #[test]
    fn stalls_refuse_and_no_limit_is_no_reason() {
        let mut gauge = Gauge::default();
        let thresholds = Thresholds::default();
        assert_eq!(gauge.update(&thresholds, None, 19.0), Level::Normal);
        assert_eq!(gauge.update(&thresholds, None, 20.0), Level::Refuse);
        assert_eq!(gauge.update(&thresholds, None, 11.0), Level::Refuse, "it is not over yet");
        assert_eq!(gauge.update(&thresholds, None, 9.0), Level::Normal);
        let never = Thresholds { stall_percent: 0, ..thresholds };
        assert_eq!(gauge.update(&never, None, 100.0), Level::Normal);
        assert_eq!(gauge.update(&never, Some(Reading { used: 5, limit: 0 }), 0.0), Level::Close);
    }
    #[test]
    fn the_room_is_each_workers_share_of_what_the_threshold_leaves() {
        let reading = Reading { used: 50 << 20, limit: 100 << 20 };
        assert_eq!(reading.room(90, 1), (40 << 20) / BYTES_PER_NEW_CONNECTION as u32);
        assert_eq!(reading.room(90, 4), (10 << 20) / BYTES_PER_NEW_CONNECTION as u32);
        assert_eq!(reading.room(50, 4), 0);
        assert_eq!(reading.room(10, 4), 0);
        assert_eq!(Reading { used: 0, limit: u64::MAX }.room(100, 1), u32::MAX);
    }
}
