//! What a test prints whether or not it passes.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints a line. The test harness captures what macros print and shows it of failures only; a seed, or a number of
/// cases, belongs to a test that passes too.
pub fn show(line: impl Display) {
    // Without a terminal or a pipe the line is lost, and the test goes on.
    drop(writeln!(io::stderr(), "{line}"));
}
