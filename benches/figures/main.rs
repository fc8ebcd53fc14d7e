//! The figures that `docs/performance.md` tells of: `cargo bench --bench figures -- [group …]`.
//!
//! Each group measures on the machine it runs on, prints what a person likes to read, and one line per figure:
//! `figure <id> <value> <unit>`. The same lines go to `target/figures.txt`, which holds the last run and nothing else:
//! a figure is measured in the run that prints it, never copied.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this program is for")]

mod breaker;

use std::fmt::Write as _;
use std::process::ExitCode;

/// A group: its name on the command line, and what it measures.
type Group = (&'static str, fn(&mut Figures));

/// Every group, in the order they run.
const GROUPS: &[Group] = &[("breaker", breaker::run)];

/// Prints figures and keeps their lines.
pub(crate) struct Figures {
    lines: String,
}

impl Figures {
    /// Prints one figure. `value` with as many places as it is worth.
    pub(crate) fn figure(&mut self, id: &str, value: impl std::fmt::Display, unit: &str) {
        println!("figure {id} {value} {unit}");
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "figure {id} {value} {unit}");
    }
}

fn main() -> ExitCode {
    // Cargo adds `--bench`; words that are not options are groups, and `make bench ARGS="a b"` may pass them as one.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .flat_map(|arg| arg.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if let Some(unknown) = wanted.iter().find(|name| GROUPS.iter().all(|(group, _)| group != name)) {
        let known: Vec<_> = GROUPS.iter().map(|(group, _)| *group).collect();
        eprintln!("no group {unknown:?}; there are: {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let mut figures = Figures { lines: String::new() };
    for (name, run) in GROUPS.iter().filter(|(group, _)| wanted.is_empty() || wanted.iter().any(|w| w == group)) {
        println!("\n== {name}");
        run(&mut figures);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/figures.txt");
    if let Err(error) = std::fs::write(path, figures.lines) {
        eprintln!("cannot write {path}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
