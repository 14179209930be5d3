//! Public items that nothing names. The compiler warns of unused items that are private, and of
//! `pub` that the crate's own modules hide; what a library shows it takes for used.
//!
//! An item counts as used when its name stands a second time in the code of the workspace, be it in
//! its own tests. Not seen, therefore: items that share a name with something used, items that only
//! their own tests use, fields, and what macros write.

use crate::ratchet;
use crate::source::{crate_of, rust_files, words};
use std::collections::BTreeMap;

const KINDS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "static", "union"];
/// What may stand between `pub` and the kind, or the name of a constant.
const BETWEEN: [&str; 4] = ["const", "async", "unsafe", "extern"];

/// What nothing names and is there still; may only shrink.
const LEFT: &[(&str, usize)] = &[("dpdk-backend inner_mut", 1), ("dpdk-backend on_the_way", 1)];

/// The names of a file's public items.
fn public(code: &str) -> Vec<(usize, &str)> {
    let words: Vec<(usize, &str)> = words(code).collect();
    let item = |index: usize| {
        let mut after = words[index + 1..].iter().copied();
        let kind = after.find(|(_, word)| !BETWEEN.contains(word))?;
        let name = if KINDS.contains(&kind.1) { after.next()? } else { kind };
        let is_constant = code[..name.0].trim_end().ends_with("const");
        (is_constant || KINDS.contains(&kind.1)).then_some(name)
    };
    let visible = (0..words.len()).filter(|index| {
        let (at, word) = words[*index];
        word == "pub" && !code[at + 3..].starts_with('(')
    });
    visible.filter_map(item).collect()
}

#[test]
fn public_items_are_named_somewhere() {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for file in rust_files() {
        words(&file.code).for_each(|(_, word)| *uses.entry(word).or_insert(0) += 1);
    }
    let (mut count, mut unnamed) = (0, BTreeMap::new());
    for file in rust_files().iter().filter(|file| file.name.contains("/src/")) {
        for (at, name) in public(&file.code) {
            count += 1;
            if uses[name] == 1 {
                println!("{}:{}: nothing names {name}", file.name, file.line(at));
                unnamed.insert(format!("{} {name}", crate_of(&file.name)), 1);
            }
        }
    }
    assert!(count > 1500, "only {count} public items are seen");
    ratchet::hold("named nowhere", 0, LEFT, &unnamed);
}

#[test]
fn public_items_are_found_behind_their_qualifiers() {
    let code = "pub const fn a() {} pub const B: u8 = 1; pub(crate) fn c() {} pub struct D; pub unsafe extern fn e() {} pub use f::g; pub mod h;";
    assert_eq!(public(code).iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["a", "B", "D", "e"]);
}
