//! Predictions for tests.

use jiff::Timestamp;

use crate::domain::forecast::external::{ExternalPrediction, PredictionScope};
use crate::domain::ppm::Ppm;

/// 2026-03-01 10:00 UTC, `minutes` later.
pub(crate) fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
    start + jiff::SignedDuration::from_mins(minutes)
}

/// A prediction that is issued at a minute, for the next half hour.
pub(crate) fn issued(minute: i64, success: u32, risk: u32) -> ExternalPrediction {
    ExternalPrediction {
        scope: PredictionScope::default(),
        expected_fx: None,
        fraud_risk: None,
        issued_at: at(minute),
        risk: Some(Ppm::new(risk)),
        score: None,
        settlement_days: None,
        success: Ppm::new(success),
        valid_from: at(minute),
        valid_until: at(minute + 30),
    }
}
