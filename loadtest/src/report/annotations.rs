//! Checks that did not pass as workflow commands, which GitHub shows beside the run.

use super::checks::{Check, CheckOutcome};

/// One line for each check that failed, or could not be judged.
pub(crate) fn github(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let (level, found) = match &check.outcome {
            CheckOutcome::Passed => return None,
            CheckOutcome::Failed(found) => ("error", found),
            CheckOutcome::Unjudged(why) => ("warning", why),
        };
        let title = property(&format!("loadtest {}: {}", check.class, check.name));
        Some(format!("::{level} title={title}::{}\n", data(found)))
    };
    checks.iter().filter_map(line).collect()
}

/// Text behind a command, escaped as GitHub's runner reads it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a command, in which also the separators are escaped.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_silent_and_the_rest_is_escaped() {
        let check = |outcome| Check { class: "goals", name: "p99=5ms, all".to_owned(), outcome };
        let checks = [
            check(CheckOutcome::Passed),
            check(CheckOutcome::Failed("found 7 ms: 100 %\nof all".to_owned())),
            check(CheckOutcome::Unjudged("no samples".to_owned())),
        ];
        let lines = github(&checks);
        let wanted = "::error title=loadtest goals%3A p99=5ms%2C all::found 7 ms: 100 %25%0Aof all\n\
                      ::warning title=loadtest goals%3A p99=5ms%2C all::no samples\n";
        assert_eq!(lines, wanted);
    }
}
