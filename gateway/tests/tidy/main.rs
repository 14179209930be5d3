//! Style as a test: what reviewers would otherwise have to repeat.
//!
//! Some checks have a list of what is not as it should be yet, which may only shrink. What a check
//! found, beside its list: `cargo test -p gateway --test tidy -- --nocapture`.

mod circles;
mod comments;
mod pages;
mod places;
mod public;
mod ratchet;
mod sizes;
mod source;

/// Fails with all problems at once.
fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
