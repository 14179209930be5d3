//! The packet scripts of `tests/scripts`. Its README has their grammar. Each file is one test of
//! one clause.
//!
//! `SCRIPT=part-of-a-name` runs those alone and prints every frame.

mod parse;
mod peer;
mod segment;
mod world;

use std::path::PathBuf;

#[test]
fn scripts_pass() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "scripts"].iter().collect();
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pkt"))
        .collect();
    paths.sort();
    let wanted = std::env::var("SCRIPT").ok();
    let mut problems = vec![];
    let mut count = 0;
    for path in &paths {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(path).expect("a script");
        if let Err(problem) = world::run(&text, wanted.is_some()) {
            problems.push(format!("{name}:{problem}"));
        }
    }
    assert!(problems.is_empty(), "{} of {count} scripts failed:\n{}", problems.len(), problems.join("\n"));
    assert!(wanted.is_some() || count >= 120, "{count} scripts");
}
