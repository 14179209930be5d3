//! "Did you mean …".

/// The candidate that is closest to `text`, if one is close enough to be meant.
pub(super) fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let text: Vec<char> = text.chars().take(TEXT_MAX).collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let longest = text.len().max(candidate.chars().count());
        // A distance costs the product of the lengths, and a file of junk may have a hundred thousand such keys: most
        // candidates are ruled out by their letters.
        let least = letters_apart(&text, candidate);
        let may_be_meant = least * 3 <= longest.max(3) && best.is_none_or(|(distance, _)| least < distance);
        if !may_be_meant {
            continue;
        }
        let distance = distance(&text, candidate);
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    let (distance, best) = best?;
    let longest = text.len().max(best.chars().count());
    (distance > 0 && distance * 3 <= longest.max(3)).then_some(best)
}

/// Longer texts are compared by their beginning.
const TEXT_MAX: usize = 64;

/// A lower bound of the distance: letters of the longer text that the other does not have.
fn letters_apart(a: &[char], b: &str) -> usize {
    let mut counts = [0_i32; 64];
    let slot = |one: char| one as usize % 64;
    a.iter().for_each(|one| counts[slot(*one)] += 1);
    b.chars().take(TEXT_MAX).for_each(|one| counts[slot(one)] -= 1);
    let (more, less) = counts.iter().fold((0, 0), |(more, less), count| match count {
        1.. => (more + count, less),
        _ => (more, less - count),
    });
    more.max(less) as usize
}

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

    #[test]
    fn the_bound_by_letters_is_one_and_rules_out_nothing_near() {
        let words = ["", "a", "io.workers", "io.wrokers", "limits.connections_max", "é", "listener.tcp.path"];
        for a in words {
            let chars: Vec<char> = a.chars().collect();
            for b in words {
                assert!(letters_apart(&chars, b) <= distance(&chars, b), "{a} {b}");
            }
        }
        assert_eq!(nearest("abd", &["xyz", "abc", "abd"]), None, "the word itself is no advice");
    }
}
