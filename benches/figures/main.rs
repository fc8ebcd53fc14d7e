//! The figures that `docs/performance.md` tells of: `cargo bench --bench figures -- [group …]`. Without a group: all but
//! those that take many minutes and are only run by name.
//!
//! Each group measures on the machine it runs on, prints what a person likes to read, and one line per figure:
//! `figure <id> <value> <unit>`. The same lines go to `target/figures.txt`, which holds the last run and nothing else:
//! a figure is measured in the run that prints it, never copied.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this program is for")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be made says why and ends the run: there is nobody to hand an error to"
)]

mod bank;
mod breaker;
mod call;
mod failover;
mod machine;
mod operator;
mod operator10k;
mod route;
mod stats;
mod sync;
mod world;

use std::fmt::Write as _;
use std::process::ExitCode;

/// A group of figures that are measured together.
struct Group {
    /// On the command line.
    name: &'static str,
    run: fn(&mut Figures),
    /// Takes so long that it runs only when named.
    long: bool,
}

/// Every group, in the order they run.
const GROUPS: &[Group] = &[
    Group { name: "breaker", run: breaker::run, long: false },
    Group { name: "call", run: call::run, long: false },
    Group { name: "sync", run: sync::run, long: false },
    Group { name: "route", run: route::run, long: false },
    Group { name: "operator", run: operator::run, long: false },
    Group { name: "operator10k", run: operator10k::run, long: true },
];

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
    if let Some(unknown) = wanted.iter().find(|name| GROUPS.iter().all(|group| group.name != **name)) {
        let known: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
        eprintln!("no group {unknown:?}; there are: {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let mut figures = Figures { lines: String::new() };
    for group in GROUPS {
        let chosen = if wanted.is_empty() { !group.long } else { wanted.iter().any(|name| name == group.name) };
        if chosen {
            println!("\n== {}", group.name);
            (group.run)(&mut figures);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/figures.txt");
    if let Err(error) = std::fs::write(path, figures.lines) {
        eprintln!("cannot write {path}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
