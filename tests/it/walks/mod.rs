//! Walks of a provider's list, over real sockets: paging of every kind, links, patches, windows, resyncs and partitions.

mod coverage;
mod links;
mod paging;
mod partitions;
mod patches;
mod resume;
mod resync;
mod windows;

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;

use crate::kit::walk_bank::End;

/// A document stream with this paging.
fn documents(paging: &str) -> String {
    format!("record: document, records: [/data], key: /id, pagination: {paging}")
}

fn complete(stored: u64) -> End {
    (RunResult::Succeeded, None, stored)
}

fn failed(reason: RunReason, stored: u64) -> End {
    (RunResult::Failed, Some(reason), stored)
}

fn incomplete(reason: RunReason, stored: u64) -> End {
    (RunResult::Incomplete, Some(reason), stored)
}
