//! Why a call of the decision service failed. Closed: the gateway maps each to one HTTP status.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::canonical::hex;
use crate::domain::decision::{Hash, ReplayError, SealedSnapshot, Unresolved};
use crate::domain::key::ObjectKey;
use crate::domain::payout::{Payout, Refusal};
use crate::domain::route::{CandidateReason, Evaluation};
use crate::ledger::decisions::{MAX_OUTCOMES, ProposalState};
use crate::ledger::error::LedgerError;
use crate::resolve::SpecError;

/// How long a caller waits before it repeats a call that the ledger did not take.
pub(crate) const LEDGER_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call of the decision service failed. Nothing was stored, unless the ledger failed while it committed: the same
/// call again tells.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The named route does not exist, or none applies.
    #[error("{}", route_not_found(.namespace, .route.as_deref()))]
    RouteNotFound {
        /// The namespace.
        namespace: String,
        /// The name, if one was given.
        route: Option<String>,
    },
    /// The route's spec is invalid.
    #[error("route {route} not usable: {}; correct the spec, see its condition Ready", .error.message)]
    RouteNotUsable {
        /// The route.
        route: ObjectKey,
        /// What is wrong.
        error: SpecError,
    },
    /// No bank of the route can take the payout.
    #[error("{0}")]
    NoBank(Box<NoBank>),
    /// The same attempt was decided for another request.
    #[error(
        "decision conflicts with an earlier request: payout_id and attempt_no were used with another body (stored {}, \
         requested {}); send the first body again: a changed request is the next attempt_no, which needs proof that \
         the payout was not executed", hex(.stored), hex(.requested)
    )]
    Conflict {
        /// Hash of this request.
        requested: Hash,
        /// Hash of the first one.
        stored: Hash,
    },
    /// An earlier attempt may have been executed.
    #[error("attempt not permitted: {0}")]
    Unresolved(Unresolved),
    /// Newer entries of the ledger were lost, and no person has resumed payouts since.
    #[error(
        "payouts suspended: the ledger was restored with loss of newer entries, and attempts may be missing; compare with \
         the banks' statements, then POST /api/treasury/payouts/resume"
    )]
    PayoutsSuspended,
    /// The payout is followed: its attempts are stored with it.
    #[error(
        "attempt not decided alone: payout {payout_id} is followed, and its next attempt is stored with it; read the payout"
    )]
    Followed {
        /// The payout.
        payout_id: String,
    },
    /// The payout is not registered in the namespace.
    #[error(
        "payout {payout_id} not found: it is not registered here, or is older than the retention; check the ID and the \
         namespace"
    )]
    PayoutNotFound {
        /// The caller's ID.
        payout_id: String,
    },
    /// The state of the payout does not allow the act.
    #[error("payout {} not changed: {}", .payout.payout_id, refusal_text(.refusal))]
    ActRefused {
        /// The payout.
        payout: Box<Payout>,
        /// Why.
        refusal: Refusal,
    },
    /// The idempotency key was used for another payout.
    #[error(
        "idempotency key conflicts with an earlier request: it registered payout {payout_id}; use a key of its own for each \
         payout"
    )]
    KeyReused {
        /// That payout.
        payout_id: String,
    },
    /// Some open payouts are not under review yet.
    #[error("payouts not resumed: not every open payout is under review yet; retry after a second")]
    NotReviewed,
    /// The decision does not exist in the namespace.
    #[error("decision {id} not found: it does not exist here or is older than the retention; check the id")]
    DecisionNotFound {
        /// The id.
        id: Uuid,
    },
    /// The decision has as many outcomes as are accepted, and this one changes nothing.
    #[error(
        "outcome of decision {id} not stored: it has {MAX_OUTCOMES} outcomes already; report only what changes whether its \
         payout was executed"
    )]
    OutcomesFull {
        /// The decision.
        id: Uuid,
    },
    /// The decision was superseded.
    #[error("decision superseded: {by} replaces it; override that one instead")]
    AlreadySuperseded {
        /// The decision that supersedes it.
        by: Uuid,
    },
    /// The bank is no candidate of the route.
    #[error("candidate not found: the route has no bank {bank:?}; name one of its candidates or their bankProfileID")]
    CandidateNotFound {
        /// What was given.
        bank: String,
    },
    /// The candidate cannot take the payout.
    #[error("candidate {candidate} excluded: {reason}; choose a candidate that is available")]
    CandidateExcluded {
        /// The candidate.
        candidate: String,
        /// Why.
        reason: CandidateReason,
    },
    /// A field has a value that is not accepted.
    #[error("{field} not accepted: {problem}")]
    Invalid {
        /// The field, as in the body.
        field: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The adjustment does not exist in the namespace, or has ended.
    #[error("adjustment {id} not found: it does not exist here, was deleted or has expired; list the adjustments")]
    AdjustmentNotFound {
        /// The id.
        id: Uuid,
    },
    /// The proposal does not exist in the namespace.
    #[error("proposal {id} not found: it does not exist here; list the proposals")]
    ProposalNotFound {
        /// The id.
        id: Uuid,
    },
    /// The proposal is not open any more.
    #[error("proposal {id} not open: it is {}; the next one is a new proposal", .state.as_str())]
    ProposalClosed {
        /// The id.
        id: Uuid,
        /// Its state.
        state: ProposalState,
    },
    /// More than is accepted.
    #[error("too many {what}: at most {limit} are accepted; remove some, or send them in parts")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
    /// The ledger does not take or answer the call now.
    #[error("decisions unavailable: {cause}; retry after a second with the same body: nothing is decided twice")]
    Unavailable {
        /// Why.
        cause: UnavailableCause,
        /// When to try again.
        retry_after: Duration,
    },
    /// The audit is being verified for another call.
    #[error("verification not started: this replica verifies the audit for another call; retry when it has ended")]
    Verifying,
    /// Another simulation is running: one at a time reads the audit.
    #[error("simulation not started: this replica runs another one; retry when it has ended")]
    Simulating,
    /// A stored decision cannot be explained.
    #[error("decision {id} not replayable: {problem}; run busbar audit verify")]
    Unreplayable {
        /// The decision.
        id: Uuid,
        /// Why.
        problem: ReplayProblem,
    },
    /// What was decided cannot be stored: a defect.
    #[error("decision not recorded: {0}; report it with the request ID")]
    Defect(&'static str),
}

/// Why the ledger does not take a call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum UnavailableCause {
    /// The queue of decisions is full.
    QueueFull,
    /// The ledger failed.
    Ledger,
    /// The process is shutting down.
    Closing,
}

impl std::fmt::Display for UnavailableCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the queue of the ledger is full",
            Self::Ledger => "the ledger did not store or answer the call",
            Self::Closing => "this replica is shutting down",
        })
    }
}

/// Why a stored decision cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ReplayProblem {
    /// The stored record or snapshot cannot be read.
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
    /// The ledger has no such snapshot.
    #[error("its snapshot is not stored")]
    SnapshotMissing,
    /// Replaying it gives another result.
    #[error(transparent)]
    Replay(ReplayError),
}

/// That no bank of a route can take a payout.
#[derive(Clone, Debug)]
pub struct NoBank {
    /// Why each candidate is excluded; `None` if the route is suspended.
    pub evaluation: Option<Evaluation>,
    /// Whether the payout is held (`whenNoneAvailable: Hold`, or a bank does not run here yet); else it is rejected.
    pub holds: bool,
    /// When a bank may be available again, at the earliest.
    pub retry_after: Duration,
    /// The route.
    pub route: ObjectKey,
    /// What was evaluated; `None` if the route is suspended.
    pub snapshot: Option<Arc<SealedSnapshot>>,
}

impl std::fmt::Display for NoBank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cause = if self.evaluation.is_some() { "every candidate is excluded" } else { "the route is suspended" };
        let next =
            if self.holds { "hold the payout and retry" } else { "the payout is rejected per whenNoneAvailable" };
        write!(f, "no bank available on route {}: {cause}; {next}", self.route)
    }
}

impl RoutingError {
    /// The ledger failed; logged here, because the answer does not say how.
    pub(crate) fn ledger(operation: &'static str, error: &LedgerError) -> Self {
        tracing::warn!(%error, operation, "ledger call of a decision failed; the caller retries");
        Self::unavailable(UnavailableCause::Ledger)
    }

    /// The ledger does not take the call.
    pub(crate) const fn unavailable(cause: UnavailableCause) -> Self {
        Self::Unavailable { cause, retry_after: LEDGER_RETRY_AFTER }
    }
}

/// Why an act is refused, and what to do.
fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Gate(unresolved) => format!("{unresolved}; read the payout"),
        Refusal::Payout { reason } => {
            let remedy = reason.remedy();
            let remedy = if remedy == "None." { "Read the payout" } else { remedy };
            format!("{}; {}", clause(reason.meaning()), clause(remedy))
        }
    }
}

/// A sentence as a part of another one.
fn clause(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut letters = sentence.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn route_not_found(namespace: &str, route: Option<&str>) -> String {
    match route {
        Some(route) => format!(
            "route not found: {namespace}/{route} does not exist in this replica's namespaces; check namespace and route"
        ),
        None => format!(
            "route not found: no route in {namespace} applies to the payout; name a route, or extend spec.match of one"
        ),
    }
}
