//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(loadtest::run(std::env::args_os()).code())
}
