//! The figures that `docs/performance.md` describes: `cargo bench --bench figures -- [group …]`. Without a group: all.
//!
//! `operator` is measured in two parts: `operator1k` in some seven minutes, `operator10k` in some fifteen.
//!
//! Each group measures on the machine it runs on, prints what a person likes to read, and one line per figure:
//! `figure <id> <value> <unit>`. The same lines go to `figures.txt` in the target directory (`CARGO_TARGET_DIR`, else
//! `target`), which holds the last run and nothing else: a figure is measured in the run that prints it, never copied.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this program is for")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be made says why and ends the run: there is no caller to return an error to"
)]

mod bank;
mod bare;
mod breaker;
mod call;
mod consumers;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kit/decision_server.rs"]
mod decision_server;
mod due;
mod env;
mod failover;
mod forecast;
mod hostile;
#[path = "../../tests/kit/hostile_provider.rs"]
mod hostile_provider;
mod late_choices;
#[path = "../../tests/kit/late_choices.rs"]
mod late_trips;
mod load;
mod machine;
mod neighbour;
mod neighbour_jobs;
mod operator;
mod operator10k;
mod outage;
mod outbox;
mod payout_clock;
mod payout_http;
mod payout_simulation;
mod route;
mod route_http;
mod route_replay;
mod stats;
mod sync;
mod webhooks;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Figures that are measured together.
struct Group {
    /// On the command line: its group, and where that has parts, its own.
    names: &'static [&'static str],
    run: fn(&mut Figures),
}

/// Every group, in the order they run.
const GROUPS: &[Group] = &[
    Group { names: &["breaker"], run: breaker::run },
    Group { names: &["call"], run: call::run },
    Group { names: &["sync"], run: sync::run },
    Group { names: &["sync", "due"], run: due::run },
    Group { names: &["route"], run: route::run },
    Group { names: &["forecast"], run: forecast::run },
    Group { names: &["payouts", "payout_simulation"], run: payout_simulation::run },
    Group { names: &["payouts", "payout_clock"], run: payout_clock::run },
    Group { names: &["payouts", "payout_http"], run: payout_http::run },
    Group { names: &["events", "outbox"], run: outbox::run },
    Group { names: &["events", "consumers"], run: consumers::run },
    Group { names: &["events", "webhooks"], run: webhooks::run },
    Group { names: &["events", "outage"], run: outage::run },
    Group { names: &["trust", "neighbour"], run: neighbour::run },
    Group { names: &["trust", "hostile"], run: hostile::run },
    Group { names: &["trust", "neighbour"], run: neighbour_jobs::run },
    Group { names: &["operator", "operator1k"], run: operator::run },
    Group { names: &["operator", "operator10k"], run: operator10k::run },
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
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, first, second] = &args[..] {
        match flag.as_str() {
            bare::FLAG => return bare::run(Path::new(first), second),
            outage::FLAG => return outage::serve(Path::new(first), Path::new(second)),
            outbox::FLAG => return outbox::serve(Path::new(first), Path::new(second)),
            payout_clock::FLAG => return payout_clock::serve(Path::new(first), Path::new(second)),
            route_http::GATEWAY => return route_http::serve(Path::new(first), Path::new(second)),
            route_http::BARE => return route_http::serve_bare(Path::new(first), Path::new(second)),
            _ => {}
        }
    }
    // Cargo adds `--bench`; words that are not options are groups, and `make bench ARGS="a b"` may pass them as one.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .flat_map(|arg| arg.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let named = |group: &Group| group.names.iter().any(|name| wanted.iter().any(|wanted| wanted == name));
    let mut known: Vec<&str> = GROUPS.iter().flat_map(|group| group.names).copied().collect();
    known.dedup();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        eprintln!("no group {unknown:?}; there are: {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    // Before anything is measured: many minutes' figures must not be lost for want of a folder.
    let path = match kept_at() {
        Ok(path) => path,
        Err(error) => {
            eprintln!("no place for figures.txt: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut figures = Figures { lines: String::new() };
    for group in GROUPS.iter().filter(|group| wanted.is_empty() || named(group)) {
        println!("\n== {}", group.names.join(", "));
        (group.run)(&mut figures);
    }
    if let Err(error) = std::fs::write(&path, figures.lines) {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Where the lines go: the folder is there afterwards, and the last run's lines are not.
#[expect(clippy::disallowed_methods, reason = "cargo tells where its target directory is by this variable alone")]
fn kept_at() -> std::io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    // Cargo takes a relative one as from where it was called, and runs a bench in the package's own folder: the same place
    // for everyone who uses the Makefile.
    let folder = target.map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target")), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("figures.txt");
    std::fs::write(&path, "")?;
    Ok(path)
}
