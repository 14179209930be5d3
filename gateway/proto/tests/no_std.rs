//! The crate and all that it is built from do without `std` and without `alloc`, as a machine
//! without an operating system needs.
//!
//! A target without `std` may not be installed, so it is shown on this one. A static library that
//! brings a panic handler of its own links only where no crate below it has `std`, which has one,
//! too. And it links only where no crate has `alloc`, which needs a global allocator. Two controls
//! show that either is noticed.

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "bare"
version = "0.0.0"
edition = "2024"

[lib]
crate-type = ["staticlib"]

[profile.dev]
panic = "abort"
debug = false

[workspace]

[dependencies]
"#;

const BARE: &str = "#![no_std]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
";

/// Builds the library over one dependency. Returns the compiler's output, and whether it succeeded.
fn build(name: &str, dependency: &str, code: &str) -> (bool, String) {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), format!("{MANIFEST}{dependency}\n")).unwrap();
    fs::write(folder.join("src/lib.rs"), format!("{BARE}{code}\n")).unwrap();
    // The versions that the workspace has.
    fs::copy(proto.join("../../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("target"))
        .current_dir(&folder)
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn it_links_without_std_and_without_an_allocator() {
    let dependency = format!("gateway-proto = {{ path = {:?} }}", env!("CARGO_MANIFEST_DIR"));
    let (content, said) = build("bare", &dependency, "pub use gateway_proto::frame;");
    assert!(content, "{said}");
}

#[test]
fn std_and_alloc_would_be_noticed() {
    let (content, said) = build("with-std", "", "extern crate std;");
    assert!(!content && said.contains("panic_impl"), "{said}");
    let (content, said) = build("with-alloc", "", "extern crate alloc;");
    assert!(!content && said.contains("no global memory allocator"), "{said}");
}
