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

/// Files and folders of the repository, by path.
fn paths() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if matches!(name.as_str(), "target" | "node_modules" | ".git" | ".cache") {
                continue;
            }
            paths.insert(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    paths
}

/// `a/{b,c}` is `a/b` and `a/c`.
fn alternatives(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (choices, after))) = braces else { return vec![path.to_owned()] };
    choices.split(',').flat_map(|one| alternatives(&format!("{before}{}{after}", one.trim()))).collect()
}

/// Code in lines of a page.
fn code_spans(page: &str) -> impl Iterator<Item = &str> {
    let fences = page.split("\n```").enumerate().filter(|(index, _)| index % 2 == 0);
    fences.flat_map(|(_, part)| part.split('`').skip(1).step_by(2))
}

/// Whether code in a line of a page is meant as a path: of a folder, or of a file by its ending.
fn is_path(span: &str) -> bool {
    let ends = [".rs", ".sh", ".py", ".toml", ".yml", ".md"];
    let is_plain = |c: char| c.is_alphanumeric() || "_./{},- ".contains(c);
    let is_named = span.contains('/') || ends.iter().any(|end| span.ends_with(end));
    is_named && span.chars().all(is_plain) && !span.starts_with('/')
}

/// The module at `path` of a folder: a file, a folder, or both.
fn names_module(paths: &BTreeSet<String>, folder: &str, path: &str) -> bool {
    let path = format!("{folder}{}", path.trim_end_matches('/'));
    paths.contains(&path) || paths.contains(&format!("{path}.rs"))
}

#[test]
fn paths_in_the_architecture_exist() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (present, _) = page.split_once("\n## Where later features go").unwrap();
    let paths = paths();
    // A path is given from the top, from a crate's sources, or from the folder of its line.
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let forms = [path.to_owned(), format!("{path}.rs")];
        forms.iter().any(|form| {
            paths.contains(form) || paths.iter().any(|known| known.ends_with(&format!("/{form}")))
        })
    };
    let spans: Vec<&str> = code_spans(present).filter(|span| is_path(span)).collect();
    assert!(spans.len() > 100, "only {} paths are seen", spans.len());
    let missing =
        spans.into_iter().flat_map(alternatives).filter(|path| !exists(path)).collect::<BTreeSet<_>>();
    complain(&missing.iter().map(|path| format!("ARCHITECTURE.md: {path}")).collect::<Vec<_>>());
}

#[test]
fn the_tables_of_modules_name_modules_of_their_crate() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    // The rows of "Crates": the crate, its folder, what it is.
    let crates: BTreeMap<&str, &str> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('`').count() >= 4)
        .map(|line| line.split('`').collect::<Vec<_>>())
        .filter(|row| row[2] == " | " && row[3].ends_with('/'))
        .map(|row| (row[1], row[3]))
        .collect();
    let (_, modules) = page.split_once("\n## Modules\n").unwrap();
    let (modules, _) = modules.split_once("\n## ").unwrap();
    let paths = paths();
    let (mut problems, mut count) = (vec![], 0);
    for section in modules.split("\n### ").skip(1) {
        let name = section.lines().next().unwrap();
        let source = format!("{}src/", crates[name]);
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let first = line.split(" | ").next().unwrap();
            for module in first.split('`').skip(1).step_by(2) {
                count += 1;
                if !names_module(&paths, &source, module) {
                    problems.push(format!("ARCHITECTURE.md: {name} has no module {module}"));
                }
            }
        }
    }
    assert!(count > 150, "only {count} modules are seen");
    complain(&problems);
}
