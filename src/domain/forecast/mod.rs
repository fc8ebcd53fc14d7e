//! Forecasts of a bank's success, and what external predictions are worth. Pure.
//!
//! The built-in forecaster watches the outcomes of one connection:
//! - [`cusum`], [`latency_chart`]: whether success or latency has changed, as opposed to varied;
//! - [`phi`], [`silence`]: how unlikely it is that a bank that does not respond is well;
//! - [`holt`], [`trend`]: where success and latency are in half an hour, and how likely success is below 75 % by then;
//! - [`skill`]: how much better than the long-run average its predictions were;
//! - [`hold_down`], [`forecaster`]: the forecast that a connection shows.
//!
//! Predictions of others:
//! - [`external`], [`prediction_book`]: which are accepted, how they mature ([`outcome_counts`]), when they count;
//! - [`wire`]: how they are written.
//!
//! Floats are internal: public values are whole millionths ([`Ppm`](crate::domain::ppm::Ppm)).

pub mod cusum;
pub mod external;
pub mod forecaster;
pub mod hold_down;
pub mod holt;
pub mod latency_chart;
mod normal;
pub mod outcome_counts;
pub mod peak_ewma;
pub mod phi;
pub mod prediction_book;
pub mod silence;
pub mod skill;
pub mod stored_track;
#[cfg(test)]
mod testkit;
pub mod trend;
pub mod wilson;
pub mod wire;

pub use self::external::{ExternalPrediction, PredictedBank, PredictionRefused, PredictionScope, PredictionSource};
pub use self::forecaster::{Forecast, Forecaster, HORIZON};
pub use self::prediction_book::PredictionBook;
