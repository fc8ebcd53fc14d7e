//! The reference page of all reasons, composed of the closed lists of every layer.
//!
//! A name stands on the page exactly if code can emit it: the tests below produce each one by the functions that emit
//! it, and fail for a name that no case produces and for a produced name that is not on the page.

mod http_codes;
#[cfg(test)]
mod tests;

use crate::api::reference::{ReasonRow, ReasonTable, reasons_markdown};
use crate::domain::breaker::TripReason;
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::route::CandidateReason;
use crate::domain::run_reason::RunReason;
use crate::ledger::RunResult;

/// `docs/reference/reasons.md`.
pub fn markdown() -> String {
    let mut page = reasons_markdown(&[circuits(), candidates(), results(), runs(), rejections()]);
    http_codes::append(&mut page);
    page
}

fn row(name: &'static str, meaning: &'static str, remedy: &'static str) -> ReasonRow {
    ReasonRow { name, meaning, remedy }
}

fn circuits() -> ReasonTable {
    ReasonTable {
        title: "Reasons of circuits",
        intro: "`status.circuitState.reason` of a `ProviderConnection` (the last transition beneath an override), the \
                event `CircuitOpened`, and the label `reason` of `busbar_breaker_transitions_total`.",
        rows: TripReason::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn candidates() -> ReasonTable {
    ReasonTable {
        title: "Reasons of candidates",
        intro: "`status.candidates[].reason` and `status.lastFailover.reason` of a `BankRoute`.",
        rows: CandidateReason::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn results() -> ReasonTable {
    ReasonTable {
        title: "Results of runs",
        intro: "`sync_runs.result` in the ledger, and the label `result` of `busbar_sync_runs_total`. \
                `status.lastResult` and `status.history[].result` of a `SyncJob` have the values in [crds.md](crds.md).",
        rows: RunResult::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn runs() -> ReasonTable {
    ReasonTable {
        title: "Reasons of runs",
        intro: "`status.history[].reason` of a `SyncJob`, the event `SyncFailed`, `sync_runs.reason` in the \
                ledger, and the label `class` of `busbar_sync_errors_total`. \
                A reason of a run that did not start is in the ledger or the log only.",
        rows: RunReason::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn rejections() -> ReasonTable {
    ReasonTable {
        title: "Reasons of rejected records",
        intro: "`dead_letters.reason` in the ledger.",
        rows: RejectionReason::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}
