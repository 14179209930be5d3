//! The fuzz body: any bytes as a file, as a flag and as a variable of the environment.

use super::{Config, Sources, Values, effective};
use std::io;

/// Reads `data` as a configuration: as a file, and when it is a line or two, as a flag and as a variable too. Must not
/// panic; what is accepted must print and read back.
pub fn parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let mut ways = Vec::new();
    if text.lines().nth(2).is_none() {
        let (path, value) = text.split_once('=').unwrap_or((&text, ""));
        let variable = format!("GATEWAY_{}", path.trim().to_ascii_uppercase().replace('.', "__"));
        ways.push(Sources { environment: vec![(variable, value.into())], ..Sources::default() });
        ways.push(Sources { flags: vec![(path.into(), value.into(), "--set".into())], ..Sources::default() });
    }
    ways.push(Sources { file: Some(("fuzz.toml".into(), text)), ..Sources::default() });
    for sources in &ways {
        match Config::load(sources, &no_files) {
            Ok(config) => read_back(&config.source.values),
            Err(problems) => assert!(!problems.is_empty() && !problems.to_string().is_empty()),
        }
    }
}

fn read_back(values: &Values) {
    let printed = effective(values);
    let again = Sources { file: Some(("printed.toml".into(), printed.clone())), ..Sources::default() };
    let mut problems = super::Problems::default();
    let again = Values::read(&again, &mut problems);
    assert!(problems.is_empty(), "{problems}\n{printed}");
    let differ: Vec<String> =
        values.paths().into_iter().filter(|path| values.shown(path) != again.shown(path)).collect();
    assert!(differ.is_empty(), "{differ:?}\n{printed}");
}

fn no_files(_: &str) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}
