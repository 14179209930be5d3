//! What the programs say. A reader that has gone, or a full disk, costs the text and never the run: the standard macros panic
//! then.

use std::fmt::Arguments;
use std::io::Write;

/// A line to stdout.
pub fn say(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line to stderr.
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
