//! Reading a configuration, at a start and at a reload.

use super::build::{self, ReadFile};
use super::config::Config;
use super::opening;
use super::problem::Problems;
use super::source::Sources;
use super::values::Values;

impl Config {
    /// Reads and checks a configuration. Files that it names (keys) are read through `read`.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(sources: &Sources, read: &ReadFile<'_>) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let Some(values) = Values::read(sources, &mut problems) else { return Err(problems.sorted()) };
        let file = sources.file.as_ref().map(|(file, _)| file.clone());
        let config = build::config(values, file, read, &mut problems);
        problems.unless_any(config)
    }

    /// What would be in force after a reload: values of keys that a reload applies are `new`'s, all
    /// others stay. Checked as a whole, as at a start: values that are good in their own files may
    /// not be good together.
    ///
    /// # Errors
    /// What is wrong with it, and what it would open without that being written down.
    pub fn reloaded(&self, new: &Config, read: &ReadFile<'_>) -> Result<Config, Problems> {
        let mut values = self.source.values.clone();
        // Whether tokens are checked is fixed at the start, and the keys with it.
        let keeps_mode = self.auth.is_some() == new.auth.is_some();
        values.adopt_reloadable(&new.source.values, |path| keeps_mode || !path.starts_with("auth."));
        let mut problems = Problems::default();
        let merged = build::config(values, self.source.file.clone(), read, &mut problems);
        opening::check(self, &merged, new, &mut problems);
        problems.unless_any(merged)
    }
}
