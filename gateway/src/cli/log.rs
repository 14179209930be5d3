//! Where log lines go: stderr, as text or JSON, from a level on that a reload changes.

use crate::config::Config;
use crate::control::LogHandle;
use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

/// Starts logging to stderr. The handle changes the level later.
pub(super) fn start_log(config: &Config) -> LogHandle {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(config.log.level));
    let registry = registry().with(filter);
    let started = if config.log.json {
        registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        let colours = std::io::stderr().is_terminal();
        registry
            .with(fmt::layer().with_ansi(colours).with_target(false).with_writer(std::io::stderr))
            .try_init()
    };
    if let Err(error) = started {
        eprintln!("logging was started before: {error}");
    }
    LogHandle::new(move |level| {
        if let Err(error) = handle.modify(|filter| *filter = LevelFilter::from_level(level)) {
            tracing::error!(%error, "the log level can't be changed");
        }
    })
}
