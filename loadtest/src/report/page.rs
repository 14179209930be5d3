//! The frame of a page: style and script inline, no external resources, light and dark.

use super::chart::escape;
use std::fmt::Write;

/// A page around `body`.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{}</style></head>\
         <body><main>{body}</main><div id=\"tip\" role=\"status\"></div><script>{}</script></body></html>\n",
        escape(title),
        include_str!("page.css"),
        include_str!("page.js"),
    )
}

/// A section with a heading.
pub(crate) fn section(title: &str, body: &str) -> String {
    if body.is_empty() {
        String::new()
    } else {
        format!("<section><h2>{}</h2>{body}</section>", escape(title))
    }
}

/// A table: the first column is text, the others numbers. Cells are plain text.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = String::from("<div class=\"wide\"><table><thead><tr>");
    for cell in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cell));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let (class, cell) = match cell.strip_prefix("!") {
                Some(cell) => (" class=\"bad\"", cell),
                None => ("", cell.as_str()),
            };
            let _ = write!(out, "<td{class}>{}</td>", escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}

/// A large number with its name, and a small note.
pub(crate) fn tile(name: &str, value: &str, note: &str) -> String {
    let (name, value, note) = (escape(name), escape(value), escape(note));
    format!("<div class=\"tile\"><span>{name}</span><b>{value}</b><small>{note}</small></div>")
}

/// A definition list.
pub(crate) fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let rows: String =
        pairs.map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value))).collect();
    format!("<dl>{rows}</dl>")
}
