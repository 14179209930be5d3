//! Tables of the documents, made from stored reports: `bench tables --write`, and `--check` for a
//! test.
//!
//! ```text
//!   docs/benchmarks.md, README.md, …:  <!-- bench tables: NAME REPORT [REPORT…] -->
//!                                      the table: written here, and never by hand
//!                                      <!-- end -->
//!   docs/reports/X/report.json  ─► docs/reports/X/summary.md, where it is a report of `bench`
//! ```
//!
//! A report is named by its folder below `docs/reports`.

mod compare;
mod format;
mod memory;
mod million;
mod readme;
mod servers;
mod summary;

pub use compare::compare;
pub use summary::text as summary_text;

use crate::exit::{Exit, Failure};
use crate::run::{Report, stored};
use memory::MemoryReport;
use million::MillionReport;
use std::fs;
use std::path::{Path, PathBuf};

const MARK: &str = "<!-- bench tables: ";
const MARK_END: &str = " -->\n";
const END: &str = "\n<!-- end -->";
/// Where reports are stored.
const REPORTS: &str = "docs/reports";

/// Today, in UTC, such as 2026-12-01.
pub fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    million::day_of(since.map_or(0, |since| since.as_secs()))
}

/// A table's name, and the folders of its reports.
struct Asked<'t> {
    name: &'t str,
    folders: Vec<&'t str>,
}

impl<'t> Asked<'t> {
    fn parse(words: &'t str) -> Option<Asked<'t>> {
        let mut words = words.split_ascii_whitespace();
        Some(Asked { name: words.next()?, folders: words.collect() })
    }

    fn table(&self, root: &Path) -> Result<String, Failure> {
        let path = |folder: &str| root.join(REPORTS).join(folder).join("report.json");
        let bench = |folder: &str| stored::load(&path(folder));
        let million = |folder: &str| MillionReport::load(&path(folder), folder);
        let all_million =
            |folders: &[&str]| folders.iter().map(|folder| million(folder)).collect::<Result<Vec<_>, _>>();
        match (self.name, &self.folders[..]) {
            ("million", [_, ..]) => million::table(&all_million(&self.folders)?),
            ("memory", [one]) => Ok(memory::table(&MemoryReport::load(&path(one))?)),
            ("readme", [one, rest @ ..]) => readme::table(&bench(one)?, &all_million(rest)?),
            (name, [one]) => servers::table(name, &bench(one)?),
            (name, folders) => Err(Failure::usage(format!("no table {name} of {} reports", folders.len()))),
        }
    }
}

/// A document with its tables made anew; `None` where it has none.
fn renewed(text: &str, root: &Path) -> Result<Option<String>, Failure> {
    let mut parts = text.split(MARK);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut has_tables = false;
    for part in parts {
        let cut = part.split_once(MARK_END).and_then(|(words, rest)| Some((words, rest.split_once(END)?.1)));
        let Some((words, after)) = cut else {
            let line = part.lines().next().unwrap_or_default();
            return Err(Failure::usage(format!("'{MARK}{line}' has no '{}' behind it", END.trim())));
        };
        let asked = Asked::parse(words).ok_or_else(|| Failure::usage(format!("'{MARK}' without a name")))?;
        let table = asked.table(root)?;
        out += &[MARK, words, MARK_END, "\n", table.trim_end(), "\n", END, after].concat();
        has_tables = true;
    }
    Ok(has_tables.then_some(out))
}

/// The documents that may have tables: README.md and all pages below `docs`.
fn documents(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut folders) = (vec![root.join("README.md")], vec![root.join("docs")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The summaries of the stored reports of `bench`.
fn summaries(root: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut all = vec![];
    for entry in fs::read_dir(root.join(REPORTS))? {
        let folder = entry?.path();
        let is_of_bench = |text: &str| text.contains("\"cases\":");
        if fs::read_to_string(folder.join("report.json")).is_ok_and(|text| is_of_bench(&text)) {
            let report = stored::load(&folder.join("report.json"))?;
            all.push((folder.join("summary.md"), summary::text(&report)));
        }
    }
    Ok(all)
}

/// All generated texts of the repository at `root`, as they are and as they should be.
fn texts(root: &Path) -> Result<Vec<(PathBuf, String, String)>, Failure> {
    let mut all = vec![];
    for path in documents(root)? {
        let text = fs::read_to_string(&path)?;
        let failed = |failure: Failure| Failure { text: format!("{}: {failure}", path.display()), ..failure };
        if let Some(wanted) = renewed(&text, root).map_err(failed)? {
            all.push((path, text, wanted));
        }
    }
    for (path, wanted) in summaries(root)? {
        all.push((path.clone(), fs::read_to_string(&path).unwrap_or_default(), wanted));
    }
    Ok(all)
}

/// Writes all tables anew; returns the documents that changed.
///
/// # Errors
/// A report that is not there, or without what a table needs; a document that cannot be written.
pub fn write(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let changed: Vec<_> = texts(root)?.into_iter().filter(|(_, text, wanted)| text != wanted).collect();
    for (path, _, wanted) in &changed {
        fs::write(path, wanted)?;
    }
    Ok(changed.into_iter().map(|(path, _, _)| path).collect())
}

/// Compares all tables with their reports; returns how many documents have some.
///
/// # Errors
/// [`Exit::Missed`] with the first line of each document that differs; as [`write()`] otherwise.
pub fn check(root: &Path) -> Result<usize, Failure> {
    let texts = texts(root)?;
    let differs = |(path, text, wanted): &(PathBuf, String, String)| {
        let line = wanted.lines().zip(text.lines()).position(|(one, other)| one != other);
        let at = line.unwrap_or_else(|| text.lines().count().min(wanted.lines().count()));
        let shown = wanted.lines().nth(at).unwrap_or("(nothing)");
        format!("{}:{}: the reports say {shown}", path.display(), at + 1)
    };
    let wrong: Vec<String> = texts.iter().filter(|(_, text, wanted)| text != wanted).map(differs).collect();
    if wrong.is_empty() {
        return Ok(texts.len());
    }
    let text = format!("{}\nwrite them anew: bench tables --write", wrong.join("\n"));
    Err(Failure { exit: Exit::Missed, text })
}

/// Writes a report and its summary into `folder`.
///
/// # Errors
/// Those of the file system.
pub fn store(report: &Report, folder: &Path) -> Result<(), Failure> {
    stored::store(report, folder)?;
    fs::write(folder.join("summary.md"), summary::text(report))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn only_what_stands_between_the_marks_is_written() {
        let text = format!("before\n{MARK}bars bench{MARK_END}old{END}\nafter\n");
        let new = renewed(&text, &root()).unwrap().unwrap();
        assert!(new.starts_with(&format!("before\n{MARK}bars bench{MARK_END}\n")), "{new}");
        assert!(new.ends_with(&format!("{END}\nafter\n")) && !new.contains("old"), "{new}");
        assert_eq!(renewed(&new, &root()).unwrap().unwrap(), new, "once more changes nothing");
        assert!(renewed("no tables\n", &root()).unwrap().is_none());
    }

    #[test]
    fn a_mark_without_an_end_a_name_or_a_report_is_refused() {
        let failure = |text: &str| renewed(text, &root()).unwrap_err().text;
        assert!(failure(&format!("{MARK}bars bench{MARK_END}")).contains("<!-- end -->"));
        assert!(failure(&format!("{MARK}nothing bench{MARK_END}{END}")).contains("nothing"));
        assert!(failure(&format!("{MARK}bars nowhere{MARK_END}{END}")).contains("nowhere"));
    }
}
