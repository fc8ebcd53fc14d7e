//! Which bank of a route takes a payout, and why: the same evaluation as the operator's, on assumptions. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::api::v1alpha1::provider_connection::{CircuitStatus, HealthCheckMode, HealthStatus};
use crate::api::v1alpha1::{BankRoute, ProviderConnection};
use crate::domain::breaker::EffectiveState;
use crate::domain::key::ObjectKey;
use crate::domain::money::Currency;
use crate::domain::route::{
    Candidate, CandidateHealth, CandidateReason, Cost, Evaluation, Payout, StandingState, evaluate,
};
use crate::domain::window::WindowPosition;
use crate::explain::manifests::find;
use crate::resolve::bank_route::RouteCandidate;
use crate::resolve::{SpecError, bank_route, maintenance_windows};

/// Where the connections come from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectionSource {
    /// Manifests: what they do not say is assumed to be well.
    Manifests,
    /// The cluster: their status counts.
    Cluster,
}

/// What is asked, besides what the route says.
#[derive(Clone, Debug)]
pub struct Question {
    /// Amount, if not that of the reference payout.
    pub amount: Option<Decimal>,
    /// Currency, if not that of the reference payout.
    pub currency: Option<Currency>,
    /// Country, if not that of the reference payout.
    pub country: Option<String>,
    /// Rail, if not that of the reference payout.
    pub rail: Option<String>,
    /// The merchant.
    pub merchant: Option<String>,
    /// Candidates whose circuit is assumed to be open.
    pub down: Vec<String>,
    /// Success rates in parts per million, by candidate.
    pub success: BTreeMap<String, u32>,
    /// The time of the decision.
    pub at: Timestamp,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct RouteChoice {
    /// The payout.
    pub payout: Payout,
    /// The time of the decision.
    pub at: Timestamp,
    /// The choice.
    pub evaluation: Evaluation,
    /// What else to know: fields that are ignored, names that do not exist.
    pub notes: Vec<String>,
}

/// Evaluates `route` for a payout.
///
/// # Errors
/// If the spec is invalid.
pub fn choose(
    route: &BankRoute,
    connections: &[Arc<ProviderConnection>],
    source: ConnectionSource,
    question: &Question,
) -> Result<RouteChoice, SpecError> {
    let resolved = bank_route(&route.spec)?;
    let reference = &resolved.reference;
    let payout = Payout {
        amount: question.amount.unwrap_or(reference.amount),
        currency: question.currency.unwrap_or(reference.currency),
        country: question.country.clone().or_else(|| reference.country.clone()),
        rail: question.rail.clone().or_else(|| reference.rail.clone()),
        merchant: question.merchant.clone(),
    };
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let candidates = route.spec.candidates.iter().zip(&resolved.candidates).map(|(wire, resolved)| {
        let key = ObjectKey::new(namespace, &*wire.connection_ref.name);
        candidate(resolved, find(connections, &key).as_deref(), source, question)
    });
    let candidates: Vec<_> = candidates.collect::<Result<_, SpecError>>()?;
    let known = |name: &String| candidates.iter().any(|candidate| candidate.name == *name);
    let asked = question.down.iter().chain(question.success.keys());
    let mut notes: Vec<_> =
        asked.filter(|name| !known(name)).map(|name| format!("no candidate is named {name:?}")).collect();
    let unknown = resolved.unknown_candidates.iter();
    notes.extend(unknown.map(|field| format!("spec.{field} names no candidate and is ignored")));
    notes.extend(resolved.unused_fields.iter().map(|field| format!("spec.{field} is not used by this version")));
    if route.spec.suspend {
        notes.push("spec.suspend is true: the route accepts no payouts".to_owned());
    }
    let evaluation = evaluate(&payout, &resolved.rules, &candidates, None, question.at);
    Ok(RouteChoice { payout, at: question.at, evaluation, notes })
}

/// A candidate with what is known or assumed of its connection.
fn candidate(
    resolved: &RouteCandidate,
    connection: Option<&ProviderConnection>,
    source: ConnectionSource,
    question: &Question,
) -> Result<Candidate, SpecError> {
    let mut candidate = resolved.candidate.clone();
    let windows = &resolved.accept_windows;
    candidate.cut_off = !windows.is_empty() && !WindowPosition::at(windows, question.at).is_inside();
    candidate.success = question.success.get(&candidate.name).copied();
    candidate.circuit = match (connection, source) {
        (None, ConnectionSource::Cluster) => None,
        (Some(connection), ConnectionSource::Cluster) => Some(circuit(connection, &mut candidate)),
        (_, ConnectionSource::Manifests) => Some(EffectiveState::Closed),
    };
    if let Some(connection) = connection {
        candidate.suspended = connection.spec.suspend;
        let windows = maintenance_windows(&connection.spec)?;
        if !candidate.suspended && WindowPosition::at(&windows, question.at).is_inside() {
            candidate.exclusion = Some(CandidateReason::Maintenance);
        }
    }
    if question.down.contains(&candidate.name) && candidate.circuit.is_some() {
        candidate.circuit = Some(EffectiveState::Open);
        candidate.health = CandidateHealth::Usable;
    }
    Ok(candidate)
}

/// The circuit by the status of the connection; sets the candidate's health.
fn circuit(connection: &ProviderConnection, candidate: &mut Candidate) -> EffectiveState {
    let status = connection.status.as_ref();
    let passive = connection.spec.health_check.as_ref().and_then(|check| check.mode) == Some(HealthCheckMode::Passive);
    let unhealthy = status.is_some_and(|status| status.health == Some(HealthStatus::Unhealthy));
    let passed = status.and_then(|status| status.passed_check.as_ref()).is_some_and(|check| check.passed);
    candidate.health = CandidateHealth::of(unhealthy, passed, passive);
    match status.and_then(|status| status.circuit) {
        None | Some(CircuitStatus::Closed) => EffectiveState::Closed,
        Some(CircuitStatus::HalfOpen) => EffectiveState::HalfOpen,
        Some(CircuitStatus::Open) => EffectiveState::Open,
        Some(CircuitStatus::ForcedOpen) => EffectiveState::ForcedOpen,
        Some(CircuitStatus::ForcedClosed) => EffectiveState::ForcedClosed,
        Some(CircuitStatus::Shadow) => EffectiveState::Shadow,
    }
}

impl RouteChoice {
    /// The banks in the order of their rank: the chosen one, the others by cost, the excluded ones.
    pub fn ranked(&self) -> Vec<&crate::domain::route::CandidateStanding> {
        let mut ranked: Vec<_> = self.evaluation.standings.iter().collect();
        ranked.sort_by_key(|standing| {
            let place = match standing.state {
                StandingState::Preferred => 0,
                StandingState::Standby => 1,
                StandingState::Fallback => 2,
                StandingState::Excluded => 3,
            };
            (place, standing.cost.is_none(), standing.cost.map(|cost| cost.total), standing.name.as_str())
        });
        ranked
    }

    /// As JSON: amounts are decimal texts.
    pub fn json(&self) -> Value {
        let terms = |cost: Cost| {
            let Cost { fee, fx, retry, health, delay, weight, total } = cost;
            let text = |amount: Decimal| amount.normalize().to_string();
            json!({
                "fee": text(fee), "fx": text(fx), "retry": text(retry), "health": text(health), "delay": text(delay),
                "weight": text(weight), "total": text(total),
            })
        };
        let candidates: Vec<_> = self
            .ranked()
            .into_iter()
            .map(|standing| {
                json!({
                    "name": standing.name,
                    "state": state_name(standing.state),
                    "reason": standing.reason.as_str(),
                    "cost": standing.cost.map(terms),
                })
            })
            .collect();
        json!({
            "payout": {
                "amount": self.payout.amount.to_string(), "currency": self.payout.currency.as_str(),
                "country": self.payout.country, "rail": self.payout.rail, "merchant": self.payout.merchant,
            },
            "at": self.at.to_string(),
            "active": self.evaluation.active,
            "candidates": candidates,
            "notes": self.notes,
        })
    }
}

/// The state as in `status.candidates[].state`.
pub fn state_name(state: StandingState) -> &'static str {
    match state {
        StandingState::Preferred => "Preferred",
        StandingState::Standby => "Standby",
        StandingState::Fallback => "Fallback",
        StandingState::Excluded => "Excluded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Manifests;

    const MANIFESTS: &str = r#"
apiVersion: busbar.dev/v1alpha1
kind: ProviderConnection
metadata: {name: b}
spec:
  provider: generic
  environment: Sandbox
  endpoint: {baseURL: "https://b.example"}
  maintenance: [{name: m, startTime: "2026-12-01T00:00:00Z", endTime: "2026-12-02T00:00:00Z"}]
---
apiVersion: busbar.dev/v1alpha1
kind: BankRoute
metadata: {name: payouts}
spec:
  referenceCurrency: USD
  candidates:
    - {name: a, connectionRef: {name: a}, fees: [{name: all, basisPoints: "50", fixed: "0.30"}]}
    - {name: b, connectionRef: {name: b}, fees: [{name: all, basisPoints: "40", fixed: "1.00"}]}
"#;

    fn question() -> Question {
        Question {
            amount: None,
            currency: None,
            country: None,
            rail: None,
            merchant: None,
            down: Vec::new(),
            success: BTreeMap::new(),
            at: "2026-11-29T12:00:00Z".parse().unwrap(),
        }
    }

    fn chosen(source: ConnectionSource, question: &Question) -> RouteChoice {
        let (manifests, _) = Manifests::read("test", MANIFESTS, "payments").unwrap();
        choose(&manifests.routes[0], &manifests.connections, source, question).unwrap()
    }

    fn reasons(choice: &RouteChoice) -> Vec<(&str, &str)> {
        choice.ranked().iter().map(|standing| (standing.name.as_str(), standing.reason.as_str())).collect()
    }

    #[test]
    fn the_cheapest_available_bank_is_explained_with_its_terms() {
        let choice = chosen(ConnectionSource::Manifests, &question());
        assert_eq!(reasons(&choice), [("b", "LowestCost"), ("a", "HigherCost")]);
        let json = choice.json();
        // 5 % failures: 1 % of 1000 and 10 USD, times 0.05.
        let terms =
            json!({"fee": "5", "fx": "0", "retry": "0.5", "health": "0.5", "delay": "0", "weight": "1", "total": "6"});
        assert_eq!(json["candidates"][0]["cost"], terms);
        assert_eq!((json["active"].as_str(), &json["payout"]["amount"]), (Some("b"), &json!("1000")));
    }

    #[test]
    fn assumptions_move_the_choice_and_unknown_names_are_notes() {
        let asked = Question { down: vec!["b".into(), "x".into()], ..question() };
        let choice = chosen(ConnectionSource::Manifests, &asked);
        assert_eq!(reasons(&choice), [("a", "LowestCost"), ("b", "CircuitOpen")]);
        assert_eq!(choice.notes, [r#"no candidate is named "x""#]);
        let asked = Question { success: [("b".to_owned(), 500_000)].into(), ..question() };
        assert_eq!(chosen(ConnectionSource::Manifests, &asked).evaluation.active.as_deref(), Some("a"));
        let asked = Question { at: "2026-12-01T12:00:00Z".parse().unwrap(), ..question() };
        assert_eq!(reasons(&chosen(ConnectionSource::Manifests, &asked)), [("a", "LowestCost"), ("b", "Maintenance")]);
    }

    #[test]
    fn in_a_cluster_a_bank_counts_by_its_status() {
        let choice = chosen(ConnectionSource::Cluster, &question());
        assert_eq!(reasons(&choice), [("a", "ConnectionNotFound"), ("b", "NeverHealthy")]);
        assert_eq!(choice.evaluation.active, None);
    }
}
