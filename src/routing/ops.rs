//! What operations staff keep in the ledger: adjustments, pins and approved proposals, as decisions read them.
//!
//! Decisions read memory. A task reads the ledger each second ([`ops_refresh`](super::ops_refresh)), so that what another replica stored counts here
//! within a second; what this replica stored counts before the call is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::route::{Adjustment, Approval, Pin, PinSource, RouteRules};
use crate::ledger::decisions::{
    AdjustmentEffect, AdjustmentTarget, ProposalFilter, ProposalState, RouteAdjustment, StoredProposal,
};
use crate::ledger::{Ledger, LedgerError};
use crate::notify::{KeyQueue, Topic};
use crate::resolve::ResolvedRoute;
use crate::resolve::bank_route::RouteCandidate;
use crate::routing::source::RouteSource;

/// What the ledger holds at one instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpsRules {
    /// Changes with the content: equal versions are equal rules. 0 before the ledger was read.
    pub(crate) version: u64,
    /// Newest first.
    adjustments: Vec<RouteAdjustment>,
    /// The latest approval of each route.
    approvals: BTreeMap<ObjectKey, Approval>,
}

/// The rules in force. Clones share them.
#[derive(Clone)]
pub(crate) struct OpsState {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    rules: Arc<RwLock<Arc<OpsRules>>>,
    /// Serializes readings of the ledger: an older reading never replaces a newer one.
    reading: Arc<tokio::sync::Mutex<()>>,
    changes: Arc<Topic<ObjectKey>>,
    pub(super) routes: Arc<dyn RouteSource>,
}

impl OpsState {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, clock: Clock, routes: Arc<dyn RouteSource>) -> Self {
        Self { ledger, clock, rules: Arc::default(), reading: Arc::default(), changes: Arc::default(), routes }
    }

    /// The rules in force.
    pub(crate) fn current(&self) -> Arc<OpsRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rules in force; reads the ledger if it was not read yet, because a pin must not be missed after a restart.
    pub(crate) async fn loaded(&self) -> Result<Arc<OpsRules>, LedgerError> {
        let current = self.current();
        if current.version > 0 {
            return Ok(current);
        }
        self.refresh().await?;
        Ok(self.current())
    }

    /// The routes whose rules change from now on.
    pub(crate) fn subscribe(&self) -> Arc<KeyQueue<ObjectKey>> {
        self.changes.subscribe()
    }

    /// Reports that something else of the route `key` was stored, such as that a proposal was rejected.
    pub(crate) fn publish(&self, key: &ObjectKey) {
        self.changes.publish(key);
    }

    /// Reads the ledger and puts what it holds in force.
    pub(crate) async fn refresh(&self) -> Result<(), LedgerError> {
        let _reading = self.reading.lock().await;
        let now = self.clock.now().wall;
        let mut adjustments = self.ledger.adjustments(None, now).await?;
        adjustments.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        let (state, approved_after) = (Some(ProposalState::Approved), Some(now));
        let filter = ProposalFilter { state, approved_after, ..ProposalFilter::default() };
        let approvals = approvals(self.ledger.proposals(&filter).await?, now);
        let before = self.current();
        if before.version > 0 && before.adjustments == adjustments && before.approvals == approvals {
            return Ok(());
        }
        let after = Arc::new(OpsRules { version: before.version + 1, adjustments, approvals });
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        for key in self.routes.keys().iter().filter(|key| before.differs(&after, key)) {
            self.changes.publish(key);
        }
        Ok(())
    }
}

/// The approvals in force, the latest of each route.
fn approvals(proposals: Vec<StoredProposal>, now: Timestamp) -> BTreeMap<ObjectKey, Approval> {
    let mut latest = BTreeMap::<ObjectKey, (Option<Timestamp>, Approval)>::new();
    for StoredProposal { proposal, settled_at, approved_until, .. } in proposals {
        let Some(until) = approved_until.filter(|until| now < *until) else { continue };
        let key = ObjectKey::new(&*proposal.namespace, &*proposal.route);
        let approval = Approval { candidate: proposal.to, proposal: proposal.id, until };
        if latest.get(&key).is_none_or(|(at, _)| *at < settled_at) {
            latest.insert(key, (settled_at, approval));
        }
    }
    latest.into_iter().map(|(key, (_, approval))| (key, approval)).collect()
}

impl OpsRules {
    /// The adjustments of the route `key`, newest first.
    fn of<'a>(&'a self, key: &'a ObjectKey) -> impl Iterator<Item = &'a RouteAdjustment> {
        self.adjustments.iter().filter(|one| {
            one.namespace == *key.namespace && one.route.as_deref().is_none_or(|route| route == &*key.name)
        })
    }

    fn differs(&self, other: &Self, key: &ObjectKey) -> bool {
        self.approvals.get(key) != other.approvals.get(key) || !self.of(key).eq(other.of(key))
    }

    /// The rules of the route `key`: those of its spec, and these. An adjustment whose bank the route does not have is
    /// ignored.
    pub(crate) fn merged(&self, key: &ObjectKey, route: &ResolvedRoute) -> RouteRules {
        let mut rules = route.rules.clone();
        rules.approved = self.approvals.get(key).cloned().or(rules.approved);
        for one in self.of(key) {
            for candidate in targets(&one.target, &route.candidates) {
                let (candidate, scope, until) = (candidate.to_owned(), one.scope.clone(), one.expires_at);
                match one.effect {
                    AdjustmentEffect::Weight(weight) => {
                        rules.adjustments.push(Adjustment {
                            candidate,
                            name: one.id.to_string(),
                            scope,
                            until,
                            weight,
                        });
                    }
                    AdjustmentEffect::Pin => rules.pins.push(Pin { candidate, scope, source: PinSource::Api, until }),
                }
            }
        }
        rules
    }
}

/// The names of the candidates that `target` names: several may share a bank profile. A candidate without an ID of a bank
/// profile has its name as one, unless a candidate declares that ID: then the name is only a name.
pub(crate) fn targets<'a>(
    target: &'a AdjustmentTarget,
    candidates: &'a [RouteCandidate],
) -> impl Iterator<Item = &'a str> {
    let is_declared = declares(target, candidates);
    candidates.iter().filter(move |one| is_target(target, one, is_declared)).map(|one| one.candidate.name.as_str())
}

/// Whether `target` is the ID of a bank profile that one of these candidates declares.
pub(crate) fn declares<'a>(
    target: &AdjustmentTarget,
    candidates: impl IntoIterator<Item = &'a RouteCandidate>,
) -> bool {
    let AdjustmentTarget::BankProfile(id) = target else { return false };
    candidates.into_iter().any(|one| one.bank_profile_id.as_ref() == Some(id))
}

/// Whether `target` names the candidate; `is_declared`: as [`declares`] says of all candidates that may be meant.
pub(crate) fn is_target(target: &AdjustmentTarget, one: &RouteCandidate, is_declared: bool) -> bool {
    match target {
        AdjustmentTarget::Candidate(name) => one.candidate.name == *name,
        AdjustmentTarget::BankProfile(id) => match &one.bank_profile_id {
            Some(declared) => declared == id,
            None => !is_declared && one.candidate.name == *id,
        },
    }
}
