//! What commands tell people. A reader who has left, as behind `head`, is no failure.

use std::{fmt, io::Write as _};

/// Prints a line to standard output.
pub(super) fn line(text: fmt::Arguments<'_>) {
    // Nobody is there to be told.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line to standard output, like `println!`, without minding that nobody reads it.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}

pub(super) use say;
