//! How a command ends: its exit code, and what is printed for problems of the configuration.

use super::settings::{Settings, Usage, load};
use gateway_config::{Config, Problems};
use gateway_control::output::complain;
use std::io::IsTerminal;
use std::process::ExitCode;

pub(super) fn count_text(count: usize) -> String {
    format!("{count} {}", if count == 1 { "problem" } else { "problems" })
}

/// Whether stderr is a terminal, and colors are wanted: NO_COLOR, when it is not empty, says no
/// (no-color.org).
pub(super) fn colors_wanted() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(super) fn wrong(what: impl std::fmt::Display) -> ExitCode {
    complain(what);
    ExitCode::from(2)
}

pub(super) fn problems_text(problems: &Problems) -> String {
    format!("{problems}\nthe configuration has {}", count_text(problems.0.len()))
}

pub(super) fn with_config(settings: &Settings, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match load(settings) {
        Ok(Ok(config)) => then(config),
        Ok(Err(problems)) => wrong(problems_text(&problems)),
        Err(Usage(what)) => wrong(what),
    }
}
