//! Every deletion that the traits of the ledger offer is fenced by a lease, or is one that a user asks for.

use crate::source::{files, read};

/// What a user asks for on any replica: it deletes by an id that is never used again, or by the state of the row.
const ASKED_FOR: [&str; 3] = ["discard_dead_request", "purge_dead_requests", "remove_consumer"];
/// First words of the names of deletions.
const VERBS: [&str; 9] = ["delete", "prune", "purge", "discard", "forget", "remove", "erase", "clear", "drop"];

/// Files of the engines that delete and check no lease, each with why that is none of a replaced process's business.
const WITHOUT_LEASE: [(&str, &str); 2] = [
    ("src/ledger/postgres/partitions.rs", "a streak that ends with a run, whose end takes effect once"),
    ("src/ledger/sqlite/partitions.rs", "likewise"),
];

/// Whether a source deletes rows: by a statement of its own, or because an inserted or changed row replaces others.
fn deletes(source: &str) -> bool {
    ["DELETE FROM", "OR REPLACE", "REPLACE INTO", "TRUNCATE"].iter().any(|statement| source.contains(statement))
}

/// The deletions that `source` declares without a lease.
fn unfenced(source: &str) -> Vec<String> {
    let declarations = source.split("\n    fn ").skip(1);
    declarations
        .filter_map(|declaration| {
            let (name, rest) = declaration.split_once(['(', '<'])?;
            let verb = name.split('_').next()?;
            let (signature, _) = rest.split_once("LedgerFuture")?;
            let fenced = [": &'a Lease", "lease::Lease"].iter().any(|parameter| signature.contains(parameter));
            (VERBS.contains(&verb) && !fenced).then(|| name.to_owned())
        })
        .collect()
}

#[test]
fn every_delete_of_the_ledgers_traits_takes_a_lease_unless_a_user_asks_for_it() {
    let traits = files("src/ledger", "rs");
    let traits = traits.iter().map(read).filter(|source| source.contains("\npub trait "));
    let mut found: Vec<String> = traits.flat_map(|source| unfenced(&source)).collect();
    found.sort();
    assert_eq!(found, ASKED_FOR);
}

#[test]
fn every_file_of_an_engine_that_deletes_rows_checks_a_lease() {
    let engines = files("src/ledger", "rs").into_iter().filter(|path| {
        let path = path.to_string_lossy();
        ["/sqlite/", "/postgres/"].iter().any(|engine| path.contains(engine)) && !path.contains("tests")
    });
    let unfenced: Vec<String> = engines
        .filter(|path| {
            let source = read(path);
            deletes(&source) && !source.contains("assert_held(")
        })
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let argued = WITHOUT_LEASE.map(|(file, _)| file.to_owned());
    assert_eq!(unfenced, argued, "check the lease in the transaction, or argue in WITHOUT_LEASE why none is needed");
}

#[test]
fn a_statement_that_deletes_is_found_however_it_does_so() {
    for statement in ["DELETE FROM sync_runs", "UPDATE OR REPLACE transactions", "REPLACE INTO t", "TRUNCATE t"] {
        assert!(deletes(statement), "{statement}");
    }
    assert!(!deletes("INSERT INTO t ON CONFLICT DO UPDATE SET deleted = 1"));
}

#[test]
fn a_planted_delete_without_a_lease_is_found() {
    let source = "pub trait T {\n    fn prune_x(&self, at: i64) -> LedgerFuture<'_, u64>;\n    fn prune_y<'a>(&'a self, \
                  lease: &'a Lease) -> LedgerFuture<'a, ()>;\n    fn load(&self) -> LedgerFuture<'_, ()>;\n}";
    assert_eq!(unfenced(source), ["prune_x"]);
}
