//! Two profiles side by side, by function, as shares of all samples.

use super::Folded;
use crate::report::terminal;
use crate::report::units::percent;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Functions that are shown.
const ROWS_MAX: usize = 30;

/// The shares of one function in the two profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shares {
    /// Of samples in which it is the innermost, and of those that it is in at all.
    own: [f64; 2],
    all: [f64; 2],
}

impl Shares {
    fn change(&self) -> f64 {
        self.own[1] - self.own[0]
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Diff {
    samples: [u64; 2],
    functions: BTreeMap<String, Shares>,
}

impl Diff {
    pub(crate) fn of(before: &Folded, after: &Folded) -> Diff {
        let mut functions: BTreeMap<String, Shares> = BTreeMap::new();
        let samples = [before, after].map(Folded::samples);
        for (side, folded) in [before, after].into_iter().enumerate() {
            for (stack, count) in &folded.stacks {
                let share = *count as f64 / samples[side].max(1) as f64;
                // The first name is the thread's.
                let frames: Vec<&str> = stack.split(';').skip(1).collect();
                if let Some(innermost) = frames.last() {
                    functions.entry((*innermost).to_owned()).or_default().own[side] += share;
                }
                for frame in frames.into_iter().collect::<BTreeSet<_>>() {
                    functions.entry(frame.to_owned()).or_default().all[side] += share;
                }
            }
        }
        Diff { samples, functions }
    }

    /// The functions by how much their own share changed, as text.
    pub(crate) fn text(&self) -> String {
        let mut rows: Vec<(&String, &Shares)> = self.functions.iter().collect();
        rows.sort_by(|(_, one), (_, other)| other.change().abs().total_cmp(&one.change().abs()));
        let cells = |(name, shares): &(&String, &Shares)| {
            let Shares { own, all } = shares;
            let change = format!("{:+.2}", shares.change() * 100.0);
            let figures = [own[0], own[1]].map(percent);
            let whole = [all[0], all[1]].map(percent);
            [&[(*name).clone()][..], &figures, &[change], &whole].concat()
        };
        let rows: Vec<Vec<String>> =
            rows.iter().filter(|(_, shares)| shares.own != [0.0; 2]).take(ROWS_MAX).map(cells).collect();
        let mut out = String::from("\n");
        let _ = writeln!(out, "  {} samples before, {} after\n", self.samples[0], self.samples[1]);
        let head = ["function", "own before", "own after", "points", "in it before", "in it after"];
        terminal::table(&mut out, &head, &rows);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(lines: &[(&str, u64)]) -> Folded {
        Folded { stacks: lines.iter().map(|(stack, count)| ((*stack).to_owned(), *count)).collect() }
    }

    #[test]
    fn shares_are_compared_whatever_the_number_of_samples() {
        let before = folded(&[("w;main;send", 50), ("w;main;parse", 50)]);
        let after = folded(&[("w;main;send", 300), ("w;main;parse", 100), ("w;main;parse;main", 0)]);
        let diff = Diff::of(&before, &after);
        assert_eq!(diff.functions["send"], Shares { own: [0.5, 0.75], all: [0.5, 0.75] });
        assert_eq!(diff.functions["main"].all, [1.0, 1.0], "once in a stack, however deep");
        let text = diff.text();
        let row = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert!(row("send").contains("+25.00") && row("parse").contains("-25.00"), "{text}");
        assert!(row("main").is_empty(), "it has no samples of its own: {text}");
    }

    #[test]
    fn an_empty_profile_has_no_shares() {
        let diff = Diff::of(&Folded::default(), &folded(&[("w;main", 1)]));
        assert_eq!(diff.functions["main"].own, [0.0, 1.0]);
    }
}
