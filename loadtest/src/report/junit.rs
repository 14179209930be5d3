//! Checks as JUnit XML, which CI systems show: a failure is the server's, an error is a check that
//! could not be judged.

use super::checks::{Check, CheckOutcome};
use std::fmt::Write;

/// The document for a suite of this name that took so many seconds.
pub(crate) fn render(suite: &str, seconds: f64, checks: &[Check]) -> String {
    let count = |of: fn(&CheckOutcome) -> bool| checks.iter().filter(|check| of(&check.outcome)).count();
    let failures = count(|outcome| matches!(outcome, CheckOutcome::Failed(_)));
    let errors = count(|outcome| matches!(outcome, CheckOutcome::Unjudged(_)));
    let suite = escape(suite);
    let totals = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds:.3}\"",
        checks.len()
    );
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"loadtest\" {totals}>");
    let _ = writeln!(out, "  <testsuite name=\"{suite}\" {totals} skipped=\"0\">");
    for check in checks {
        let _ = write!(
            out,
            "    <testcase classname=\"{suite}.{}\" name=\"{}\" time=\"0\"",
            escape(check.class),
            escape(&check.name)
        );
        let _ = match &check.outcome {
            CheckOutcome::Passed => writeln!(out, "/>"),
            CheckOutcome::Failed(found) => {
                let found = escape(found);
                writeln!(out, ">\n      <failure message=\"{found}\">{found}</failure>\n    </testcase>")
            }
            CheckOutcome::Unjudged(why) => {
                let why = escape(why);
                writeln!(out, ">\n      <error message=\"{why}\">{why}</error>\n    </testcase>")
            }
        };
    }
    out + "  </testsuite>\n</testsuites>\n"
}

/// Text for an attribute or an element; characters that XML 1.0 forbids are replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_errors_are_counted_and_escaped() {
        let check = |name: &str, outcome| Check { class: "goals", name: name.to_owned(), outcome };
        let checks = [
            check("p50<1", CheckOutcome::Passed),
            check("p99", CheckOutcome::Failed("found \"7\" & <more>\u{1}".to_owned())),
            check("max", CheckOutcome::Unjudged("a\nb".to_owned())),
        ];
        let xml = render("echo", 1.5, &checks);
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"1\" time=\"1.500\""), "{xml}");
        assert!(xml.contains("name=\"p50&lt;1\" time=\"0\"/>"), "{xml}");
        assert!(xml.contains("found &quot;7&quot; &amp; &lt;more&gt;\u{fffd}"), "{xml}");
        assert!(xml.contains("<error message=\"a&#10;b\">"), "{xml}");
    }
}
