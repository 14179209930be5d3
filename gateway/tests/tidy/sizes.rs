//! What fits a screen, and a head: files, functions, structures.

use crate::complain;
use crate::ratchet;
use crate::source::{Source, closing, crate_of, item_end, rust_files, word_at, words};
use std::collections::BTreeMap;

const LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const FIELDS_MAX: usize = 12;

/// Structures with more fields, by crate and name, with their number.
const MORE_FIELDS: &[(&str, usize)] = &[
    ("dpdk-backend ControlBlock", 25),
    ("gateway Client", 38),
    ("gateway Plan", 22),
    ("gateway World", 26),
    ("gateway/config Config", 13),
    ("gateway/config DpdkConfig", 17),
    ("gateway/control Control", 25),
    ("gateway/core Session", 22),
    ("gateway/core WorkerSettings", 15),
    ("loadtest Flow", 18),
    ("loadtest FlowReport", 13),
    ("loadtest Report", 30),
    ("loadtest Run", 13),
    ("loadtest RunPlan", 14),
    ("loadtest Sample", 13),
    ("loadtest Server", 15),
    ("loadtest Settings", 62),
    ("loadtest StageReport", 17),
    ("loadtest Worker", 18),
    ("loadtest/hostile Counts", 14),
    ("loadtest/hostile Options", 13),
    ("loadtest/hostile Order", 14),
    ("loadtest/hostile Row", 15),
    ("loadtest/hostile Shared", 15),
    ("loadtest/hostile SuitePlan", 17),
    ("netpoll BackendCounters", 18),
    ("netpoll FaultConfig", 18),
];

#[test]
fn files_fit_their_limit() {
    let long = rust_files().iter().filter_map(|file| {
        let (name, lines) = (&file.name, file.text.lines().count());
        (lines > LINES_MAX).then(|| format!("{name}: {lines} lines, {LINES_MAX} at most: split it by noun"))
    });
    complain(&long.collect::<Vec<_>>());
}

/// Every function with a body, whatever is in front of `fn`: where it begins and ends.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let code = &source.code;
    let found = words(code).filter(|(_, word)| *word == "fn").filter_map(|(at, _)| {
        // `fn(` is a type; a declaration has no body.
        let named =
            code[at + 2..].trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$');
        let (end, body) = item_end(code, at)?;
        (named && body.is_some()).then_some((at, end))
    });
    found.collect()
}

#[test]
fn functions_fit_a_screen() {
    let mut problems = vec![];
    let mut count = 0;
    for file in rust_files() {
        for (start, end) in functions(file) {
            count += 1;
            let (line, length) = (file.line(start), file.text[start..end].matches('\n').count() + 1);
            if length > FUNCTION_LINES_MAX {
                problems.push(format!("{}:{line}: {length} lines, {FUNCTION_LINES_MAX} at most", file.name));
            }
        }
    }
    assert!(count > 5000, "only {count} functions are seen");
    complain(&problems);
}

/// The structures of a file and how many fields each has.
fn structures(source: &Source) -> Vec<(String, usize)> {
    let code = &source.code;
    let found = words(code).filter(|(_, word)| *word == "struct").filter_map(|(at, _)| {
        let start = at + "struct".len();
        let start = start + (code[start..].len() - code[start..].trim_start().len());
        let name = word_at(code, start);
        let open = body_of_structure(code, start + name.len())?;
        (!name.is_empty()).then(|| (name.to_owned(), fields(&code[open + 1..closing(code, open).unwrap()])))
    });
    found.collect()
}

/// Where the fields begin; `None`: there are none.
fn body_of_structure(code: &str, start: usize) -> Option<usize> {
    let (mut angles, mut at) = (0_usize, start);
    let mut bounds = false;
    while at < code.len() {
        match code.as_bytes()[at] {
            b'<' => angles += 1,
            b'>' if code.as_bytes()[at - 1] != b'-' => angles -= 1,
            b'{' => return Some(at),
            b'(' if angles == 0 && !bounds => return Some(at),
            b'(' | b'[' => at = closing(code, at)?,
            b';' => return None,
            b'w' if angles == 0 && word_at(code, at) == "where" => bounds = true,
            _ => {}
        }
        at += 1;
    }
    None
}

/// How many parts commas make of the outermost level, the empty one behind the last comma not
/// counted.
fn fields(body: &str) -> usize {
    let (mut depth, mut count, mut filled, mut at) = (0_usize, 0, false, 0);
    while at < body.len() {
        let byte = body.as_bytes()[at];
        match byte {
            b'(' | b'[' | b'{' => at = closing(body, at).unwrap(),
            b'<' => depth += 1,
            b'>' if body.as_bytes()[at.saturating_sub(1)] != b'-' => depth -= 1,
            b',' if depth == 0 => {
                count += usize::from(filled);
                filled = false;
            }
            _ => {}
        }
        filled |= byte != b',' && !byte.is_ascii_whitespace() && byte != b'#' && byte != b'[';
        at += 1;
    }
    count + usize::from(filled)
}

// Not seen: fields that a macro writes.
#[test]
fn a_structure_has_few_fields() {
    let mut found = BTreeMap::new();
    let mut count = 0;
    for file in rust_files() {
        for (name, fields) in structures(file) {
            count += 1;
            if fields > FIELDS_MAX {
                let before = found.insert(format!("{} {name}", crate_of(&file.name)), fields);
                assert_eq!(before, None, "{}: two of this name have too many fields", file.name);
            }
        }
    }
    assert!(count > 700, "only {count} structures are seen");
    ratchet::hold("fields", 0, MORE_FIELDS, &found);
}

#[test]
fn functions_and_fields_are_counted_as_a_reader_does() {
    let text = "pub(crate) const unsafe fn a() {\n}\ntrait T { fn b(&self); }\nasync fn c(f: fn(u8) -> [u8; 2]) -> u8\nwhere\n{ 1\n}\n";
    let file = Source::new("a.rs".into(), text.into());
    let lines: Vec<usize> =
        functions(&file).iter().map(|(start, end)| text[*start..*end].matches('\n').count() + 1).collect();
    assert_eq!(lines, [2, 4]);
    let text = "struct A;\nstruct B<F: Fn(u8) -> u8>(Vec<(u8, u8)>, F,);\n#[derive(Debug)]\npub struct C<T> where T: Fn(u8, u8) {\n\
                #[allow(a, b)]\n pub a: fn(u8, u8) -> u8, b: Map<u8, T>, // c, d\n e: [u8; 3] }\nstruct D {}\n";
    let found = structures(&Source::new("a.rs".into(), text.into()));
    let expected = [("B", 2), ("C", 3), ("D", 0)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(found, expected);
}
