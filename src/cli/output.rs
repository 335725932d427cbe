//! What commands tell people. A reader who has left, as behind `head`, is no failure.

use std::{fmt, io::Write as _};

/// Prints a line to standard output.
pub(super) fn line(text: fmt::Arguments<'_>) {
    // Nobody is there to be told.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes to the terminal what is to be answered there, apart from what is redirected.
pub(super) fn prompt(text: &str) {
    let mut terminal = std::io::stderr();
    let _ = write!(terminal, "{text}").and_then(|()| terminal.flush());
}

/// Prints a line to standard output, like `println!`, without minding that nobody reads it.
macro_rules! say {
    () => { $crate::cli::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}

pub(super) use say;
