//! Lists of what is not as it should be yet. A list may only shrink.

use std::collections::{BTreeMap, BTreeSet};

/// Compares what was found with what is listed: more is a fault, and so is a list that was not
/// shortened when more than `slack` in a hundred have gone. What is not listed is 0.
pub(crate) fn hold(what: &str, slack: usize, listed: &[(&str, usize)], found: &BTreeMap<String, usize>) {
    let allowed: BTreeMap<&str, usize> = listed.iter().copied().collect();
    assert_eq!(allowed.len(), listed.len(), "{what}: listed twice");
    let names: BTreeSet<&str> = found.keys().map(String::as_str).chain(allowed.keys().copied()).collect();
    let mut problems = vec![];
    for name in names {
        let (is, may) = (found.get(name).copied().unwrap_or(0), allowed.get(name).copied().unwrap_or(0));
        println!("{what}: {name}: {is} of {may}");
        if is > may {
            problems.push(format!("{what}: {name}: {is}, {may} at most"));
        } else if is < may - may * slack / 100 {
            problems.push(format!(
                "{what}: {name}: {is} are left of {may}: write {is} into the list, which may only shrink"
            ));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
