//! Circles of modules: files of a crate that need each other, directly or through others.
//!
//! An arrow goes from a file to the file that defines what it names, by `use` or by a path in its
//! code. A name that another module hands on (`pub use`) is followed to where it is defined, and
//! handing on makes no arrow, so that a folder's `mod.rs` may show what its files have. Tests make
//! none either. Not seen: methods, and what macros write.

use crate::ratchet;
use crate::source::{Source, blanked, closing, is_word, item_end, rust_files, word_at, words};
use std::collections::{BTreeMap, BTreeSet};

/// How many files of a crate are in circles.
const IN_CIRCLES: &[(&str, usize)] = &[("loadtest", 9), ("loadtest/hostile", 23)];
/// How deep one name may be handed on.
const HANDED_ON_MAX: usize = 16;

/// A path from the crate's root.
type Path = Vec<String>;

/// A name that `use` brings into a module; `None`: all names of the target.
struct Import {
    name: Option<String>,
    target: Path,
    handed_on: bool,
}

struct Module {
    code: String,
    imports: Vec<Import>,
    defined: BTreeSet<String>,
}

/// The modules of a crate that are no tests, by path.
type Crate = BTreeMap<Path, Module>;

/// The module that a file below `src` is; `None`: the root of a binary, which nothing needs.
fn module_path(file: &str) -> Option<Path> {
    let steps = file.strip_suffix(".rs")?.split('/').map(str::to_owned);
    let mut path: Path = steps.collect();
    match path.last()?.as_str() {
        "main" | "lib" if path.len() == 1 => path.clear(),
        "mod" => drop(path.pop()),
        _ if path[0] == "bin" => return None,
        _ => {}
    }
    Some(path)
}

/// A crate's modules from its files below `src`. With a library and a binary, the library is the
/// crate.
fn modules<'s>(files: impl Iterator<Item = (&'s str, &'s Source)>) -> Crate {
    let mut sources: BTreeMap<Path, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut files: Vec<_> = files.collect();
    files.sort_by_key(|(name, _)| *name != "main.rs");
    for (name, source) in files {
        if let Some(path) = module_path(name) {
            sources.insert(path, without_tests(&source.code));
        }
    }
    let tests: Vec<Path> = sources
        .iter()
        .flat_map(|(path, (_, tests))| {
            tests.iter().map(|test| [path.as_slice(), std::slice::from_ref(test)].concat())
        })
        .collect();
    let is_test = |path: &Path| {
        tests.iter().any(|test| path.starts_with(test))
            || path.last().is_some_and(|last| last.ends_with("_tests"))
    };
    sources.retain(|path, _| !is_test(path));
    let paths: BTreeSet<Path> = sources.keys().cloned().collect();
    sources.into_iter().map(|(path, (code, _))| (path.clone(), module(&path, code, &paths))).collect()
}

/// The code without what only tests have, and the names of the files that only tests have.
fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut left_out, mut files) = (vec![], BTreeSet::new());
    for (at, _) in code.match_indices(MARK) {
        let mut start = at + MARK.len();
        start += code[start..].len() - code[start..].trim_start().len();
        while code[start..].starts_with("#[") {
            start = closing(code, start + 1).unwrap() + 1;
            start += code[start..].len() - code[start..].trim_start().len();
        }
        let Some((end, body)) = item_end(code, start) else { continue };
        let mut item = words(&code[start..end]).map(|(_, word)| word).skip_while(|word| *word != "mod");
        if let (None, Some("mod"), Some(name)) = (body, item.next(), item.next()) {
            files.insert(name.to_owned());
        }
        left_out.push(at..=end);
    }
    (blanked(code, |at| !left_out.iter().any(|range| range.contains(&at))), files)
}

fn module(path: &Path, code: String, paths: &BTreeSet<Path>) -> Module {
    let inner = inner_modules(&code);
    let (mut imports, mut used) = (vec![], vec![]);
    for (at, _) in words(&code).filter(|(_, word)| *word == "use") {
        let tree = code[at + 3..].trim_start();
        // `use<'a>` in a type captures lifetimes; a field's or a method's name is none either.
        let end = at + code[at..].find(';').unwrap_or(0);
        if tree.starts_with('<') || end == at || !is_item(&code, at) {
            continue;
        }
        let before = code[..at].trim_end();
        let handed_on = before.ends_with("pub") || before.ends_with(')') && ends_with_visibility(before);
        for (steps, name) in leaves(&code[at + 3..end]) {
            if let Some(target) = from_root(path, depth_at(&inner, at), &steps, paths) {
                imports.push(Import { name, target, handed_on });
            }
        }
        used.push(at..=end);
    }
    for (at, _) in code.match_indices("pub(in") {
        used.push(at..=closing(&code, at + 3).unwrap());
    }
    let code = blanked(&code, |at| !used.iter().any(|range| range.contains(&at)));
    let kinds = ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules", "mod"];
    let mut defined = BTreeSet::new();
    let mut kind = "";
    for (_, word) in words(&code) {
        if kinds.contains(&kind) && !kinds.contains(&word) {
            defined.insert(word.to_owned());
        }
        kind = word;
    }
    Module { code, imports, defined }
}

/// Whether the word at `at` begins an item: what stands before it ends another one, or is a
/// visibility or an attribute.
fn is_item(code: &str, at: usize) -> bool {
    let before = code[..at].trim_end();
    before.is_empty()
        || before.ends_with([';', '{', '}', ']'])
        || before.ends_with("pub")
        || ends_with_visibility(before)
}

fn ends_with_visibility(before: &str) -> bool {
    before.ends_with(')') && before.rfind('(').is_some_and(|open| before[..open].ends_with("pub"))
}

/// Modules with a body in this file.
fn inner_modules(code: &str) -> Vec<(usize, usize)> {
    let found = words(code).filter(|(_, word)| *word == "mod").filter_map(|(at, _)| {
        let (end, body) = item_end(code, at)?;
        Some((body?, end))
    });
    found.collect()
}

fn depth_at(inner: &[(usize, usize)], at: usize) -> usize {
    inner.iter().filter(|(start, end)| (*start..*end).contains(&at)).count()
}

/// The paths that a tree of `use` names, each with the name that it brings in; `None`: all.
fn leaves(tree: &str) -> Vec<(Path, Option<String>)> {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let prefix: Path = words(&tree[..open]).map(|(_, word)| word.to_owned()).collect();
        let inside = &tree[open + 1..closing(tree, open).unwrap()];
        return outer_commas(inside)
            .into_iter()
            .flat_map(leaves)
            .map(|(steps, name)| ([prefix.as_slice(), &steps].concat(), name))
            .map(|(steps, name)| match steps.last().map(String::as_str) {
                // `use a::{self}` brings `a` in.
                Some("self") if steps.len() > 1 => {
                    let name =
                        name.filter(|name| name != "self").or_else(|| steps.get(steps.len() - 2).cloned());
                    (steps[..steps.len() - 1].to_vec(), name)
                }
                _ => (steps, name),
            })
            .collect();
    }
    if tree.is_empty() {
        return vec![];
    }
    let (path, alias) =
        tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let steps: Path = words(path).map(|(_, word)| word.to_owned()).collect();
    if path.trim_end().ends_with('*') {
        return vec![(steps, None)];
    }
    let name = alias.map(str::to_owned).or_else(|| steps.last().cloned());
    vec![(steps, name)]
}

fn outer_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (vec![], 0_usize, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A path as it is written in the module at `at`, `depth` modules within its file, from the crate's
/// root. `None`: another crate's.
fn from_root(at: &Path, depth: usize, steps: &[String], paths: &BTreeSet<Path>) -> Option<Path> {
    let supers = steps.iter().take_while(|step| *step == "super").count();
    let base = || at[..at.len().saturating_sub(supers.saturating_sub(depth))].to_vec();
    match steps.first()?.as_str() {
        "crate" => Some(steps[1..].to_vec()),
        "self" => Some([at.as_slice(), &steps[1..]].concat()),
        "super" => Some([base(), steps[supers..].to_vec()].concat()),
        child if paths.contains(&[at.as_slice(), &[child.to_owned()]].concat()) => {
            Some([at.as_slice(), steps].concat())
        }
        _ => None,
    }
}

/// The module that defines what a path names.
fn definer(modules: &Crate, path: &[String], handed_on: usize) -> Option<Path> {
    let known = (0..=path.len()).rev().find(|size| modules.contains_key(&path[..*size]))?;
    let (at, rest) = path.split_at(known);
    let module = &modules[at];
    let Some(name) = rest.first() else { return Some(at.to_vec()) };
    if handed_on == HANDED_ON_MAX || module.defined.contains(name) {
        return Some(at.to_vec());
    }
    let named = module.imports.iter().find(|import| import.name.as_ref() == Some(name));
    if let Some(import) = named {
        return definer(modules, &[import.target.as_slice(), &rest[1..]].concat(), handed_on + 1);
    }
    let all = module.imports.iter().filter(|import| import.name.is_none());
    let through = all.filter_map(|import| {
        let path = [import.target.as_slice(), rest].concat();
        definer(modules, &path, handed_on + 1).filter(|found| modules[found].defined.contains(name))
    });
    Some(through.into_iter().next().unwrap_or_else(|| at.to_vec()))
}

/// Paths in code, as they are written, with where they begin.
fn paths_in(code: &str) -> Vec<(usize, Path)> {
    let mut found: Vec<(usize, Path)> = vec![];
    let mut next = 0;
    for (at, _) in words(code) {
        let before = code[..at].trim_end();
        if at < next || before.ends_with('.') || before.ends_with("::") {
            continue;
        }
        let (mut steps, mut end) = (vec![], at);
        loop {
            let word = word_at(code, end);
            steps.push(word.to_owned());
            end += word.len();
            let more = code[end..].strip_prefix("::").is_some_and(|rest| rest.starts_with(is_word));
            if !more {
                break;
            }
            end += 2;
        }
        if steps.len() > 1 {
            found.push((at, steps));
        }
        next = end;
    }
    found
}

/// Which modules each module needs.
fn arrows(modules: &Crate) -> BTreeMap<Path, BTreeSet<Path>> {
    let paths: BTreeSet<Path> = modules.keys().cloned().collect();
    let mut arrows = BTreeMap::new();
    for (path, module) in modules {
        let inner = inner_modules(&module.code);
        let written = paths_in(&module.code);
        let in_code =
            written.iter().filter_map(|(at, steps)| from_root(path, depth_at(&inner, *at), steps, &paths));
        let imported =
            module.imports.iter().filter(|import| !import.handed_on).map(|import| import.target.clone());
        let needed = in_code.chain(imported).filter_map(|target| definer(modules, &target, 0));
        arrows.insert(path.clone(), needed.filter(|needed| needed != path).collect());
    }
    arrows
}

/// Sets of modules that reach each other.
fn circles(arrows: &BTreeMap<Path, BTreeSet<Path>>) -> Vec<Vec<Path>> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> = arrows
        .keys()
        .map(|start| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(module) = next.pop() {
                next.extend(arrows[module].iter().filter(|needed| seen.insert(*needed)));
            }
            (start, seen)
        })
        .collect();
    let mut found: Vec<Vec<Path>> = vec![];
    for module in arrows.keys() {
        if found.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        let with = reached[module].iter().filter(|other| reached[**other].contains(module));
        let circle: BTreeSet<Path> = with.map(|other| (*other).clone()).collect();
        if circle.len() > 1 {
            found.push(circle.into_iter().collect());
        }
    }
    found
}

fn named(path: &Path) -> String {
    if path.is_empty() { "crate".to_owned() } else { path.join("::") }
}

#[test]
fn modules_need_each_other_in_one_direction() {
    let folders: BTreeSet<&str> = rust_files()
        .iter()
        .filter_map(|file| file.name.strip_suffix("src/lib.rs").or(file.name.strip_suffix("src/main.rs")))
        .collect();
    assert!(folders.len() >= 8, "{folders:?}");
    let mut found = BTreeMap::new();
    for folder in folders {
        let below = format!("{folder}src/");
        let files = rust_files().iter().filter_map(|file| Some((file.name.strip_prefix(&below)?, file)));
        let arrows = arrows(&modules(files));
        let circles = circles(&arrows);
        for circle in &circles {
            println!(
                "{folder}: {} in a circle: {}",
                circle.len(),
                circle.iter().map(named).collect::<Vec<_>>().join(" ")
            );
            let inside = |path: &Path| {
                arrows[path].iter().filter(|needed| circle.contains(needed)).map(named).collect::<Vec<_>>()
            };
            circle.iter().for_each(|path| println!("    {} -> {}", named(path), inside(path).join(" ")));
        }
        found.insert(folder.trim_end_matches('/').to_owned(), circles.iter().map(Vec::len).sum());
    }
    ratchet::hold("files in circles", 20, IN_CIRCLES, &found);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<(&str, Source)> = files
            .iter()
            .map(|(name, text)| (*name, Source::new((*name).to_owned(), (*text).to_owned())))
            .collect();
        let modules = modules(sources.iter().map(|(name, source)| (*name, source)));
        let circles = circles(&arrows(&modules));
        circles.iter().map(|circle| circle.iter().map(named).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn code_makes_circles_in_every_way_of_naming() {
        let other = ("b.rs", "pub struct B; use crate::a::A;");
        for (way, first) in [
            ("use", "use crate::b::B; pub struct A;"),
            ("a tree", "use crate::{c::{C, D as E}, b::{self}}; pub struct A;"),
            ("super", "use super::b::B; pub struct A;"),
            ("an alias", "use super::b as other; pub struct A;"),
            ("all names", "use super::b::*; pub struct A;"),
            ("a path", "pub struct A; fn f(_: &crate::b::B) {}"),
            ("within a module", "pub struct A; mod inner { fn f(_: super::super::b::B) {} }"),
            ("a name that is handed on", "use crate::B; pub struct A;"),
        ] {
            let root = ("lib.rs", "pub mod a; pub mod b; pub mod c; pub use b::B;");
            assert_eq!(found(&[root, ("a.rs", first), other, ("c.rs", "")]), ["a b"], "{way}");
        }
    }

    #[test]
    fn documents_tests_and_handing_on_make_none() {
        let root = (
            "lib.rs",
            "//! [`a::A`]\nmod a; mod b; #[cfg(test)] mod checks; pub use a::A; pub(crate) use b::{B};",
        );
        let first = "//! [crate::b]\nuse crate::b::B; pub struct A; const C: &str = \"crate::a\";";
        let second = "/// [`crate::a::A`]\npub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }\n#[cfg(test)] use crate::a::A;\n\
                      pub(in crate::a) struct D; fn f() -> impl Sized + use<> {}";
        let tests = ("checks.rs", "use crate::a::A;");
        assert_eq!(found(&[root, ("a.rs", first), ("b.rs", second), tests]), [""; 0]);
    }

    #[test]
    fn a_folder_and_its_files_make_one_only_when_both_define() {
        let shows = ("lib.rs", "mod a;");
        let child = "use super::y::Y; pub struct X;";
        let other = ("a/y.rs", "pub struct Y;");
        assert_eq!(
            found(&[shows, ("a/mod.rs", "mod x; mod y; pub use x::X;"), ("a/x.rs", child), other]),
            [""; 0]
        );
        let parent = "mod x; mod y; use x::X; pub struct P(X);";
        assert_eq!(found(&[shows, ("a/mod.rs", parent), ("a/x.rs", child), other]), [""; 0]);
        assert_eq!(
            found(&[shows, ("a/mod.rs", parent), ("a/x.rs", "use super::P; pub struct X;"), other]),
            ["a a::x"]
        );
    }

    #[test]
    fn a_circle_may_be_long() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
            ("d.rs", "pub struct D;"),
        ];
        assert_eq!(found(&files), ["a b c"]);
    }
}
