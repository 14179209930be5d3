//! Advice for an unknown key.

use super::nearest::{nearest, nearest_by_letters};
use std::collections::BTreeSet;

/// Keys that are offered where a name is in several sections.
const OFFERED_MAX: usize = 3;

/// What to write instead of `path`, where `known` are all paths, those of the listeners by their
/// names included.
pub(super) fn advice(path: &str, known: &[&str]) -> String {
    let meant = candidates(path, known);
    if !meant.is_empty() {
        return format!("no such key; did you mean {}?", any_of(&meant));
    }
    let section = path.split('.').next().unwrap_or_default();
    let sections = sections(known);
    if section == "listener" {
        let names: Vec<&str> = sections.iter().filter_map(|one| one.strip_prefix("listener.")).collect();
        return format!("no such key; the listeners are {}", names.join(", "));
    }
    match nearest(section, &sections) {
        _ if sections.contains(&section) => {
            format!("no such key; `gateway schema` lists those of [{section}]")
        }
        Some(meant) => format!("no such section; did you mean [{meant}]? `gateway schema` lists its keys"),
        None => "no such key; `gateway schema` lists all".into(),
    }
}

/// Keys that may have been meant: one as a rule, several when the name alone says nothing of the
/// section.
fn candidates<'a>(path: &str, known: &[&'a str]) -> Vec<&'a str> {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let by_section = in_section(section, name, known);
    if let Some(found) = by_section.or_else(|| nearest_by_letters(path, known)) {
        return vec![found];
    }
    // The right name in the wrong section is a frequent slip, and far away by letters.
    let names: BTreeSet<&str> = known.iter().filter_map(|one| Some(one.rsplit_once('.')?.1)).collect();
    let meant = match section {
        // Alone, a word may well be another product's.
        "" => nearest(name, &names.iter().copied().collect::<Vec<_>>()).or(names.get(name).copied()),
        _ => names.get(name).copied(),
    };
    let of_name = |one: &&&str| meant.is_some() && one.rsplit_once('.').map(|(_, own)| own) == meant;
    known.iter().filter(of_name).take(OFFERED_MAX).copied().collect()
}

/// The key that is meant if the section is right, or nearly so.
fn in_section<'a>(section: &str, name: &str, known: &[&'a str]) -> Option<&'a str> {
    let sections = sections(known);
    let section = if sections.contains(&section) { section } else { nearest(section, &sections)? };
    let of_section = |one: &&'a str| {
        let (of, name) = one.rsplit_once('.')?;
        (of == section).then_some((name, *one))
    };
    let there: Vec<(&str, &'a str)> = known.iter().filter_map(of_section).collect();
    let names: Vec<&str> = there.iter().map(|(name, _)| *name).collect();
    let meant = if names.contains(&name) { name } else { nearest(name, &names)? };
    there.iter().find(|(name, _)| *name == meant).map(|(_, path)| *path)
}

/// All sections; a listener is one of its own.
pub(super) fn sections<'a>(known: &[&'a str]) -> Vec<&'a str> {
    let sections: BTreeSet<&str> = known.iter().filter_map(|one| Some(one.rsplit_once('.')?.0)).collect();
    sections.into_iter().collect()
}

fn any_of(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        names => names.join(""),
    }
}

/// The section that an unknown name was meant for.
pub fn meant_section(section: &str) -> Option<&'static str> {
    let known = super::schema::KEYS.iter().map(|key| key.path).collect::<Vec<&'static str>>();
    let mut names = sections(&known);
    if names.contains(&section) {
        return None;
    }
    names.push("listener");
    nearest(section, &names)
}

/// Whether an unknown section of this name was meant to be one of listeners.
pub(super) fn means_listener(section: &str) -> bool {
    meant_section(section) == Some("listener")
}
