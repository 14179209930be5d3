//! "Did you mean …".

/// The candidate that is closest to `text`, if one is close enough to be meant.
pub(super) fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let text: Vec<char> = text.chars().take(TEXT_MAX).collect();
    let distances = candidates.iter().map(|one| (distance(&text, one), *one));
    let (distance, best) = distances.min_by_key(|(distance, _)| *distance)?;
    let longest = text.len().max(best.chars().count());
    (distance > 0 && distance * 3 <= longest.max(3)).then_some(best)
}

/// Longer texts are compared by their beginning.
const TEXT_MAX: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours between two texts (optimal string alignment).
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(TEXT_MAX).collect();
    let mut rows = [(0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1], vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [last, before, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_right(1);
    }
    rows[0][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised_and_other_words_are_not() {
        let keys = ["limits.connections_max", "io.workers", "io.backend"];
        assert_eq!(nearest("limits.conections_max", &keys), Some("limits.connections_max"));
        assert_eq!(nearest("io.wrokers", &keys), Some("io.workers"));
        assert_eq!(nearest("journal.directory", &keys), None);
        assert_eq!(nearest("", &keys), None);
        assert_eq!(distance(&['a', 'b', 'c'], "acb"), 1);
    }
}
