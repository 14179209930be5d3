//! "Did you mean …": the known name that is nearest to an unknown one.
//!
//! ```text
//!   as written ─► lower case, _ for - ─► names in other products ─► a few letters apart ─► same words
//! ```

/// The candidate that `text` means, if one is close enough: by another product's name for it, by
/// its letters, or by its words.
pub fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain = plain(text);
    let found = elsewhere(&plain, candidates)
        .or_else(|| by_letters(&plain, candidates))
        .or_else(|| by_words(&plain, candidates))?;
    // The word itself is no advice.
    (found != text).then_some(found)
}

/// As [`nearest`], by letters alone: for whole paths: their words mean something only within their
/// section.
pub(super) fn nearest_by_letters<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    by_letters(&plain(text), candidates).filter(|found| *found != text)
}

/// Names that other products have for what is here. One name may mean several things; what is among
/// the candidates counts.
#[rustfmt::skip]
const ELSEWHERE: &[(&str, &[&str])] = &[
    // Sections.
    ("listener", &["listen", "server", "servers", "tcp", "websocket", "ws", "frontend"]),
    ("control", &["admin", "api", "http", "management", "metrics", "prometheus"]),
    ("auth", &["jwt", "login", "security"]),
    ("log", &["logging", "logger"]),
    ("io", &["network", "net", "runtime"]),
    ("drain", &["shutdown"]),
    ("journal", &["audit"]),
    ("rate", &["throttle"]),
    // Keys.
    ("address", &["port", "host", "bind", "listen", "ip", "endpoint"]),
    ("kind", &["type", "protocol"]),
    ("directory", &["path", "folder"]),
    ("key_file", &["public_key", "pem"]),
    ("jwks_file", &["jwks_url", "jwks_uri"]),
    ("api_key", &["token", "password", "secret"]),
    ("drain_ms", &["timeout", "grace_period"]),
    ("format", &["json"]),
    // Values.
    ("websocket", &["ws", "wss"]),
    ("error", &["fatal", "critical"]),
    ("debug", &["verbose"]),
    ("text", &["plain", "pretty"]),
    ("jwt", &["token"]),
    ("none", &["off", "false"]),
    ("close", &["disconnect", "kick"]),
    ("drop", &["discard"]),
    // Commands.
    ("run", &["serve", "start", "server", "up"]),
    ("check", &["validate", "test", "lint", "verify"]),
    ("push", &["publish", "send"]),
    ("tail", &["subscribe", "listen", "connect", "watch"]),
    ("health", &["ping", "status", "ready"]),
    ("token", &["sign", "jwt"]),
    ("init", &["new", "setup"]),
];

fn elsewhere<'a>(plain: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let means = |candidate: &&&str| {
        ELSEWHERE.iter().any(|(here, others)| here == *candidate && others.contains(&plain))
    };
    candidates.iter().find(means).copied()
}

/// How names are written here.
fn plain(text: &str) -> String {
    text.chars().take(TEXT_MAX).map(|one| if one == '-' { '_' } else { one.to_ascii_lowercase() }).collect()
}

fn by_letters<'a>(plain: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let text: Vec<char> = plain.chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let longest = text.len().max(candidate.chars().count());
        // A distance costs the product of the lengths, and a file of junk may have a hundred
        // thousand such keys: most candidates are ruled out by their letters.
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
    (distance * 3 <= longest.max(3)).then_some(best)
}

/// Longer texts are compared by their beginning.
const TEXT_MAX: usize = 64;
/// Further words that a name may have.
const WORDS_APART_MAX: usize = 2;

/// The candidate with the same words in whatever order, or with the fewest more or less:
/// `max_connections`, `dir`, `warning`. None when two are as near.
fn by_words<'a>(plain: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let near = candidates.iter().filter_map(|candidate| Some((words_apart(plain, candidate)?, *candidate)));
    let (least, best) = near.clone().min_by_key(|(apart, _)| *apart)?;
    (near.filter(|(apart, _)| *apart == least).count() == 1).then_some(best)
}

/// How many words one has more than the other, when it has all of the other's.
fn words_apart(a: &str, b: &str) -> Option<usize> {
    let words = |text: &str| text.split('_').filter(|word| !word.is_empty()).count();
    let (few, many) = if words(a) <= words(b) { (a, b) } else { (b, a) };
    let apart = words(many) - words(few);
    if apart > WORDS_APART_MAX || !few.split('_').any(|word| word.len() >= WORD_LEAST) {
        return None;
    }
    let is_in = |word: &str| many.split('_').any(|other| is_same_word(word, other));
    few.split('_').filter(|word| !word.is_empty()).all(is_in).then_some(apart)
}

/// Shorter words are no abbreviation of others.
const WORD_LEAST: usize = 3;

fn is_same_word(a: &str, b: &str) -> bool {
    a == b || (a.len().min(b.len()) >= WORD_LEAST && (a.starts_with(b) || b.starts_with(a)))
}

/// A lower bound of the distance: letters of the longer text that the other does not have.
fn letters_apart(a: &[char], b: &str) -> usize {
    let mut counts = [0_i32; 64];
    let slot = |one: char| one.to_ascii_lowercase() as usize % 64;
    a.iter().for_each(|one| counts[slot(*one)] += 1);
    b.chars().take(TEXT_MAX).for_each(|one| counts[slot(one)] -= 1);
    let (more, less) = counts.iter().fold((0, 0), |(more, less), count| match count {
        1.. => (more + count, less),
        _ => (more, less - count),
    });
    more.max(less) as usize
}

/// Insertions, deletions, replacements and swaps of neighbors between two texts (optimal string
/// alignment), whatever the case of `b`.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(TEXT_MAX).map(|one| one.to_ascii_lowercase()).collect();
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
        assert_eq!(nearest("IO.Workers", &keys), Some("io.workers"));
        assert_eq!(nearest("journal.directory", &keys), None);
        assert_eq!(nearest("", &keys), None);
        assert_eq!(distance(&['a', 'b', 'c'], "acb"), 1);
        assert_eq!(nearest("eddsa", &["HS256", "EdDSA"]), Some("EdDSA"));
    }

    #[test]
    fn other_orders_of_words_abbreviations_and_names_of_other_products_are_recognised() {
        let limits = ["connections_max", "connections_per_address_max", "frame_body_size_max"];
        assert_eq!(nearest("max-connections", &limits), Some("connections_max"));
        assert_eq!(nearest("connections", &limits), Some("connections_max"));
        assert_eq!(nearest("max_frame_size", &limits), Some("frame_body_size_max"));
        assert_eq!(nearest("size", &limits), None, "too many words are missing");
        assert_eq!(nearest("max", &["a_max", "b_max"]), None, "two are as near");
        assert_eq!(nearest("uring", &["auto", "io_uring"]), Some("io_uring"));
        assert_eq!(nearest("WARNING", &["warn", "info"]), Some("warn"));
        assert_eq!(nearest("port", &["address", "path"]), Some("address"));
        assert_eq!(nearest("serve", &["run", "sleep"]), Some("run"));
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
