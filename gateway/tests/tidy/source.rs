//! Rust sources as the checks read them: code and comments apart, and where braces end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A source file. `code` and `comments` have the length and the lines of `text`, so that a position
/// means the same in all.
pub(crate) struct Source {
    /// Its path from the top of the repository.
    pub(crate) name: String,
    pub(crate) text: String,
    /// Without comments and without what literals contain.
    pub(crate) code: String,
    /// Without all else.
    pub(crate) comments: String,
}

impl Source {
    pub(crate) fn new(name: String, text: String) -> Source {
        let (code, comments) = split(&text);
        Source { name, text, code, comments }
    }

    /// The line of a position, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All Rust files of the repository, by name.
pub(crate) fn rust_files() -> &'static [Source] {
    static FILES: OnceLock<Vec<Source>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = vec![];
        let mut folders = vec![root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                    folders.push(path);
                } else if name.ends_with(".rs") {
                    let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                    files.push(Source::new(relative, fs::read_to_string(&path).unwrap()));
                }
            }
        }
        assert!(files.len() > 50);
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    })
}

/// The crate that a file belongs to: the folder with the nearest manifest above it.
pub(crate) fn crate_of(name: &str) -> String {
    let folders = Path::new(name).ancestors().skip(1);
    let found = folders.map(Path::to_path_buf).find(|folder| root().join(folder).join("Cargo.toml").exists());
    found.expect("a manifest above every source").to_string_lossy().into_owned()
}

/// Whether `at` begins a word of `text`, and which.
pub(crate) fn word_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    &rest[..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())]
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The words of a text, with their positions. A number is a word, too.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let starts = text.char_indices().scan(false, |inside, (at, c)| {
        let begins = is_word(c) && !*inside;
        *inside = is_word(c);
        Some((at, begins))
    });
    starts.filter(|(_, begins)| *begins).map(|(at, _)| (at, word_at(text, at)))
}

/// Where the bracket at `open` is closed, in code.
pub(crate) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where an item that begins at `start` ends: with a semicolon, or with its body, whose brace comes
/// second.
pub(crate) fn item_end(code: &str, start: usize) -> Option<(usize, Option<usize>)> {
    let mut at = start;
    while at < code.len() {
        match code.as_bytes()[at] {
            b'(' | b'[' => at = closing(code, at)?,
            b'{' => return Some((closing(code, at)?, Some(at))),
            b';' => return Some((at, None)),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The same text with blanks where `keep` does not hold; lines stay.
pub(crate) fn blanked(text: &str, keep: impl Fn(usize) -> bool) -> String {
    let bytes = text.bytes().enumerate();
    let kept = bytes.map(|(at, byte)| if byte == b'\n' || keep(at) { byte } else { b' ' });
    String::from_utf8(kept.collect()).unwrap()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Code and comments of a text.
fn split(text: &str) -> (String, String) {
    let mut kinds = vec![Kind::Code; text.len()];
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        // A literal's quotes stay in the code.
        let (size, kind, edge) = match bytes[at] {
            b'/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), Kind::Comment, 0),
            b'/' if rest.starts_with("/*") => (block_comment(rest), Kind::Comment, 0),
            b'"' => (quoted(rest), Kind::Literal, 1),
            b'r' if is_raw(text, at) => (raw(rest), Kind::Literal, 1),
            b'\'' => character(rest).map_or((1, Kind::Code, 0), |size| (size, Kind::Literal, 1)),
            _ => (rest.chars().next().map_or(1, char::len_utf8), Kind::Code, 0),
        };
        kinds[at + edge..at + size - edge].fill(kind);
        at += size;
    }
    let only = |kind| blanked(text, |at| kinds[at] == kind);
    (only(Kind::Code), only(Kind::Comment))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let pair = &rest.as_bytes()[at..rest.len().min(at + 2)];
        let step = match pair {
            b"/*" => (depth += 1, 2).1,
            b"*/" => (depth -= 1, 2).1,
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether a raw string begins here: `r"`, `r#"`, also behind `b` or `c`.
fn is_raw(text: &str, at: usize) -> bool {
    let before = text[..at].trim_end_matches(['b', 'c']);
    let opens = text[at + 1..].trim_start_matches('#').starts_with('"');
    opens && at - before.len() <= 1 && !before.ends_with(is_word)
}

fn raw(rest: &str) -> usize {
    let marks = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let end = format!("\"{}", "#".repeat(marks));
    let content = 2 + marks;
    rest[content..].find(&end).map_or(rest.len(), |size| content + size + end.len())
}

/// The size of a character; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut characters = rest[1..].char_indices();
    let (_, first) = characters.next()?;
    if first == '\\' {
        let escaped = characters.next()?.0 + 1;
        return Some(escaped + 1 + rest[escaped + 1..].find('\'')? + 1);
    }
    (characters.next()?.1 == '\'').then(|| 1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_comments_are_told_apart() {
        let text = r##"let a = "// no"; // yes "q"
let b = r#"" /* no */ "#; /* y /* es */ */ let c = '"'; let d = '\''; fn e<'x>(_: &'x u8) {} // é"##;
        let source = Source::new("a.rs".into(), text.into());
        assert_eq!(source.code.len(), text.len());
        assert!(!source.code.contains("no") && !source.comments.contains("no"), "{}", source.code);
        assert!(source.code.contains("fn e<'x>(_: &'x u8) {}") && source.code.contains("let c = ' ';"));
        assert!(source.comments.contains("// yes \"q\"") && source.comments.contains("/* y /* es */ */"));
        assert!(source.comments.ends_with("// é") && !source.code.contains('é'));
    }
}
