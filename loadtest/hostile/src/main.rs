//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(hostile::run(std::env::args_os()).code())
}
