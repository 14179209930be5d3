//! How the program behaves when its output can't be written.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn nothing_aborts_for_want_of_a_reader() {
    for arguments in
        [&["--help"][..], &["--version"], &["compare", "/nowhere.json"], &["echo", "--connections", "x"]]
    {
        let with = |out: fn() -> Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
            command.args(arguments).stdin(Stdio::null()).stdout(out()).stderr(out());
            command.status().unwrap()
        };
        let heard = with(Stdio::null);
        for out in [gone, full] {
            let status = with(out);
            assert_eq!(status.signal(), None, "{arguments:?}");
            assert_eq!(status.code(), heard.code(), "{arguments:?}: the exit code says the same");
        }
    }
}
