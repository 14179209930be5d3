//! How comments are written: the words, and how wide they are.

use crate::ratchet;
use crate::source::{blanked, crate_of, rust_files};
use std::collections::BTreeMap;

/// Columns that a line with a comment has at most.
const WIDTH_MAX: usize = 100;

/// Words that comments do without: a comment's subjects are things (connection, caller, kernel,
/// worker), and what has a name in the field is called by it. Two words are looked for with one
/// blank between them.
const BANNED: &[&str] = &[
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "whoever",
    "who",
    "whom",
    "whose",
    "he",
    "him",
    "his",
    "himself",
    "told",
    "goes home",
    "go home",
    "gone home",
    "gang",
    "gangs",
    "seat",
    "seats",
    "bell",
    "bells",
    "doze",
    "dozes",
    "parting",
    "scarcity",
];

/// How many of these words the comments of a crate have.
const WORDS: &[(&str, usize)] = &[
    ("gateway", 90),
    ("gateway/core", 14),
    ("loadtest", 13),
    ("loadtest/bench", 3),
    ("loadtest/hostile", 5),
    ("netpoll", 19),
    ("netpoll/contract", 7),
];

/// How many lines of a crate have a comment that ends behind the column.
const WIDE: &[(&str, usize)] = &[
    ("gateway", 21),
    ("gateway/auth", 1),
    ("gateway/config", 1),
    ("gateway/control", 4),
    ("gateway/core", 14),
    ("gateway/proto", 5),
];

/// Text without what stands between backticks: names of the code.
fn prose(comments: &str) -> String {
    let mut inside = false;
    let mut marks = vec![false; comments.len()];
    for (at, byte) in comments.bytes().enumerate() {
        match byte {
            b'`' => inside = !inside,
            b'\n' => inside = false,
            _ => marks[at] = inside,
        }
    }
    blanked(comments, |at| !marks[at] && comments.as_bytes()[at].is_ascii()).to_lowercase()
}

/// How often a word stands in a text, as a whole word.
fn count(text: &str, word: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: usize| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part);
    text.match_indices(word).filter(|(at, _)| whole(*at)).count()
}

#[test]
fn comments_do_without_some_words() {
    let (mut by_crate, mut by_word) = (BTreeMap::new(), BTreeMap::new());
    for file in rust_files().iter().filter(|file| !file.name.starts_with("gateway/tests/tidy/")) {
        let prose = prose(&file.comments);
        for word in BANNED {
            let found = count(&prose, word);
            *by_crate.entry(crate_of(&file.name)).or_insert(0) += found;
            *by_word.entry(*word).or_insert(0) += found;
        }
    }
    println!("{by_word:?}");
    ratchet::hold("words in comments", 20, WORDS, &by_crate);
}

#[test]
fn comments_fit_their_width() {
    let mut wide = BTreeMap::new();
    for file in rust_files() {
        let lines = file.comments.lines().filter(|line| line.trim_end().chars().count() > WIDTH_MAX);
        *wide.entry(crate_of(&file.name)).or_insert(0) += lines.count();
    }
    ratchet::hold("wide comments", 20, WIDE, &wide);
}

#[test]
fn words_are_whole_and_outside_of_names() {
    let text = prose("/// Nobody's `gang` told a stranger; bellows, bell-like: Nobody\n// `a\n// seat` `\n");
    let found: Vec<usize> = ["nobody", "gang", "told", "bell", "seat"].map(|word| count(&text, word)).into();
    assert_eq!(found, [2, 0, 1, 1, 1]);
}
