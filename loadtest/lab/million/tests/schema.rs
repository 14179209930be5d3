//! The stored reports are as the schemas say.

use boon::{Compiler, Schemas};
use serde_json::Value;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
const BASE: &str = "https://gateway.invalid/loadtest";

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn stored_reports_are_as_the_schemas_say() {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let own = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json"));
    compiler.add_resource(&format!("{BASE}/million-1.json"), own).unwrap();
    let report = serde_json::from_str(loadtest::report::SCHEMA).unwrap();
    compiler.add_resource(&format!("{BASE}/report-1.json"), report).unwrap();
    let index = compiler.compile(&format!("{BASE}/million-1.json"), &mut schemas).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(ROOT).join("docs/reports")).unwrap() {
        let folder = entry.unwrap();
        if folder.file_name().to_string_lossy().starts_with("million") {
            let report = read(&folder.path().join("report.json"));
            if let Err(error) = schemas.validate(&report, index) {
                panic!("{}: {error:#}", folder.path().display());
            }
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn pages_are_made_on_demand_and_not_stored() {
    for entry in std::fs::read_dir(Path::new(ROOT).join("docs/reports")).unwrap() {
        for file in std::fs::read_dir(entry.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            assert!(path.extension().is_none_or(|ending| ending != "html"), "{}", path.display());
        }
    }
}
