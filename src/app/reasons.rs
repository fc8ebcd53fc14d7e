//! The reference page of all reasons, composed of the closed lists of every layer.
//!
//! A name stands on the page exactly if code can emit it: the tests below produce each one by the functions that emit
//! it, and fail for a name that no case produces and for a produced name that is not on the page.

mod http_codes;
#[cfg(test)]
mod tests;

use crate::api::reference::{ReasonRow, ReasonTable, reasons_markdown};
use crate::domain::breaker::TripReason;
use crate::domain::decision::{AttemptObstacle, FieldProblem};
use crate::domain::forecast::PredictionRefused;
use crate::domain::payout::{AttemptState, HoldReason, PayoutRefusal};
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::route::CandidateReason;
use crate::domain::run_reason::RunReason;
use crate::ledger::RunResult;
use crate::ledger::delivery::PublishFailure;

/// `docs/reference/reasons.md`.
pub fn markdown() -> String {
    let of_payouts = [attempt_states(), holds(), refusals()];
    let tables = [circuits(), candidates(), problems(), obstacles(), predictions(), results(), runs(), rejections()];
    let tables: Vec<ReasonTable> = tables.into_iter().chain(of_payouts).chain([publications()]).collect();
    let mut page = reasons_markdown(&tables);
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

fn problems() -> ReasonTable {
    ReasonTable {
        title: "Problems of the fields of a decision request",
        intro: "`data.details.problem` of a rejected `POST /api/treasury/routing/decide` or `/test`.",
        rows: FieldProblem::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn predictions() -> ReasonTable {
    ReasonTable {
        title: "Reasons of refused predictions",
        intro: "`data.results[].error` of `POST /api/treasury/routing/predictions`, and the label `result` of \
                `busbar_scorer_predictions_total`.",
        rows: PredictionRefused::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn obstacles() -> ReasonTable {
    ReasonTable {
        title: "Reasons of unresolved attempts",
        intro: "`data.details.reason` of `attempt_unresolved`.",
        rows: AttemptObstacle::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn attempt_states() -> ReasonTable {
    ReasonTable {
        title: "States of attempts",
        intro: "The state of each attempt of a payout, in its timeline too.",
        rows: AttemptState::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn holds() -> ReasonTable {
    ReasonTable {
        title: "Reasons of held payouts",
        intro: "Why a payout waits for a person: with the payout, and in the event `payout.held`.",
        rows: HoldReason::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn refusals() -> ReasonTable {
    ReasonTable {
        title: "Reasons of refused acts on payouts",
        intro: "`data.details.reason` of an act on a payout that is refused; that of a refused attempt is above.",
        rows: PayoutRefusal::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
    }
}

fn publications() -> ReasonTable {
    ReasonTable {
        title: "Reasons of failed publications",
        intro: "The label `reason` of `busbar_outbox_publish_failures_total`.",
        rows: PublishFailure::ALL.iter().map(|r| row(r.as_str(), r.meaning(), r.remedy())).collect(),
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
