//! What the program says. A reader that has gone, or a full disk, costs the text and never the program: the standard macros
//! panic then, and an abort loses the run.

use std::fmt::Arguments;
use std::io::Write;

/// To stdout, without a line's end.
pub(crate) fn out(text: Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text).and_then(|()| std::io::stdout().flush());
}

/// A line to stderr.
pub(crate) fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// As `print!`, for a stdout that may be gone.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::out(format_args!($($text)*)) };
}

/// As `eprintln!`, for a stderr that may be gone.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
