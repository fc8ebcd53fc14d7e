//! Refusals of predictions: pushed ones, by every rule.

use std::time::Duration;

use jiff::SignedDuration;

use super::Emitted;
use crate::clock::Clock;
use crate::domain::forecast::external::{DEFAULT_MAX_AGE, MAX_SCOPES};
use crate::domain::forecast::wire::PredictionBatch;
use crate::domain::forecast::{ExternalPrediction, PredictionScope, PredictionSource};
use crate::domain::key::ObjectKey;
use crate::metrics::Metrics;
use crate::provider::predictions::Predictions;
use crate::provider::registry::{Registry, RegistryOptions};
use crate::settings::{Settings, testkit};

pub(super) fn emit(emitted: &mut Emitted) {
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let registry = Registry::new(clock, &metrics, RegistryOptions::default()).unwrap();
    let bank = ObjectKey::new("payments", "bank");
    registry.apply(&bank, "uid", Settings::resolve(testkit::draft()).unwrap(), None);
    let predictions = Predictions::new(clock, registry, &metrics).unwrap();
    let now = clock.now().wall;
    let minutes = SignedDuration::from_mins;
    let body = format!(
        r#"{{"predictions": [{{"connection": "bank", "success": 1, "issued_at": "{now}", "valid_from": "{now}", "valid_until": "{}"}}]}}"#,
        now + minutes(30)
    );
    let good = PredictionBatch::from_json(body.as_bytes()).unwrap().predictions.remove(0).prediction;
    let mut push = |bank: &ObjectKey, prediction: ExternalPrediction| {
        if let Err(refused) = predictions.push(bank, PredictionSource::Pushed, prediction, DEFAULT_MAX_AGE) {
            emitted.predictions.insert(refused.to_string());
        }
    };
    push(&ObjectKey::new("payments", "other"), good.clone());
    push(&bank, ExternalPrediction { issued_at: now + minutes(9), ..good.clone() });
    push(&bank, ExternalPrediction { issued_at: now - minutes(60), ..good.clone() });
    push(&bank, ExternalPrediction { valid_from: now + minutes(9), ..good.clone() });
    push(&bank, ExternalPrediction { valid_from: now - minutes(9), valid_until: now - minutes(1), ..good.clone() });
    push(&bank, ExternalPrediction { valid_until: now + Duration::from_hours(48), ..good.clone() });
    push(&bank, good.clone());
    push(&bank, ExternalPrediction { issued_at: now - minutes(1), ..good.clone() });
    for n in 0..=MAX_SCOPES {
        push(
            &bank,
            ExternalPrediction {
                scope: PredictionScope { rail: Some(format!("rail-{n}")), currency: None },
                ..good.clone()
            },
        );
    }
}
