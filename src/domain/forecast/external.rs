//! Predictions of an external scorer: what they are, and which are accepted.
//!
//! A prediction is about one bank (its connection), for all payouts or those of a currency and a rail. It is accepted
//! only while it holds: issued not later than now and not longer ago than the maximum age, within its window.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::closed_list::closed_list;
use crate::domain::key::ObjectKey;
use crate::domain::money::Currency;
use crate::domain::ppm::Ppm;

/// Maximum age of a prediction where a route sets none.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_mins(15);
/// The longest window of a prediction: a longer one would mature too late to prove anything.
pub const MAX_WINDOW: Duration = Duration::from_hours(24);
/// Scopes that one source may predict one bank for.
pub const MAX_SCOPES: usize = 8;

/// Where a prediction came from. Each source proves its own skill.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PredictionSource {
    /// `POST /api/treasury/routing/predictions`.
    Pushed,
    /// Pulled from the scorer that the connection of this name leads to.
    Scorer(String),
}

impl PredictionSource {
    /// As it is stored: `pushed`, `scorer/<connection>`.
    pub fn to_text(&self) -> String {
        match self {
            Self::Pushed => "pushed".to_owned(),
            Self::Scorer(connection) => format!("scorer/{connection}"),
        }
    }

    /// From its stored form.
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "pushed" => Some(Self::Pushed),
            _ => text.strip_prefix("scorer/").map(|connection| Self::Scorer(connection.to_owned())),
        }
    }
}

/// One bank, as one source predicts it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PredictedBank {
    /// The connection.
    pub bank: ObjectKey,
    /// The source.
    pub source: PredictionSource,
}

/// The payouts that a prediction is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PredictionScope {
    /// Their currency; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Their rail; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rail: Option<String>,
}

/// What an external scorer predicts of one bank.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalPrediction {
    /// The payouts that it is for.
    pub scope: PredictionScope,
    /// Expected spread of the bank's exchange, in basis points of the amount; negative is a gain.
    pub expected_fx: Option<Decimal>,
    /// Risk of fraud: recorded and shown, part of no cost and no rank.
    pub fraud_risk: Option<Ppm>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Probability of an outage in the window; `None`: none is predicted.
    pub risk: Option<Ppm>,
    /// Breaks ties of cost and success: higher is better, from 0 to 1.
    pub score: Option<Decimal>,
    /// Days until settlement.
    pub settlement_days: Option<u32>,
    /// Share of payouts that succeed in the window.
    pub success: Ppm,
    /// Start of its window, inclusive.
    pub valid_from: Timestamp,
    /// End of its window, exclusive.
    pub valid_until: Timestamp,
}

closed_list!(
    "prediction refusal",
    /// Why a prediction is refused, as in `data.results[].error` and in the label `result` of
    /// `busbar_scorer_predictions_total`.
    PredictionRefused {
        UnknownBank = "unknown_bank": "No route of the namespace has a candidate of that name, or its connection does not run." => "Correct `bank_profile_id`, candidate or connection.",
        IssuedInFuture = "issued_in_future": "`issued_at` is later than now." => "Correct `issued_at`, or the clock of the scorer.",
        TooOld = "too_old": "`issued_at` is longer ago than the maximum age (spec.scorer.maxAge, else 15 minutes)." => "Send predictions sooner after they are made, or raise spec.scorer.maxAge.",
        NotYetValid = "not_yet_valid": "The window has not begun: `valid_from` is later than now." => "Send the prediction when its window begins.",
        Expired = "expired": "The window is over: `valid_until` is not later than now." => "Send the prediction before its window is over.",
        WindowTooLong = "window_too_long": "The window is empty or longer than 24 hours." => "Send a shorter window: a prediction proves its skill when it is over.",
        Superseded = "superseded": "A prediction of the same source and scope with a later `issued_at` was accepted before." => "None; the later one counts.",
        TooManyScopes = "too_many_scopes": "The source predicts the bank for more than 8 combinations of currency and rail." => "Predict fewer, or leave out currency and rail.",
    }
);

impl ExternalPrediction {
    /// Whether it may be accepted at `now`, if it may be `max_age` old.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, max_age: Duration, now: Timestamp) -> Result<(), PredictionRefused> {
        let window = self.valid_until.duration_since(self.valid_from);
        let refused = if !window.is_positive() || window.unsigned_abs() > MAX_WINDOW {
            PredictionRefused::WindowTooLong
        } else if self.issued_at > now {
            PredictionRefused::IssuedInFuture
        } else if now >= self.valid_until {
            PredictionRefused::Expired
        } else if now < self.valid_from {
            PredictionRefused::NotYetValid
        } else if now >= self.usable_until(max_age) {
            PredictionRefused::TooOld
        } else {
            return Ok(());
        };
        Err(refused)
    }

    /// Until when it counts: the end of its window, or the instant at which it is too old.
    pub fn usable_until(&self, max_age: Duration) -> Timestamp {
        self.issued_at.checked_add(max_age).unwrap_or(Timestamp::MAX).min(self.valid_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::forecast::testkit::{at, issued};

    #[test]
    fn a_prediction_is_accepted_within_its_window_and_age() {
        let prediction = issued(0, 900_000, 100_000);
        for (minute, result) in [
            (-1, Err(PredictionRefused::IssuedInFuture)),
            (0, Ok(())),
            (14, Ok(())),
            (15, Err(PredictionRefused::TooOld)),
            (30, Err(PredictionRefused::Expired)),
            (600, Err(PredictionRefused::Expired)),
        ] {
            assert_eq!(prediction.check(DEFAULT_MAX_AGE, at(minute)), result, "minute {minute}");
        }
        let hour = Duration::from_hours(1);
        assert_eq!(prediction.check(hour, at(29)), Ok(()), "a route may allow older ones");
        let later = ExternalPrediction { valid_from: at(5), ..prediction };
        assert_eq!(later.check(hour, at(4)), Err(PredictionRefused::NotYetValid));
        assert_eq!(later.check(hour, at(5)), Ok(()));
    }

    #[test]
    fn a_window_that_is_empty_or_longer_than_a_day_is_refused() {
        let prediction = issued(0, 900_000, 100_000);
        for (from, until) in [(0, 0), (5, 0), (0, 24 * 60 + 1)] {
            let wrong = ExternalPrediction { valid_from: at(from), valid_until: at(until), ..prediction.clone() };
            assert_eq!(wrong.check(DEFAULT_MAX_AGE, at(0)), Err(PredictionRefused::WindowTooLong), "{from} {until}");
        }
        let day = ExternalPrediction { valid_until: at(24 * 60), ..prediction };
        assert_eq!(day.check(DEFAULT_MAX_AGE, at(0)), Ok(()));
        assert_eq!(day.usable_until(DEFAULT_MAX_AGE), at(15));
    }

    #[test]
    fn a_source_is_stored_as_text() {
        for source in [PredictionSource::Pushed, PredictionSource::Scorer("sira".to_owned())] {
            assert_eq!(PredictionSource::from_text(&source.to_text()), Some(source));
        }
        assert_eq!(PredictionSource::from_text("other"), None);
    }
}
