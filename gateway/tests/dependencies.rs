//! What dependencies may be, by `deny.toml`: cargo-deny's file, held without cargo-deny.

use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;
use toml::de::{DeTable, DeValue};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a list of `deny.toml` says, as text: its strings, or the crates of its tables, each with
/// whether it gives a reason.
fn listed(part: &str, key: &str) -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(format!("{ROOT}/deny.toml")).unwrap();
    let policy = DeTable::parse(&text).unwrap();
    let list = policy.get_ref()[part].get_ref()[key].get_ref().as_array().unwrap();
    let entries = list.iter().map(|one| match one.get_ref() {
        DeValue::Table(table) => {
            (table["crate"].get_ref().as_str().unwrap().to_owned(), table.contains_key("reason"))
        }
        value => (value.as_str().unwrap().to_owned(), false),
    });
    entries.collect()
}

fn names(list: &[(String, bool)]) -> Vec<&str> {
    list.iter().map(|(name, _)| name.as_str()).collect()
}

/// What cargo knows of the workspace and of all that it is built from on this machine.
fn metadata() -> &'static Json {
    static METADATA: OnceLock<Json> = OnceLock::new();
    METADATA.get_or_init(|| {
        let version = Command::new("rustc").arg("-vV").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let arguments =
            ["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform", host];
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(ROOT).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// The packages that are built, those of the workspace included.
fn packages() -> Vec<&'static Json> {
    let metadata = metadata();
    let built: BTreeSet<&str> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| text(&node["id"])).collect();
    let packages = list(&metadata["packages"]).iter().filter(|package| built.contains(text(&package["id"])));
    let packages: Vec<&Json> = packages.collect();
    assert!(packages.len() > 100, "{}", packages.len());
    packages
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Whether an SPDX expression can be met with these licenses. "/" is an old way to write OR.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let met = any(&mut words, allowed);
    assert!(words.is_empty(), "{expression}: {words:?} is left");
    met
}

fn any(words: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let mut met = all(words, allowed);
    while words.pop_if(|word| *word == "OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let mut met = one(words, allowed);
    while words.pop_if(|word| *word == "AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let word = words.pop().expect("a license");
    if word == "(" {
        let met = any(words, allowed);
        assert_eq!(words.pop(), Some(")"));
        return met;
    }
    // An exception grants more than the license does: it is a license of its own, "A WITH B".
    match words.pop_if(|word| *word == "WITH") {
        Some(_) => allowed.contains(&format!("{word} WITH {}", words.pop().expect("an exception")).as_str()),
        None => allowed.contains(&word),
    }
}

#[test]
fn licenses_are_among_those_allowed() {
    let allowed = listed("licenses", "allow");
    let allowed = names(&allowed);
    let refused = packages().into_iter().filter(|package| {
        let license = text(&package["license"]);
        license.is_empty() || !is_met(license, &allowed)
    });
    let refused: Vec<String> = refused
        .map(|package| {
            format!("{} {}: license {}", text(&package["name"]), package["version"], package["license"])
        })
        .collect();
    complain(&refused);
    // A license that no package needs is not allowed in advance.
    let unneeded: Vec<String> = (0..allowed.len())
        .filter(|index| {
            let others = [&allowed[..*index], &allowed[index + 1..]].concat();
            packages().iter().all(|package| is_met(text(&package["license"]), &others))
        })
        .map(|index| format!("no package needs {}", allowed[index]))
        .collect();
    complain(&unneeded);
}

#[test]
fn crates_that_are_banned_are_not_built() {
    let banned = listed("bans", "deny");
    let banned = names(&banned);
    assert!(!banned.is_empty());
    let found =
        packages().into_iter().map(|package| text(&package["name"])).filter(|name| banned.contains(name));
    complain(&found.map(|name| format!("{name} is banned by deny.toml")).collect::<Vec<_>>());
}

#[test]
fn two_versions_of_a_crate_are_listed_with_a_reason() {
    let listed = listed("bans", "skip");
    let skipped = names(&listed);
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages() {
        versions.entry(text(&package["name"])).or_default().insert(text(&package["version"]));
    }
    let mut problems = vec![];
    for (name, versions) in versions.iter_mut() {
        let all = versions.clone();
        versions.retain(|version| !skipped.contains(&format!("{name}@{version}").as_str()));
        if versions.len() > 1 {
            problems.push(format!(
                "{name} is built in versions {}",
                versions.iter().copied().collect::<Vec<_>>().join(", ")
            ));
        }
        let entries = skipped.iter().filter(|entry| entry.split('@').next() == Some(name)).count();
        if entries > 0 && (all.len() - 1 != entries || versions.len() != 1) {
            problems
                .push(format!("deny.toml skips {entries} of the versions {all:?} of {name}: all but one"));
        }
    }
    let unknown =
        skipped.iter().filter(|entry| !versions.contains_key(entry.split('@').next().unwrap_or_default()));
    problems.extend(unknown.map(|entry| format!("{entry} is not built: remove it from deny.toml")));
    complain(&problems);
    assert!(listed.iter().all(|(_, reasoned)| *reasoned), "an entry of bans.skip has no reason: {listed:?}");
}

#[test]
fn packages_come_from_the_registry_and_name_a_version() {
    let allowed = listed("sources", "allow-registry");
    let allowed: Vec<String> = names(&allowed).iter().map(|source| format!("registry+{source}")).collect();
    let mut problems = vec![];
    for package in packages() {
        let (name, source) = (text(&package["name"]), text(&package["source"]));
        if source.is_empty() {
            let wild = list(&package["dependencies"])
                .iter()
                .filter(|one| text(&one["req"]) == "*" && one["path"].is_null());
            problems.extend(wild.map(|one| format!("{name}: any version of {} will do", text(&one["name"]))));
        } else if !allowed.iter().any(|one| one == source) {
            problems.push(format!("{name} comes from {source}"));
        }
    }
    complain(&problems);
}

#[test]
fn one_release_of_rust_is_named_everywhere() {
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    let between = |text: &str, before: &str, after: &str| {
        let rest = text.split_once(before).unwrap_or_else(|| panic!("{before} is not there")).1;
        rest.split_once(after).unwrap().0.to_owned()
    };
    let minimum = between(&read("Cargo.toml"), "rust-version = \"", "\"");
    let pinned = between(&read("rust-toolchain.toml"), "channel = \"", "\"");
    assert_eq!(pinned.rsplit_once('.').unwrap().0, minimum);
    assert_eq!(between(&read("configs/Dockerfile"), "FROM rust:", "-"), minimum);
    for document in ["CONTRIBUTING.md", "docs/operations.md"] {
        assert!(
            read(document).contains(&format!("Rust {minimum}")),
            "{document} does not name Rust {minimum}"
        );
    }
}

#[test]
fn license_expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "ISC"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("MIT AND GPL-3.0 OR ISC", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("MIT WITH LLVM-exception", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
    ] {
        assert_eq!(is_met(expression, &allowed), expected, "{expression}");
    }
}
