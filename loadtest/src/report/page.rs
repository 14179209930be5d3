//! Reports as one self-contained page: a template, a style, a script and uPlot, all inline, with
//! the reports themselves as JSON. The script draws; nothing is loaded from anywhere.

use super::{Report, stages};
use serde::Serialize;

/// The template, with `{{name}}` for each part.
const TEMPLATE: &str = include_str!("../../page/page.html");

/// A table that the page shows beside what it draws itself.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Its heading.
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns of prose, which may be broken.
    words: bool,
}

impl Table {
    /// A table of figures. A cell that begins with `!` is shown as bad, one with `✓` as good.
    pub fn new(title: &str, head: Vec<String>, rows: Vec<Vec<String>>) -> Table {
        Table { title: title.to_owned(), head, rows, words: false }
    }

    /// The same with columns of prose.
    pub fn of_words(self) -> Table {
        Table { words: true, ..self }
    }
}

/// What a page shows: one report whole, or several compared.
#[derive(Debug)]
pub struct Page<'a> {
    /// Of the window.
    pub title: String,
    /// At least one, each with its name.
    pub reports: Vec<(String, &'a Report)>,
    /// Tables in front of the charts.
    pub before: Vec<Table>,
    /// Tables behind them.
    pub after: Vec<Table>,
    /// Remarks.
    pub notes: Vec<String>,
    /// What is missed in addition to the report's own verdict, in a few words; empty: nothing.
    pub missed: String,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    report: &'a Report,
}

#[derive(Serialize)]
struct Data<'a> {
    reports: Vec<Named<'a>>,
    before: &'a [Table],
    after: &'a [Table],
    notes: &'a [String],
    missed: &'a str,
}

impl Page<'_> {
    /// The page of one report.
    pub fn of(report: &Report) -> Page<'_> {
        let rows = if report.stages.is_empty() { Vec::new() } else { stages::rows(report) };
        let table = Table::new("Stages", stages::HEAD.map(str::to_owned).to_vec(), rows);
        Page {
            title: format!("{} {}", report.scenario, report.label),
            reports: vec![(report.label.clone(), report)],
            before: vec![table],
            after: Vec::new(),
            notes: Vec::new(),
            missed: String::new(),
        }
    }

    /// HTML.
    pub fn render(&self) -> String {
        let reports = self.reports.iter().map(|(name, report)| Named { name, report }).collect();
        let (before, after, notes) = (&self.before[..], &self.after[..], &self.notes[..]);
        let data = Data { reports, before, after, notes, missed: &self.missed };
        let data = serde_json::to_string(&data).unwrap_or_default();
        let parts = [
            ("title", escape(&self.title)),
            ("library_style", include_str!("../../page/uPlot.min.css").to_owned()),
            ("style", include_str!("../../page/page.css").to_owned()),
            // No text of a report may end the script.
            ("data", data.replace('<', "\\u003c")),
            ("library", include_str!("../../page/uPlot.iife.min.js").to_owned()),
            ("script", include_str!("../../page/page.js").to_owned()),
        ];
        fill(TEMPLATE, &parts)
    }
}

/// The template with its parts; what a part contains is not looked into.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut pieces = template.split("{{");
    out += pieces.next().unwrap_or_default();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        out += parts.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text.as_str());
        out += rest;
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_outside_and_no_text_breaks_out_of_it() {
        let evil = "</script><b class=x>{{script}}";
        let report = Report { label: evil.to_owned(), command: evil.to_owned(), ..Report::default() };
        let page = Page::of(&report).render();
        assert!(!page.contains("<b class=x>") && !page.contains("{{title}}"), "a report's text is markup");
        assert_eq!(page.matches("</script>").count(), 3);
        for outside in [" src=", " href=", "@import", "url(", "fetch(", "XMLHttpRequest"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("(v1.6.32)"), "the library says its version");
    }

    #[test]
    fn the_data_is_the_report() {
        let report = Report { scenario: "echo".to_owned(), ..Report::default() };
        let page = Page::of(&report).render();
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(data["reports"][0]["report"]["scenario"], "echo");
        assert_eq!(data["before"][0]["title"], "Stages");
    }
}
