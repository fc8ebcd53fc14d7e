//! What callers do to a followed payout, or report of it: applied to the payout as stored, and committed.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::decision::OutcomeClass;
use crate::domain::payout::{Applied, BankReport, Evidence, EvidenceSource, PayoutInput, apply, payout_events};
use crate::ledger::decisions::{EntryOutcome, NewEntry, StoredDecision};
use crate::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, StoredPayout};
use crate::provider::payouts::{PayoutFollower, PayoutMetrics};
use crate::routing::error::{RoutingError, UnavailableCause};
use crate::routing::payouts::attempt::MAX_ROUNDS;
use crate::routing::service::{Actor, DecisionService};

/// An act on a payout.
#[derive(Clone, Debug)]
pub struct PayoutRequest {
    /// What is done, for the record.
    pub act: PayoutAct,
    /// What is done.
    pub input: PayoutInput,
    /// Namespace of the payout.
    pub namespace: String,
    /// The caller's ID of the payout.
    pub payout_id: String,
    /// Why, in the caller's words.
    pub reason: Option<String>,
}

impl DecisionService {
    /// Has `follower` carry out what follows from acts, from now on. Without one it is left to the clock. The first one
    /// stays.
    pub fn set_follower(&self, follower: Arc<dyn PayoutFollower>) {
        if self.payouts.follower.set(follower).is_err() {
            tracing::error!("a second follower of payouts was set and ignored: this is a bug");
        }
    }

    /// The counters of payouts, for the clock.
    pub fn payout_metrics(&self) -> PayoutMetrics {
        self.payouts.metrics.clone()
    }

    /// Applies an act, stores what becomes of the payout, and has carried out what follows. Returns the payout as it is
    /// then.
    ///
    /// # Errors
    /// If the payout does not exist, the act is refused, or the ledger does not store it.
    pub async fn act(&self, request: &PayoutRequest, actor: &Actor) -> Result<StoredPayout, RoutingError> {
        let stored = self.get_payout(&request.namespace, &request.payout_id).await?;
        self.act_on(stored, request, actor).await
    }

    /// The same, on the payout as it was just read.
    ///
    /// # Errors
    /// As of [`act`](Self::act).
    pub async fn act_on(
        &self,
        mut stored: StoredPayout,
        request: &PayoutRequest,
        actor: &Actor,
    ) -> Result<StoredPayout, RoutingError> {
        let correlation = actor.request_id.unwrap_or_else(Uuid::new_v4);
        for _ in 0..MAX_ROUNDS {
            let now = self.clock.now().wall;
            let applied = apply(&stored.payout, &request.input, now);
            if let Some(refusal) = applied.refused {
                return Err(RoutingError::ActRefused { payout: Box::new(stored.payout), refusal });
            }
            let version = stored.version.saturating_add(1);
            let commit = PayoutCommit::new(request.act, &*actor.subject, stored.version, &applied, now)
                .with_events(payout_events(version, &applied, correlation))
                .requested(actor.request_id, request.reason.clone());
            match self.queue.commit(NewEntry::Payout(Box::new(commit))).await? {
                EntryOutcome::Payout(PayoutOutcome::Stored { version, .. }) => {
                    self.payouts.metrics.count(request.act, Some(&stored.payout), &applied, now);
                    self.follow(&applied);
                    return Ok(StoredPayout { payout: applied.payout, updated_at: now, version, ..stored });
                }
                EntryOutcome::Payout(PayoutOutcome::Changed(Some(changed))) => stored = *changed,
                EntryOutcome::Payout(PayoutOutcome::Changed(None)) => {
                    return Err(RoutingError::PayoutNotFound { payout_id: stored.payout.payout_id });
                }
                EntryOutcome::PayoutsSuspended => return Err(RoutingError::PayoutsSuspended),
                _ => return Err(RoutingError::Defect("the ledger answered an act with the outcome of another entry")),
            }
        }
        Err(RoutingError::unavailable(UnavailableCause::Ledger))
    }

    /// Reports an outcome of a decision to the payout that is followed with it, if there is one; `seq` is its entry in the
    /// audit. The same report again changes nothing.
    pub(crate) async fn report_to_payout(
        &self,
        decision: &StoredDecision,
        class: OutcomeClass,
        at: Option<Timestamp>,
        seq: u64,
        actor: &Actor,
    ) -> Result<(), RoutingError> {
        let Some(report) = BankReport::from_outcome(class) else { return Ok(()) };
        let found = self.ledger.payout_by_attempt(decision.id).await;
        let Some(stored) = found.map_err(|error| RoutingError::ledger("reading a payout", &error))? else {
            return Ok(());
        };
        let attempt = stored.payout.attempts.iter().find(|attempt| attempt.plan.decision_id == decision.id);
        let Some(attempt) = attempt else { return Ok(()) };
        let at = at.unwrap_or_else(|| self.clock.now().wall);
        let evidence = reported(seq, at, &actor.subject);
        let request = PayoutRequest {
            act: PayoutAct::Report,
            input: PayoutInput::Report { attempt_no: attempt.plan.attempt_no, report, evidence },
            namespace: stored.payout.namespace.clone(),
            payout_id: stored.payout.payout_id.clone(),
            reason: None,
        };
        self.act_on(stored, &request, actor).await.map(|_| ())
    }

    /// Hands what follows from a stored act to the follower.
    pub(crate) fn follow(&self, applied: &Applied) {
        if let Some(follower) = self.payouts.follower.get().filter(|_| !applied.effects.is_empty()) {
            follower.follow(&applied.payout, &applied.effects);
        }
    }
}

/// Evidence that is an outcome: the entry of the audit that holds it is its message.
pub(super) fn reported(seq: u64, at: Timestamp, subject: &str) -> Evidence {
    Evidence::new(EvidenceSource::Submitter, at).by(subject).referenced(format!("audit entry {seq}"))
}
