//! Where checks go besides the terminal: files and lines for CI.

use crate::error::RunError;
use crate::report::checks::Check;
use crate::report::{annotations, json, junit};
use clap::{Args, ValueEnum};

/// A form of annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Annotations {
    None,
    /// GitHub's workflow commands.
    Github,
}

/// The flags of this module.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Outlets {
    /// Write goals and delivery checks as JUnit XML
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    junit: Option<String>,
    /// Annotate what failed [default: github where GITHUB_ACTIONS is true, else none]
    #[arg(long, value_enum, help_heading = "Report")]
    annotations: Option<Annotations>,
}

impl Outlets {
    /// Tests, before a run, whether its files can be written.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        self.junit.iter().try_for_each(|path| json::probe(path))
    }

    /// Publishes the checks of `suite`, which took so many seconds.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn publish(&self, suite: &str, seconds: f64, checks: &[Check]) -> Result<(), RunError> {
        let on_github = || std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true");
        let annotations = self.annotations.unwrap_or(match on_github() {
            true => Annotations::Github,
            false => Annotations::None,
        });
        if annotations == Annotations::Github {
            say!("{}", annotations::github(checks));
        }
        match &self.junit {
            Some(path) => json::write(path, &junit::render(suite, seconds, checks)),
            None => Ok(()),
        }
    }
}
