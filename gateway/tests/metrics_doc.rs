//! docs/metrics.md against the table of metrics, and the names of metrics in other documents.

use gateway_control::exposition::metrics;
use gateway_core::metrics::Metric;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- checked by gateway/tests/metrics_doc.rs -->\n";
const END: &str = "\n<!-- end -->";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
    let (kind, unit) = (metric.kind.label(), metric.unit().unwrap_or("–"));
    format!("| `{}` | {kind} | {unit} | {labels} | {} |\n", metric.name, metric.help)
}

/// The page's table as the program has it, sorted by name.
fn table() -> String {
    let mut rows: Vec<String> = metrics().map(row).collect();
    rows.sort_unstable();
    format!(
        "\n| metric | kind | unit | labels | what it says |\n| --- | --- | --- | --- | --- |\n{}",
        rows.concat()
    )
}

#[test]
fn the_page_has_every_metric_as_a_scrape_describes_it() {
    let page = docs().join("metrics.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
    let (found, after) = rest.split_once(END).expect("the mark behind it");
    if found == table() {
        return;
    }
    let wanted = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.md");
    fs::write(&wanted, [before, BEGIN, &table(), END, after].concat()).unwrap();
    panic!("docs/metrics.md is not what the program shows: cp {} {}", wanted.display(), page.display());
}

/// Words in backticks, outside of blocks of code, that begin as our metrics do. One that ends with
/// `_` stands for all that begin so.
fn named(text: &str) -> BTreeSet<&str> {
    let mut is_code = false;
    let prose = text.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code
    });
    let spans = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = spans.flat_map(|span| span.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_')));
    words.filter(|word| word.starts_with("gateway_")).collect()
}

#[test]
fn documents_name_metrics_that_exist() {
    let all: Vec<&str> = metrics().map(|metric| metric.name).collect();
    let exists = |word: &str| {
        let series = ["_bucket", "_sum", "_count"].into_iter().filter_map(|end| word.strip_suffix(end));
        series.chain([word]).any(|name| all.contains(&name))
            || word.ends_with('_') && all.iter().any(|name| name.starts_with(word))
    };
    // Keys of the section `dpdk` look like metrics.
    let keys = ["gateway_v4", "gateway_v6"];
    for page in ["operations.md", "hostile.md", "dpdk.md", "memory.md", "../CHANGELOG.md"] {
        let text = fs::read_to_string(docs().join(page)).unwrap();
        let named = named(&text);
        let unknown: Vec<&str> =
            named.iter().copied().filter(|word| !keys.contains(word) && !exists(word)).collect();
        assert!(unknown.is_empty(), "{page} names metrics that do not exist: {unknown:?}");
    }
}
