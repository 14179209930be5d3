//! The floors of the gateway: which of its crates may use which, and what workers' code must never
//! contain. Cargo's own dependency tree says it, so a module that reaches upward does not compile.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Floors from the lowest to the highest. A crate uses crates to its left only.
const FLOORS: [&str; 6] =
    ["gateway-proto", "gateway-core", "gateway-auth", "gateway-config", "gateway-control", "gateway"];

/// Crates below `crate_name` in the build of a program: without tests, build scripts and procedural
/// macros' own.
fn tree(crate_name: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["tree", "--locked", "--offline", "--package", crate_name, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
    names.filter(|name| !name.is_empty() && name != crate_name).collect()
}

#[test]
fn crates_use_lower_floors_only() {
    for (floor, name) in FLOORS.into_iter().enumerate() {
        let used = tree(name);
        let above = FLOORS[floor..].iter().filter(|other| used.contains(**other)).collect::<Vec<_>>();
        assert!(above.is_empty(), "{name} uses {above:?}");
    }
    assert!(tree("gateway").contains("gateway-core"), "the tree is not empty");
}

#[test]
fn workers_code_has_no_runtime_no_serializer_and_no_log() {
    let used = tree("gateway-core");
    let direct = ["gateway-proto", "netpoll", "siphasher"];
    assert!(direct.iter().all(|name| used.contains(*name)), "{used:?}");
    let banned = [
        "aws-lc-rs",
        "axum",
        "clap",
        "futures-util",
        "http",
        "jsonwebtoken",
        "prometheus",
        "serde",
        "serde_json",
        "tokio",
        "tokio-uring",
        "toml",
        "tracing",
        "tracing-subscriber",
    ];
    let found = banned.into_iter().filter(|name| used.contains(*name)).collect::<Vec<_>>();
    assert!(found.is_empty(), "gateway-core uses {found:?}");
}

#[test]
fn floors_without_http_have_none() {
    for name in ["gateway-auth", "gateway-config"] {
        let used = tree(name);
        let found = ["axum", "http", "tokio", "tokio-uring"].into_iter().filter(|one| used.contains(*one));
        assert_eq!(found.collect::<Vec<_>>(), [""; 0], "{name}");
    }
}
