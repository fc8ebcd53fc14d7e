//! Checks that pure files are pure: a source file whose module documentation says "Pure." names nothing that waits, does
//! I/O, reads a clock or draws a random number, whatever its layer allows.

use crate::architecture::within;
use crate::plain_values::is_plain_value;
use crate::product_sources::product_sources;
use crate::source::{paths, read, without_tests, without_text};

/// Paths that pure code does not name, of other crates and of ours.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "tower",
    "futures",
    "reqwest",
    "hyper",
    "hyper_util",
    "axum",
    "rusqlite",
    "rand",
    "prometheus",
    "tracing",
    "kube::client",
    "kube::Client",
    "kube::Api",
    "kube::api::Api",
    "kube::runtime",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "crate::admin",
    "crate::app",
    "crate::cli",
    "crate::clock",
    "crate::cluster",
    "crate::gateway",
    "crate::ledger",
    "crate::metrics",
    "crate::provider",
    "crate::telemetry",
    "crate::work",
];

/// Whether the module documentation of `text` calls the file pure.
fn says_pure(text: &str) -> bool {
    let doc = text.lines().take_while(|line| line.starts_with("//!")).map(|line| line.trim_start_matches("//!"));
    let doc = doc.collect::<String>();
    doc.match_indices("Pure").any(|(at, _)| {
        let (before, after) = (doc[..at].trim_end(), &doc[at + 4..]);
        (before.is_empty() || before.ends_with(['.', ':']))
            && (after.starts_with(['.', ':', ';']) || after.starts_with(" and total"))
    })
}

/// What is impure in a file, a line each.
fn impure(path: &str, text: &str) -> Vec<String> {
    let code = without_tests(&without_text(text));
    let named = paths(&code).into_iter().filter_map(|(line, named)| {
        let name = named.join("::");
        let banned = IMPURE.iter().find(|banned| within(&name, banned))?;
        let plain = name.strip_prefix("crate::").is_some_and(is_plain_value);
        (!plain).then(|| format!("src/{path}:{line}: says it is pure and names `{name}` (`{banned}`)"))
    });
    let waits = code.lines().enumerate().filter(|(_, line)| line.contains("async ") || line.contains(".await"));
    named.chain(waits.map(|(n, _)| format!("src/{path}:{}: says it is pure and waits", n + 1))).collect()
}

#[test]
fn every_file_documented_as_pure_is_pure() {
    let mut pure = 0;
    let mut found = Vec::new();
    for path in product_sources() {
        let text = read(format!("src/{path}"));
        if says_pure(&text) {
            pure += 1;
            found.extend(impure(&path, &text));
        }
    }
    assert!(pure >= 20, "the scan found too little: {pure} pure files");
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_planted_impure_import_is_found() {
    for line in [
        "use tokio::time::sleep;",
        "use crate::clock::Clock;",
        "fn f(c: kube::Client) {}",
        "use std::{collections::BTreeMap, fs};",
        "use crate::{domain::key::ObjectKey, provider::registry::Registry};",
        "async fn f() {}",
    ] {
        assert!(!impure("sync/key.rs", &format!("//! Keys. Pure.\n{line}")).is_empty(), "not found: {line}");
    }
    assert_eq!(impure("sync/key.rs", "//! Keys. Pure.\nuse crate::domain::key::ObjectKey;"), [""; 0]);
    for doc in ["//! Keys. Pure.", "//! From a to\n//! b. Pure: `now` comes in.", "//! Decisions. Pure and total."] {
        assert!(says_pure(doc), "{doc}");
    }
    assert!(!says_pure("//! The pure rules live in `domain`."));
}
