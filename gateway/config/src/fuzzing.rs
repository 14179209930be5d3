//! The fuzz body: any bytes as a file, as a flag and as a variable of the environment.

use super::{Config, Sources, Values, effective};
use std::io;

/// Reads `data` as a configuration in every way: as a file, as a variable and as a flag. Must not
/// panic; what is accepted must print and read back.
pub fn parse(data: &[u8]) {
    (0..WAYS).for_each(|way| parse_as(data, way));
}

/// The same in one way, which follows from the size: a fuzzer's mutants go all of them.
pub fn parse_one_way(data: &[u8]) {
    // What spans lines is a file.
    let spans_lines = data.iter().filter(|byte| **byte == b'\n').count() > 1;
    parse_as(data, if spans_lines { 0 } else { data.len() % WAYS });
}

const WAYS: usize = 3;

fn parse_as(data: &[u8], way: usize) {
    let text = String::from_utf8_lossy(data).into_owned();
    let (path, value) = text.split_once('=').unwrap_or((&text, ""));
    let mut sources = Sources::default();
    match way {
        0 => sources.file = Some(("fuzz.toml".into(), text)),
        1 => {
            let variable = format!("GATEWAY_{}", path.trim().to_ascii_uppercase().replace('.', "__"));
            sources.environment.push((variable, value.into()));
        }
        _ => sources.flags.push((path.into(), value.into(), "--set".into())),
    }
    match Config::load(&sources, &no_files) {
        Ok(config) => read_back(&config.source.values),
        Err(problems) => assert!(!problems.is_empty() && !problems.to_string().is_empty()),
    }
}

fn read_back(values: &Values) {
    let printed = effective(values);
    let again = Sources { file: Some(("printed.toml".into(), printed.clone())), ..Sources::default() };
    let mut problems = super::Problems::default();
    let again = Values::read(&again, &mut problems).filter(|_| problems.is_empty());
    let Some(again) = again else { panic!("{problems}\n{printed}") };
    let differ: Vec<String> =
        values.paths().into_iter().filter(|path| values.shown(path) != again.shown(path)).collect();
    assert!(differ.is_empty(), "{differ:?}\n{printed}");
}

fn no_files(_: &str) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}
