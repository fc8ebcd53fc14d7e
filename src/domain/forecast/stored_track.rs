//! The stored form of external predictions: what outlives a restart. Pure.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::external::{ExternalPrediction, PredictedBank, PredictionScope};
use super::hold_down::HoldDown;
use super::skill::Matured;
use crate::domain::ppm::Ppm;
use crate::domain::time::Mono;

/// The tracks of one source about one bank.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredTracks {
    /// The bank and the source.
    pub about: PredictedBank,
    /// One for each scope.
    pub tracks: Vec<StoredTrack>,
}

impl StoredTracks {
    /// The body to store.
    pub fn body(&self) -> Vec<u8> {
        // Structs of strings and numbers always serialize.
        serde_json::to_vec(&self.tracks).unwrap_or_default()
    }

    /// From a stored body; `None` if it is none.
    pub fn from_body(about: PredictedBank, body: &[u8]) -> Option<Self> {
        Some(Self { about, tracks: serde_json::from_slice(body).ok()? })
    }
}

/// One track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredTrack {
    scope: PredictionScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest: Option<StoredPrediction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usable_until: Option<Timestamp>,
    /// Matured predictions, oldest first.
    matured: Vec<StoredMatured>,
    /// The hold-down with the newest prediction in it; absent in what earlier versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<StoredHold>,
}

/// The hold-down of a predicted outage.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct StoredHold {
    /// Nanoseconds since 1970 since when an outage is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// Predictions in a row that contradict the state.
    contradictions: u8,
}

/// The newest prediction; ratios in parts per million.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct StoredPrediction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected_fx: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fraud_risk: Option<u32>,
    issued_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    risk: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settlement_days: Option<u32>,
    success: u32,
    valid_from: Timestamp,
    valid_until: Timestamp,
}

/// A matured prediction, in parts per million.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct StoredMatured {
    #[serde(rename = "p")]
    predicted: u32,
    #[serde(rename = "o")]
    observed: u32,
}

impl StoredTrack {
    pub(super) fn new(
        scope: &PredictionScope,
        newest: Option<&ExternalPrediction>,
        matured: impl Iterator<Item = Matured>,
    ) -> Self {
        let newest = newest.map(|one| StoredPrediction {
            expected_fx: one.expected_fx,
            fraud_risk: one.fraud_risk.map(Ppm::get),
            issued_at: one.issued_at,
            risk: one.risk.map(Ppm::get),
            score: one.score,
            settlement_days: one.settlement_days,
            success: one.success.get(),
            valid_from: one.valid_from,
            valid_until: one.valid_until,
        });
        let stored = |one: Matured| StoredMatured { predicted: one.predicted.get(), observed: one.observed.get() };
        Self { scope: scope.clone(), newest, usable_until: None, matured: matured.map(stored).collect(), hold: None }
    }

    #[must_use]
    pub(super) fn hold(mut self, hold: &HoldDown) -> Self {
        let (since, contradictions) = hold.parts();
        self.hold = Some(StoredHold { since: since.map(Mono::nanos), contradictions });
        self
    }

    /// The hold-down with the newest prediction in it, if it was stored.
    pub(super) fn held(&self) -> Option<HoldDown> {
        let StoredHold { since, contradictions } = self.hold?;
        Some(HoldDown::restored(since.map(Mono::from_nanos), contradictions))
    }

    #[must_use]
    pub(super) fn usable_until(mut self, until: Option<Timestamp>) -> Self {
        self.usable_until = until;
        self
    }

    pub(super) fn scope(&self) -> PredictionScope {
        self.scope.clone()
    }

    /// The newest prediction, and until when it counts.
    pub(super) fn newest(&self) -> Option<(ExternalPrediction, Timestamp)> {
        let one = self.newest.as_ref()?;
        let prediction = ExternalPrediction {
            scope: self.scope(),
            expected_fx: one.expected_fx,
            fraud_risk: one.fraud_risk.map(Ppm::new),
            issued_at: one.issued_at,
            risk: one.risk.map(Ppm::new),
            score: one.score,
            settlement_days: one.settlement_days,
            success: Ppm::new(one.success),
            valid_from: one.valid_from,
            valid_until: one.valid_until,
        };
        Some((prediction, self.usable_until?))
    }

    pub(super) fn matured(&self) -> impl Iterator<Item = Matured> + '_ {
        self.matured.iter().map(|one| Matured { predicted: Ppm::new(one.predicted), observed: Ppm::new(one.observed) })
    }
}
