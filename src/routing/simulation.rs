//! Replays recorded decisions against a changed route: which bank would have taken each payout, and at what cost.
//!
//! Each decision is evaluated with what was known then: the state of the connections, the adjustments of operations staff,
//! the usage of limits, the time. Only the spec is another one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;
use uuid::Uuid;

use crate::api::v1alpha1::bank_route::BankRouteSpec;
use crate::domain::decision::{
    DecisionRecord, Hash, RecordKind, SealedSnapshot, Snapshot, SnapshotCandidate, decide, replay,
};
use crate::domain::key::ObjectKey;
use crate::domain::money::Currency;
use crate::domain::route::{Candidate, Evaluation, PinSource};
use crate::domain::window::WindowPosition;
use crate::ledger::decisions::{DecisionFilter, StoredDecision};
use crate::resolve::{ResolvedRoute, bank_route};
use crate::routing::error::RoutingError;
use crate::routing::service::DecisionService;

/// Decisions of one simulation: a second of computing.
const MAX_DECISIONS: u32 = 10_000;
/// Decisions of one reading.
const PAGE: u32 = 500;
/// Readings of one simulation: a page may be short, or empty, although the audit goes on.
const MAX_PAGES: u32 = 64;
/// Snapshots that are kept meanwhile: some megabytes.
pub(super) const MAX_SNAPSHOTS: usize = 256;
/// Differences that are listed; all are counted.
const MAX_DIFFERENCES: usize = 100;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimulationRequest {
    /// Only decisions at or after this instant.
    pub from: Option<Timestamp>,
    /// How many decisions, the newest first.
    pub limit: u32,
    /// Namespace of the route.
    pub namespace: String,
    /// Name of the route.
    pub route: String,
    /// The changed spec, a `BankRouteSpec`.
    pub spec: Value,
    /// Only decisions before this instant.
    pub to: Option<Timestamp>,
}

/// What a changed route would have decided.
#[derive(Clone, Debug, Default)]
pub struct Simulation {
    /// Decisions that were simulated.
    pub decisions: u32,
    /// Those that another bank, or none, would have taken.
    pub changed: u32,
    /// Those that cannot be simulated: their record or snapshot cannot be read, or does not replay.
    pub unexplained: u32,
    /// Whether there may be more decisions in the range: the limit was reached, or the search ended.
    pub truncated: bool,
    /// The first of those that changed, the newest first.
    pub differences: Vec<SimulatedDifference>,
    /// The sums by currency, of the decisions whose cost is known before and after.
    pub costs: BTreeMap<Currency, CostComparison>,
    /// What each bank took and would have taken, by currency.
    pub banks: BTreeMap<(String, Currency), BankShare>,
}

/// A decision that would have been another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimulatedDifference {
    /// The decision.
    pub decision: Uuid,
    /// Its payout.
    pub payout_id: String,
    /// The currency of the costs.
    pub currency: Currency,
    /// The bank that took it.
    pub from: String,
    /// The bank that would have taken it; `None`: none would.
    pub to: Option<String>,
    /// Its cost, if it was known.
    pub cost_before: Option<Decimal>,
    /// What it would have cost, if that is known.
    pub cost_after: Option<Decimal>,
}

/// Costs of the same decisions.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct CostComparison {
    /// As recorded.
    pub before: Decimal,
    /// As simulated.
    pub after: Decimal,
}

/// What a bank takes of the payouts.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct BankShare {
    /// Payouts as recorded.
    pub decisions_before: u32,
    /// Payouts as simulated.
    pub decisions_after: u32,
    /// Their amount as recorded.
    pub amount_before: Decimal,
    /// Their amount as simulated.
    pub amount_after: Decimal,
}

impl DecisionService {
    /// Simulates a changed spec on recorded decisions of the route. Overrides are left out: operations staff chose them.
    ///
    /// # Errors
    /// If the spec is invalid, the ledger cannot be read, or another simulation is running: one at a time, because each
    /// reads much of the audit.
    pub async fn simulate(&self, request: SimulationRequest) -> Result<Simulation, RoutingError> {
        let permit = self.simulations.try_acquire();
        let _running = permit.map_err(|_| RoutingError::Simulating)?;
        let changed = changed_route(&request.spec)?;
        let filter = DecisionFilter {
            namespace: Some(request.namespace),
            route: Some(request.route),
            candidate: None,
            from: request.from,
            to: request.to,
        };
        let limit = request.limit.clamp(1, MAX_DECISIONS);
        let (mut simulation, mut snapshots, mut before) = (Simulation::default(), HashMap::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self.list(&filter, before, PAGE).await?;
            for stored in page.decisions {
                if stored.kind == RecordKind::Override {
                    continue;
                }
                if simulation.decisions + simulation.unexplained == limit {
                    simulation.truncated = true;
                    return Ok(simulation);
                }
                self.simulate_one(&changed, stored, &mut snapshots, &mut simulation).await?;
            }
            before = page.next;
            if before.is_none() {
                return Ok(simulation);
            }
        }
        simulation.truncated = true;
        Ok(simulation)
    }

    async fn simulate_one(
        &self,
        route: &ResolvedRoute,
        stored: StoredDecision,
        snapshots: &mut HashMap<Hash, Arc<SealedSnapshot>>,
        simulation: &mut Simulation,
    ) -> Result<(), RoutingError> {
        let recorded = match snapshots.get(&stored.snapshot) {
            Some(known) => Arc::clone(known),
            None => match self.snapshot(&stored).await {
                Ok(read) => {
                    keep(snapshots, stored.snapshot, &read);
                    read
                }
                Err(RoutingError::Unreplayable { .. }) => {
                    simulation.unexplained += 1;
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        let Ok(record) = DecisionRecord::decode(&stored.body) else {
            simulation.unexplained += 1;
            return Ok(());
        };
        let Ok(evaluation) = replay(&record, &recorded.snapshot) else {
            simulation.unexplained += 1;
            return Ok(());
        };
        let snapshot = self.changed_snapshot(&recorded.snapshot, route, record.at);
        let simulated = decide(&record.request, &snapshot, &record.usage, record.at);
        simulation.add(&record, &evaluation, &simulated);
        Ok(())
    }

    /// The recorded snapshot under the changed spec. A connection that the route did not use then is taken as it is now.
    fn changed_snapshot(&self, recorded: &Snapshot, route: &ResolvedRoute, at: Timestamp) -> Snapshot {
        let candidates = route.candidates.iter().map(|declared| {
            let mut candidate = declared.candidate.clone();
            let windows = &declared.accept_windows;
            candidate.cut_off = !windows.is_empty() && !WindowPosition::at(windows, at).is_inside();
            if let Some(known) = recorded.candidates.iter().find(|one| one.connection == declared.connection) {
                copy_state(&known.candidate, &mut candidate);
            } else {
                let key = ObjectKey::new(&*recorded.namespace, &*declared.connection);
                self.routes.connection(&key, at).apply(&mut candidate);
            }
            SnapshotCandidate {
                bank_profile_id: declared.bank_profile_id.clone(),
                candidate,
                connection: declared.connection.clone(),
                daily_limit: declared.daily_limit.clone(),
            }
        });
        let mut rules = route.rules.clone();
        let of_api = recorded.rules.pins.iter().filter(|pin| pin.source == PinSource::Api);
        rules.pins.extend(of_api.cloned());
        // An adjustment of the API has its ID as its name.
        let of_api = recorded.rules.adjustments.iter().filter(|one| Uuid::parse_str(&one.name).is_ok());
        rules.adjustments.extend(of_api.cloned());
        rules.approved.clone_from(&recorded.rules.approved);
        Snapshot {
            candidates: candidates.collect(),
            generation: recorded.generation,
            incumbent: recorded.incumbent.clone(),
            namespace: recorded.namespace.clone(),
            route: recorded.route.clone(),
            route_uid: recorded.route_uid.clone(),
            rules,
        }
    }
}

impl Simulation {
    fn add(&mut self, record: &DecisionRecord, recorded: &Evaluation, simulated: &Evaluation) {
        self.decisions += 1;
        let payout = &record.request.payout;
        let cost = |evaluation: &Evaluation, candidate: &str| {
            evaluation.standing(candidate).and_then(|standing| standing.cost).map(|cost| cost.total)
        };
        let cost_before = cost(recorded, &record.candidate);
        let cost_after = simulated.active.as_deref().and_then(|to| cost(simulated, to));
        if let (Some(before), Some(after)) = (cost_before, cost_after) {
            let sums = self.costs.entry(payout.currency).or_default();
            sums.before = sums.before.saturating_add(before);
            sums.after = sums.after.saturating_add(after);
        }
        let share = self.banks.entry((record.candidate.clone(), payout.currency)).or_default();
        share.decisions_before += 1;
        share.amount_before = share.amount_before.saturating_add(payout.amount);
        if let Some(to) = &simulated.active {
            let share = self.banks.entry((to.clone(), payout.currency)).or_default();
            share.decisions_after += 1;
            share.amount_after = share.amount_after.saturating_add(payout.amount);
        }
        if simulated.active.as_deref() == Some(&*record.candidate) {
            return;
        }
        self.changed += 1;
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(SimulatedDifference {
                decision: record.id,
                payout_id: record.request.payout_id.clone(),
                currency: payout.currency,
                from: record.candidate.clone(),
                to: simulated.active.clone(),
                cost_before,
                cost_after,
            });
        }
    }
}

/// Keeps a snapshot for the decisions that follow. Where there are too many, those of the newest decisions are done with.
pub(super) fn keep(snapshots: &mut HashMap<Hash, Arc<SealedSnapshot>>, id: Hash, snapshot: &Arc<SealedSnapshot>) {
    if snapshots.len() >= MAX_SNAPSHOTS {
        snapshots.clear();
    }
    snapshots.insert(id, Arc::clone(snapshot));
}

/// Copies what was known of the connection.
fn copy_state(known: &Candidate, candidate: &mut Candidate) {
    candidate.circuit = known.circuit;
    candidate.health = known.health;
    candidate.suspended = known.suspended;
    candidate.exclusion = known.exclusion;
    candidate.success = known.success;
    candidate.predictions.clone_from(&known.predictions);
}

/// What the changed spec comes to.
fn changed_route(spec: &Value) -> Result<ResolvedRoute, RoutingError> {
    let invalid = |problem: String| RoutingError::Invalid { field: "spec", problem };
    let parsed: BankRouteSpec = serde_json::from_value(spec.clone())
        .map_err(|error| invalid(format!("is no spec of a BankRoute: {error}; see kubectl explain broute.spec")))?;
    let known = serde_json::to_value(&parsed).unwrap_or_default();
    if let Some(field) = unknown_field("spec", spec, &known) {
        return Err(invalid(format!("has an unknown field {field}; see kubectl explain broute.spec")));
    }
    bank_route(&parsed).map_err(|error| invalid(format!("cannot be used: {}", error.message)))
}

/// The first field of `given` that was not read into `known`: the API server would refuse or drop it.
fn unknown_field(path: &str, given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match known.get(name) {
                Some(inner) => unknown_field(&path, value, inner),
                None if value.is_null() => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            let mut pairs = given.iter().zip(known).enumerate();
            pairs.find_map(|(index, (given, known))| unknown_field(&format!("{path}[{index}]"), given, known))
        }
        _ => None,
    }
}
