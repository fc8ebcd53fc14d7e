//! Carries out what follows from acts on payouts: asks banks, stores what they answer, and goes on with what follows
//! from that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::metrics::FollowMetrics;
use crate::clock::Clock;
use crate::domain::fair_shares::{FairLimits, WhenFull};
use crate::domain::key::ObjectKey;
use crate::domain::payout::{Applied, Effect, HoldReason, Payout, PayoutInput, apply, payout_events};
use crate::ledger::decisions::outcome::EntryOutcome;
use crate::ledger::payouts::{PayoutAct, PayoutCall, PayoutCommit, PayoutOutcome, StoredPayout};
use crate::ledger::{Ledger, LedgerError};
use crate::provider::fair_semaphore::FairSemaphore;
use crate::provider::payouts::{BankAnswer, NextAttempts, PayoutBanks, PayoutMetrics};
use crate::tasks::TaskGroup;

/// Who acts, in the audit.
const SUBJECT: &str = "busbar";
/// Calls of one bank at the same time, and of all.
const CALLS: FairLimits =
    FairLimits { total: 256, per_namespace: usize::MAX, per_connection: 16, when_full: WhenFull::FairShares };
/// What may follow from one act: an answer, a recall, its answer, a proposal; it ends by itself.
const MAX_FOLLOW_UPS: usize = 32;
/// How often an answer is applied anew because another act came first.
const MAX_CONFLICTS: usize = 16;
/// How often the ledger is tried.
const LEDGER_TRIES: u32 = 5;
/// Delay before the second try; it doubles.
const LEDGER_DELAY: Duration = Duration::from_millis(250);

/// What the following of payouts depends on.
pub struct PayoutDeps {
    /// The banks.
    pub banks: Arc<dyn PayoutBanks>,
    /// Source of time.
    pub clock: Clock,
    /// What becomes of payouts is counted here.
    pub counts: PayoutMetrics,
    /// Where payouts are stored.
    pub ledger: Arc<dyn Ledger>,
    /// Decides further attempts.
    pub next: Arc<dyn NextAttempts>,
    /// Where calls run.
    pub tasks: TaskGroup,
}

/// Carries out effects. Clones share the limits.
#[derive(Clone)]
pub(super) struct EffectRunner {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Clock,
    banks: Arc<dyn PayoutBanks>,
    next: Arc<dyn NextAttempts>,
    calls: FairSemaphore,
    pub(super) counts: PayoutMetrics,
    pub(super) metrics: FollowMetrics,
}

/// Something to carry out.
struct Pending {
    payout: Arc<Payout>,
    effect: Effect,
}

/// Whether a call may still be sent: asked right before it is.
pub(super) type MaySend<'a> = &'a (dyn Fn() -> bool + Sync);

impl EffectRunner {
    pub(super) fn new(deps: PayoutDeps, metrics: FollowMetrics) -> Self {
        let PayoutDeps { banks, clock, counts, ledger, next, tasks: _ } = deps;
        Self { ledger, clock, banks, next, calls: FairSemaphore::new(CALLS), counts, metrics }
    }

    /// Carries out the effects of an act that is stored, and those of what the banks answer. Returns when there is
    /// something to be done about the payout next.
    pub(super) async fn run(&self, payout: Payout, effects: Vec<Effect>, may_send: MaySend<'_>) -> Option<Timestamp> {
        let payout = Arc::new(payout);
        let all = |payout: &Arc<Payout>, effects: Vec<Effect>| -> VecDeque<Pending> {
            effects.into_iter().map(|effect| Pending { payout: Arc::clone(payout), effect }).collect()
        };
        let mut pending = all(&payout, effects);
        let mut next_action = payout.next_action();
        for _ in 0..MAX_FOLLOW_UPS {
            let Some(Pending { payout, effect }) = pending.pop_front() else { return next_action };
            let applied = match effect {
                Effect::Inquire { attempt_no } => self.ask(PayoutCall::Inquiry, &payout, attempt_no, may_send).await,
                Effect::Recall { attempt_no } => self.ask(PayoutCall::Recall, &payout, attempt_no, may_send).await,
                Effect::ProposeReroute { attempt_no } => {
                    self.next.decide(&payout, attempt_no).await;
                    None
                }
                Effect::Page { reason } => {
                    self.page(&payout, reason);
                    None
                }
                // Stored with the act.
                Effect::Freeze | Effect::Emit(_) | Effect::Audit => None,
            };
            if let Some(Applied { payout, effects, .. }) = applied {
                next_action = payout.next_action();
                pending.append(&mut all(&Arc::new(payout), effects));
            }
        }
        if !pending.is_empty() {
            tracing::error!(payout_id = payout.payout_id, "too many steps follow from one act on a payout; report it");
        }
        next_action
    }

    fn page(&self, payout: &Payout, reason: HoldReason) {
        self.metrics.paged(reason);
        tracing::error!(
            namespace = payout.namespace,
            payout_id = payout.payout_id,
            reason = reason.as_str(),
            "payout needs a person at once: {}; {}",
            reason.meaning(),
            reason.remedy()
        );
    }

    /// Asks the bank of an attempt, whose intent is stored, and stores the answer.
    async fn ask(&self, call: PayoutCall, payout: &Payout, attempt_no: u32, may_send: MaySend<'_>) -> Option<Applied> {
        let attempt = payout.attempt(attempt_no)?;
        let bank = ObjectKey::new(payout.namespace.as_str(), attempt.plan.bank.as_str());
        let _permit = self.calls.acquire(&bank).await;
        // The lease may have been lost since the intent was stored: its new holder asks then.
        if !may_send() {
            return None;
        }
        let answer = self.banks.ask(call, payout, attempt).await;
        self.metrics.called(call, answer.report);
        self.store(payout, attempt_no, &answer).await
    }

    /// Stores what a bank answered. An answer that cannot be stored is lost: the bank is asked again when the next
    /// question is due.
    async fn store(&self, payout: &Payout, attempt_no: u32, answer: &BankAnswer) -> Option<Applied> {
        let BankAnswer { report, evidence } = answer;
        let input = PayoutInput::Report { attempt_no, report: *report, evidence: evidence.clone() };
        for _ in 0..MAX_CONFLICTS {
            let stored = self.load(&payout.namespace, &payout.payout_id).await?;
            let now = self.clock.now().wall;
            let applied = apply(&stored.payout, &input, now);
            if let Some(refusal) = &applied.refused {
                tracing::warn!(payout_id = payout.payout_id, %refusal, "answer of a bank not applied");
                return None;
            }
            match self.commit(commit_of(PayoutAct::Report, &stored, &applied, now)).await? {
                EntryOutcome::Payout(PayoutOutcome::Stored { .. }) => {
                    self.counts.count(PayoutAct::Report, Some(&stored.payout), &applied, now);
                    return Some(applied);
                }
                EntryOutcome::Payout(PayoutOutcome::Changed(_)) => {}
                outcome => {
                    let defect = defect(&outcome);
                    tracing::error!(payout_id = payout.payout_id, defect, "answer of a bank not stored; report it");
                    return None;
                }
            }
        }
        tracing::warn!(
            payout_id = payout.payout_id,
            "answer of a bank not stored: other acts came first; asking again"
        );
        None
    }

    async fn load(&self, namespace: &str, payout_id: &str) -> Option<StoredPayout> {
        let mut delay = LEDGER_DELAY;
        for _ in 0..LEDGER_TRIES {
            match self.ledger.payout(namespace, payout_id).await {
                Ok(stored) => return stored,
                Err(error) => self.backoff("reading a payout failed", &error, &mut delay).await,
            }
        }
        None
    }

    /// Commits. The same is committed again after a failure, so that it is stored once.
    async fn commit(&self, commit: PayoutCommit) -> Option<EntryOutcome> {
        let mut delay = LEDGER_DELAY;
        for _ in 0..LEDGER_TRIES {
            match self.ledger.commit_payout(commit.clone()).await {
                Ok(outcome) => return Some(outcome),
                Err(error) => self.backoff("storing the answer of a bank failed", &error, &mut delay).await,
            }
        }
        None
    }

    async fn backoff(&self, what: &str, error: &LedgerError, delay: &mut Duration) {
        self.metrics.failed();
        tracing::warn!(%error, "{what}; retrying with backoff");
        self.clock.sleep_until(self.clock.mono() + *delay).await;
        *delay *= 2;
    }
}

/// The commit of what `applied` says of a stored payout, with its events.
pub(super) fn commit_of(act: PayoutAct, stored: &StoredPayout, applied: &Applied, at: Timestamp) -> PayoutCommit {
    let commit = PayoutCommit::new(act, SUBJECT, stored.version, applied, at);
    // What belongs to one payout is found by the ID of its first attempt.
    let correlation_id = applied.payout.attempts.first().map(|first| first.attempt_id).unwrap_or_default();
    let events = payout_events(commit.version(), applied, correlation_id);
    commit.with_events(events)
}

/// What is wrong with a commit that was not stored, without anything of the payout.
pub(super) const fn defect(outcome: &EntryOutcome) -> &'static str {
    match outcome {
        EntryOutcome::Payout(PayoutOutcome::Invalid(defect)) => defect,
        EntryOutcome::Unresolved(_) => "the gate refused an attempt that the commit does not have",
        _ => "unexpected outcome",
    }
}
