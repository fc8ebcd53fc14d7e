//! The integration tests, in one binary: one link instead of many.
//!
//! Here are the tests of the sources and documents themselves, and those that need more than one module of the library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may panic too")]

#[path = "../kit/mod.rs"]
mod kit;

mod admin;
mod admission;
mod alerts;
mod architecture;
mod auth;
mod bad_characters;
mod blocked_stderr;
mod call;
mod circles;
mod crds;
mod decisions;
mod detached_tasks;
mod docs;
mod empty_lists;
mod explain;
mod forecast;
mod gateway;
mod generated_pages;
mod guide;
mod kills;
mod layer_rules;
mod ledger_deletes;
mod legacy_metrics;
mod list_ends;
mod live_check;
mod manifests;
mod minor_units;
mod outbox;
mod payouts;
mod plain_values;
mod previous_release;
mod probes;
mod product_sources;
mod profiles;
mod promql;
mod purity;
mod raw_and_events;
mod record_tables;
mod reference;
mod release;
mod row_identity;
mod rules;
mod run_failures;
mod samples;
mod scorer;
mod sim;
mod sim_process;
mod source;
mod status_size;
mod streams;
mod sync;
mod sync_command;
mod terminal;
mod traces;
mod walks;
mod words;
