//! docs/memory.md against the code: each figure of its tables of user space is the size of what it
//! names.

use std::collections::BTreeMap;
use std::fs;

/// `(name, bytes)` of each row whose first column is a name in backticks, between the marks of
/// checked tables.
fn rows(text: &str) -> Vec<(String, String)> {
    let mut rows = vec![];
    let mut is_checked = false;
    for line in text.lines() {
        match line.trim() {
            "<!-- checked by gateway/tests/memory_doc.rs -->" => is_checked = true,
            "<!-- end -->" => is_checked = false,
            line if is_checked && line.starts_with("| `") => {
                let mut columns = line.trim_matches('|').split('|').map(str::trim);
                let (name, bytes) = (columns.next().unwrap_or(""), columns.next().unwrap_or(""));
                rows.push((name.trim_matches('`').to_owned(), bytes.to_owned()));
            }
            _ => {}
        }
    }
    rows
}

#[test]
fn every_figure_of_the_memory_page_is_the_size_of_what_it_names() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/memory.md");
    let text = fs::read_to_string(page).unwrap();
    let sizes = netpoll::SIZES.iter().chain(gateway_core::worker::SIZES).copied();
    let mut sizes: BTreeMap<&str, usize> = sizes.collect();
    let mut problems = vec![];
    for (name, bytes) in rows(&text) {
        match sizes.remove(name.as_str()) {
            Some(size) if bytes == size.to_string() => {}
            Some(size) => problems.push(format!("{name}: the page says {bytes}, the code {size}")),
            None => problems.push(format!("{name}: nothing in the code has this name, or it is there twice")),
        }
    }
    problems.extend(sizes.iter().map(|(name, size)| format!("{name} ({size}) is not on the page")));
    assert!(problems.is_empty(), "docs/memory.md:\n{}", problems.join("\n"));
}
