//! The JSON of predictions and of outcomes: one form, whether a scorer pushes or is asked (docs/adr/0028). Pure.
//!
//! Ratios and decimals may be strings or numbers, and are read without floats. Unknown fields are refused: a scorer that
//! misspells `risk` would be believed to predict none.

use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Map, Value};

use super::external::{ExternalPrediction, PredictionScope};
use crate::domain::money::{Currency, parse_amount};
use crate::domain::ppm::Ppm;

/// Predictions that one body may have.
pub const MAX_PREDICTIONS: usize = 1_000;
/// Longest name of a bank or a rail.
const MAX_NAME: usize = 253;

/// The predictions of one body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PredictionBatch {
    /// Namespace of the banks, if the body names one.
    pub namespace: Option<String>,
    /// The predictions, in the order of the body.
    pub predictions: Vec<WirePrediction>,
}

/// A prediction and the bank that it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WirePrediction {
    /// The bank.
    pub bank: WireBank,
    /// The route whose candidate the bank is; `None`: any of the namespace.
    pub route: Option<String>,
    /// The prediction.
    pub prediction: ExternalPrediction,
}

/// How a prediction names its bank.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WireBank {
    /// By `bankProfileID` of a candidate.
    BankProfileId(String),
    /// By the name of a candidate.
    Candidate(String),
    /// By the name of the connection.
    Connection(String),
}

/// A field that cannot be accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// Index of the prediction; `None`: the body itself.
    pub index: Option<usize>,
    /// Name of the field; empty: all of it.
    pub field: &'static str,
    /// What is wrong with it, and what is accepted.
    pub problem: String,
}

impl FieldError {
    /// The field within the body, as `predictions[3].success`.
    pub fn path(&self) -> String {
        match (self.index, self.field) {
            (None, "") => "body".to_owned(),
            (None, field) => field.to_owned(),
            (Some(index), "") => format!("predictions[{index}]"),
            (Some(index), field) => format!("predictions[{index}].{field}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is invalid: {}", self.path(), self.problem)
    }
}

impl std::error::Error for FieldError {}

/// The fields of a prediction.
const FIELDS: &[&str] = &[
    "bank_profile_id",
    "candidate",
    "connection",
    "currency",
    "expected_fx",
    "fraud_risk",
    "issued_at",
    "rail",
    "risk",
    "route",
    "score",
    "settlement_days",
    "success",
    "valid_from",
    "valid_until",
];

impl PredictionBatch {
    /// Reads a body: `{"namespace"?: …, "predictions": […]}`.
    ///
    /// # Errors
    /// The first field that is missing, unknown or out of bounds. Nothing of the body is accepted then.
    pub fn from_json(body: &[u8]) -> Result<Self, FieldError> {
        let whole = |field, problem: &str| FieldError { index: None, field, problem: problem.to_owned() };
        let value: Value = serde_json::from_slice(body).map_err(|_| whole("", "not JSON; send an object"))?;
        let Value::Object(fields) = value else { return Err(whole("", "not an object")) };
        if fields.keys().any(|name| !["namespace", "predictions"].contains(&name.as_str())) {
            return Err(whole("", "unknown field; there are namespace and predictions"));
        }
        let namespace = match fields.get("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if is_name(name) => Some(name.clone()),
            Some(_) => return Err(whole("namespace", "not the name of a namespace")),
        };
        let Some(Value::Array(list)) = fields.get("predictions") else {
            return Err(whole("predictions", "missing, or no list"));
        };
        if list.len() > MAX_PREDICTIONS {
            return Err(whole("predictions", "more than 1000; send several bodies"));
        }
        let read = |(index, value): (usize, &Value)| {
            prediction(value).map_err(|wrong| FieldError { index: Some(index), ..wrong })
        };
        Ok(Self { namespace, predictions: list.iter().enumerate().map(read).collect::<Result<_, _>>()? })
    }
}

fn prediction(value: &Value) -> Result<WirePrediction, FieldError> {
    let Value::Object(fields) = value else { return Err(error("", "not an object")) };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        // The name is the sender's text; its length is bounded.
        let unknown: String = unknown.chars().filter(char::is_ascii_graphic).take(40).collect();
        return Err(error("", &format!("unknown field {unknown}; there are {}", FIELDS.join(", "))));
    }
    let fields = Fields(fields);
    let currency = fields.text("currency")?.map(|code| Currency::parse(&code)).transpose();
    let currency = currency.ok().filter(|code| code.is_none_or(|code| code.exponent().is_ok()));
    let currency = currency.ok_or_else(|| error("currency", "not a currency of ISO 4217"))?;
    let score = fields.decimal("score")?;
    if score.is_some_and(|score| score < Decimal::ZERO || score > Decimal::ONE) {
        return Err(error("score", "not between 0 and 1"));
    }
    let expected_fx = fields.decimal("expected_fx")?;
    if expected_fx.is_some_and(|spread| spread.abs() > Decimal::from(10_000)) {
        return Err(error("expected_fx", "not between -10000 and 10000 basis points"));
    }
    Ok(WirePrediction {
        bank: fields.bank()?,
        route: fields.text("route")?,
        prediction: ExternalPrediction {
            scope: PredictionScope { currency, rail: fields.text("rail")? },
            expected_fx: expected_fx.map(|spread| spread.normalize()),
            fraud_risk: fields.ratio("fraud_risk")?,
            issued_at: required("issued_at", fields.instant("issued_at")?)?,
            risk: fields.ratio("risk")?,
            score: score.map(|score| score.normalize()),
            settlement_days: fields.days()?,
            success: required("success", fields.ratio("success")?)?,
            valid_from: required("valid_from", fields.instant("valid_from")?)?,
            valid_until: required("valid_until", fields.instant("valid_until")?)?,
        },
    })
}

fn error(field: &'static str, problem: &str) -> FieldError {
    FieldError { index: None, field, problem: problem.to_owned() }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// The fields of one prediction.
struct Fields<'a>(&'a Map<String, Value>);

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, FieldError> {
    value.ok_or_else(|| error(field, "missing"))
}

impl Fields<'_> {
    /// The value of a field; null is as good as absent.
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &'static str) -> Result<Option<String>, FieldError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) if is_name(text) => Ok(Some(text.clone())),
            Some(_) => Err(error(field, "not a text of 1 to 253 printable characters without spaces")),
        }
    }

    /// A decimal, as a string or a number: numbers keep their digits.
    fn decimal(&self, field: &'static str) -> Result<Option<Decimal>, FieldError> {
        let text = match self.get(field) {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => return Err(error(field, "not a decimal, as a string or a number")),
        };
        parse_amount(&text).map(Some).map_err(|_| error(field, "not a decimal, as a string or a number"))
    }

    fn ratio(&self, field: &'static str) -> Result<Option<Ppm>, FieldError> {
        let Some(ratio) = self.decimal(field)? else { return Ok(None) };
        let millionths = (ratio * Decimal::from(1_000_000)).round();
        let millionths = u32::try_from(millionths).ok().filter(|_| ratio >= Decimal::ZERO && ratio <= Decimal::ONE);
        millionths.map(|millionths| Some(Ppm::new(millionths))).ok_or_else(|| error(field, "not a ratio from 0 to 1"))
    }

    fn days(&self) -> Result<Option<u32>, FieldError> {
        let Some(days) = self.decimal("settlement_days")? else { return Ok(None) };
        let whole = u32::try_from(days).ok().filter(|whole| Decimal::from(*whole) == days && *whole <= 365);
        whole.map(Some).ok_or_else(|| error("settlement_days", "not a whole number from 0 to 365"))
    }

    fn instant(&self, field: &'static str) -> Result<Option<Timestamp>, FieldError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => {
                text.parse().map(Some).map_err(|_| error(field, "not an instant of RFC 3339, as 2026-01-31T10:00:00Z"))
            }
            Some(_) => Err(error(field, "not an instant of RFC 3339, as 2026-01-31T10:00:00Z")),
        }
    }

    fn bank(&self) -> Result<WireBank, FieldError> {
        let (profile, candidate) = (self.text("bank_profile_id")?, self.text("candidate")?);
        match (profile, candidate, self.text("connection")?) {
            (Some(id), None, None) => Ok(WireBank::BankProfileId(id)),
            (None, Some(name), None) => Ok(WireBank::Candidate(name)),
            (None, None, Some(name)) => Ok(WireBank::Connection(name)),
            _ => Err(error("bank_profile_id", "exactly one of bank_profile_id, candidate and connection is required")),
        }
    }
}

/// What became of payouts, as it is sent to a scorer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OutcomeBatch {
    /// The namespace of routes and connections.
    pub namespace: String,
    /// In the order of receipt.
    pub outcomes: Vec<WireOutcome>,
}

/// What became of one payout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WireOutcome {
    /// When it was observed.
    pub at: Timestamp,
    /// Name of the candidate.
    pub candidate: String,
    /// What happened: `success`, `bank_failure`, `timeout`, …
    pub class: String,
    /// Name of the bank's connection.
    pub connection: String,
    /// The decision that chose the bank.
    pub decision_id: String,
    /// How long the bank took, in milliseconds, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Name of the route.
    pub route: String,
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
