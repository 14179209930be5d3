//! The documents: the book has every page, links lead somewhere, and ARCHITECTURE.md names files
//! that exist.

use crate::complain;
use crate::source::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Pages at the top of the repository and below `docs`, by path; SUMMARY.md, the book's table of
/// contents, is none.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![root(), root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() && folder != root() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                pages.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    pages.remove("docs/SUMMARY.md").expect("the book has a table of contents");
    assert!(pages.len() > 40, "{}", pages.len());
    pages
}

/// A page's prose: without blocks of code and without code in a line.
fn prose(page: &str) -> String {
    let fences = page.split("\n```").enumerate().filter(|(index, _)| index % 2 == 0);
    let outside: String = fences.map(|(_, part)| part).collect::<Vec<_>>().join("\n");
    let spans = outside.split('`').enumerate().filter(|(index, _)| index % 2 == 0);
    spans.map(|(_, part)| part).collect::<Vec<_>>().join("`")
}

/// Where the links of a page lead, as they are written, those to other hosts left out.
fn links(page: &str) -> Vec<String> {
    let parts = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let targets = parts.map(|(target, _)| target.to_owned());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// A relative path from the folder of `page`, from the top of the repository.
fn resolved(page: &str, target: &str) -> String {
    let mut path = PathBuf::new();
    for step in Path::new(page).parent().unwrap().join(target).components() {
        match step {
            Component::ParentDir => drop(path.pop()),
            step => path.push(step),
        }
    }
    path.to_str().unwrap().to_owned()
}

/// The anchors of a page's headings; a heading that repeats another's has a number.
fn anchors(page: &str) -> BTreeSet<String> {
    let fences = page.split("\n```").enumerate().filter(|(index, _)| index % 2 == 0);
    let headings = fences.flat_map(|(_, part)| part.lines()).filter(|line| line.starts_with('#'));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let anchors = headings.map(|line| {
        let anchor = anchor(line.trim_start_matches('#').trim());
        let earlier = seen.entry(anchor.clone()).or_default();
        *earlier += 1;
        if *earlier == 1 { anchor } else { format!("{anchor}-{}", *earlier - 1) }
    });
    anchors.collect()
}

/// The anchor of a heading: lower case, a hyphen for each space, no other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn the_book_has_every_page_once() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut listed = BTreeSet::new();
    let mut problems = vec![];
    for target in links(&summary) {
        let page = resolved("docs/SUMMARY.md", &target);
        if !root().join(&page).is_file() {
            problems.push(format!("docs/SUMMARY.md lists {target}, which does not exist"));
        }
        if !listed.insert(page) {
            problems.push(format!("docs/SUMMARY.md lists {target} twice"));
        }
    }
    let unlisted = pages().into_keys().filter(|page| !listed.contains(page));
    problems.extend(unlisted.map(|page| format!("docs/SUMMARY.md does not list {page}")));
    // A page elsewhere that a page of the book links to is one of the book, too.
    for (page, text) in pages() {
        let targets = links(&prose(&text)).into_iter().map(|target| {
            let file = target.split('#').next().unwrap().to_owned();
            resolved(&page, &file)
        });
        let missing = targets.filter(|target| target.ends_with(".md") && !listed.contains(target));
        problems.extend(
            missing.map(|target| format!("{page} links to {target}, which docs/SUMMARY.md does not list")),
        );
    }
    complain(&problems);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|(page, text)| (page.as_str(), anchors(text))).collect();
    let (mut problems, mut count) = (vec![], 0);
    for (page, text) in &pages {
        for target in links(&prose(text)) {
            count += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { page.clone() } else { resolved(page, file) };
            if !root().join(&file).exists() {
                problems.push(format!("{page} links to {target}: no such file"));
            } else if !fragment.is_empty()
                && anchors.get(file.as_str()).is_some_and(|known| !known.contains(fragment))
            {
                problems.push(format!("{page} links to {target}: no such heading"));
            }
        }
    }
    assert!(count > 200, "only {count} links are seen");
    complain(&problems);
}
