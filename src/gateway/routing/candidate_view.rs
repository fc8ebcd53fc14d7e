//! The candidates of a choice as the API prints them: who was chosen, who could take the payout too, who could not and why.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::breaker::EffectiveState;
use crate::domain::canonical;
use crate::domain::decision::{SealedSnapshot, SnapshotCandidate};
use crate::domain::route::{
    CandidatePrediction, CandidateReason, CandidateStanding, Cost, Evaluation, StandingState, Tier,
};

/// A candidate of a choice.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateView<'a> {
    /// Its name within the route.
    pub name: &'a str,
    /// `bankProfileID`: its name, if it has none.
    pub bank_profile_id: &'a str,
    /// Its connection.
    pub connection: Option<&'a str>,
    /// `Primary` or `Fallback`.
    #[schema(value_type = String)]
    pub tier: &'static str,
    /// `Preferred`, `Standby`, `Fallback` or `Excluded`.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Why it is in that state: one of the reasons of candidates.
    #[schema(value_type = String)]
    pub reason: &'static str,
    /// What the payout costs through it; null if it is excluded or the cost is unknown.
    pub cost: Option<CostView>,
    /// The success rate that the cost is computed with, from 0 to 1.
    #[schema(value_type = String)]
    pub success: Share,
    /// State of its circuit; null if the connection does not exist.
    #[schema(value_type = Option<String>)]
    pub circuit: Option<&'static str>,
    /// How the forecast was used: `Off`, `Missing`, `Stale`, `Unskilled`, `Proposing` or `Used`.
    #[schema(value_type = String)]
    pub forecast: &'static str,
    /// The predictions for it, the built-in forecast's or those of scorers; empty in mode `Reactive`.
    pub predictions: Vec<PredictionView>,
}

/// A prediction for a bank.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictionView {
    /// Only for payouts in this currency, if it names one.
    pub currency: Option<String>,
    /// Only for payouts by this rail, if it names one.
    pub rail: Option<String>,
    /// Predicted success rate, from 0 to 1.
    #[schema(value_type = String)]
    pub success: Share,
    /// Predicted risk, from 0 to 1.
    #[schema(value_type = String)]
    pub risk: Share,
    /// Weight of the prediction by its record, from 0 to 1.
    #[schema(value_type = String)]
    pub skill: Share,
    /// Whether the bank is ranked after all others because of it.
    pub demoted: bool,
    /// Predicted exchange spread in basis points of the amount, if it has one.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub expected_fx: Option<Decimal>,
    /// Predicted days until settlement, if it has them.
    #[schema(minimum = 0)]
    pub settlement_days: Option<u32>,
    /// Score of the bank from 0 to 1, if it has one.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub score: Option<Decimal>,
    /// Predicted risk of fraud from 0 to 1, if it has one; recorded and shown, never used.
    #[schema(value_type = Option<String>)]
    pub fraud_risk: Option<Share>,
    /// Until when it holds.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub valid_until: Timestamp,
}

/// A pin or an approval without effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct IneffectivePinView<'a> {
    /// The candidate.
    pub candidate: &'a str,
    /// Why it is excluded; null if the route has no such candidate.
    #[schema(value_type = Option<String>)]
    pub reason: Option<&'static str>,
    /// What pinned it: `Spec` of the route, `Api`, or `Approval` of a proposal.
    #[schema(value_type = String)]
    pub source: &'static str,
}

/// What the forecast proposes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChoiceProposalView<'a> {
    /// The bank that it proposes.
    pub candidate: &'a str,
    /// The bank whose outage is predicted.
    pub from: &'a str,
    /// Predicted risk of that bank, from 0 to 1.
    #[schema(value_type = String)]
    pub risk: Share,
    /// Until when the prediction holds.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub valid_until: Timestamp,
}

/// The costs of a payout through a bank, in the payout's currency.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostView {
    /// What the bank charges.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub fee: Decimal,
    /// Its exchange; negative is a gain.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub fx: Decimal,
    /// The expected cost of a retry.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub retry: Decimal,
    /// The expected penalty of a failure.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub health: Decimal,
    /// The cost of the days until settlement.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub delay: Decimal,
    /// The product of the adjustments that apply, from 0.1 to 10.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub weight: Decimal,
    /// All of it, weighted: what banks are ranked by.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub total: Decimal,
}

impl From<Cost> for CostView {
    fn from(cost: Cost) -> Self {
        let Cost { fee, fx, retry, health, delay, weight, total } = cost;
        Self { fee, fx, retry, health, delay, weight, total }
    }
}

impl From<&CandidatePrediction> for PredictionView {
    fn from(prediction: &CandidatePrediction) -> Self {
        Self {
            currency: prediction.currency.map(|currency| currency.to_string()),
            rail: prediction.rail.clone(),
            success: Share(prediction.success),
            risk: Share(prediction.risk),
            skill: Share(prediction.skill),
            demoted: prediction.demoted,
            expected_fx: prediction.expected_fx,
            settlement_days: prediction.settlement_days,
            score: prediction.score,
            fraud_risk: prediction.fraud_risk.map(Share),
            valid_until: prediction.valid_until,
        }
    }
}

/// A share in parts per million, printed as a decimal from 0 to 1.
#[derive(Copy, Clone, Debug)]
pub struct Share(pub u32);

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        canonical::decimal::serialize(&Decimal::new(i64::from(self.0), 6), serializer)
    }
}

/// A choice with its candidates in order.
pub(super) struct Ranking<'a> {
    /// Why the chosen bank was chosen.
    pub(super) reason: &'static str,
    pub(super) bank_profile_id: &'a str,
    pub(super) fallbacks: Vec<&'a str>,
    pub(super) candidates: Vec<CandidateView<'a>>,
    pub(super) ineffective_pins: Vec<IneffectivePinView<'a>>,
    pub(super) proposal: Option<ChoiceProposalView<'a>>,
}

impl<'a> Ranking<'a> {
    /// What `evaluation` says of the banks of `snapshot`, of which `chosen` was chosen.
    pub(super) fn new(evaluation: &'a Evaluation, snapshot: &'a SealedSnapshot, chosen: &'a str) -> Self {
        let ranked = evaluation.ranked();
        let is_fallback = |one: &&&CandidateStanding| one.state != StandingState::Excluded && one.name != chosen;
        let pins = evaluation.ineffective_pins.iter().map(|pin| IneffectivePinView {
            candidate: &pin.candidate,
            reason: pin.reason.map(CandidateReason::as_str),
            source: pin.source.as_str(),
        });
        Self {
            reason: evaluation.standing(chosen).map_or("", |standing| standing.reason.as_str()),
            bank_profile_id: bank_profile_id(chosen, snapshot.snapshot.candidate(chosen)),
            fallbacks: ranked.iter().filter(is_fallback).map(|standing| &*standing.name).collect(),
            candidates: ranked.into_iter().map(|one| view(one, snapshot.snapshot.candidate(&one.name))).collect(),
            ineffective_pins: pins.collect(),
            proposal: evaluation.proposal.as_ref().map(|proposal| ChoiceProposalView {
                candidate: &proposal.candidate,
                from: &proposal.from,
                risk: Share(proposal.risk),
                valid_until: proposal.valid_until,
            }),
        }
    }
}

/// The identifier of a candidate in other systems.
fn bank_profile_id<'a>(name: &'a str, of: Option<&'a SnapshotCandidate>) -> &'a str {
    of.and_then(|of| of.bank_profile_id.as_deref()).unwrap_or(name)
}

/// One candidate.
pub(super) fn view<'a>(standing: &'a CandidateStanding, of: Option<&'a SnapshotCandidate>) -> CandidateView<'a> {
    let input = of.map(|of| &of.candidate);
    CandidateView {
        name: &standing.name,
        bank_profile_id: bank_profile_id(&standing.name, of),
        connection: of.map(|of| &*of.connection),
        tier: input.map_or("Primary", |input| match input.tier {
            Tier::Primary => "Primary",
            Tier::Fallback => "Fallback",
        }),
        state: match standing.state {
            StandingState::Preferred => "Preferred",
            StandingState::Standby => "Standby",
            StandingState::Fallback => "Fallback",
            StandingState::Excluded => "Excluded",
        },
        reason: standing.reason.as_str(),
        cost: standing.cost.map(CostView::from),
        success: Share(standing.success),
        circuit: input.and_then(|input| input.circuit).map(EffectiveState::as_str),
        forecast: standing.forecast.as_str(),
        predictions: input.into_iter().flat_map(|input| &input.predictions).map(PredictionView::from).collect(),
    }
}
