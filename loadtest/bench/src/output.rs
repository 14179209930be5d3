//! Output to stdout and stderr that never ends a run. The standard macros panic when a reader has
//! gone or a disk is full; here only the text is lost.

use std::fmt::Arguments;
use std::io::Write;

/// Writes a line to stdout.
pub fn say(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes a line to stderr.
pub fn note(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// As `println!`, for a stdout that may be gone.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*)) };
}

/// As `eprintln!`, for a stderr that may be gone.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}
