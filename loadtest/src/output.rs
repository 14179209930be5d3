//! Output to stdout and stderr that never ends the program. The standard macros panic when a reader
//! has gone or a disk is full, and an abort loses the run; here only the text is lost.

use std::fmt::Arguments;
use std::io::Write;

/// Writes to stdout, without a line's end.
pub fn out(text: Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text).and_then(|()| std::io::stdout().flush());
}

/// Writes a line to stderr.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// As `print!`, for a stdout that may be gone.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::output::out(format_args!($($text)*)) };
}

/// As `eprintln!`, for a stderr that may be gone.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
