//! A request as its caller wrote it, and its validation. An error names the field, what kind of value it holds and the
//! remedy, never the value. Pure.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::request::{DecisionRequest, RequestRate};
use crate::domain::closed_list::closed_list;
use crate::domain::decimal_digits::DecimalDigits;
use crate::domain::money::{Currency, Money, parse_amount};
use crate::domain::printable::is_hidden;
use crate::domain::route::Payout;

/// Largest amount, in minor units.
const MAX_MINOR: i128 = 1_000_000_000_000_000_000;
/// Longest id of a payout or a merchant.
const MAX_ID: usize = 128;
/// Most rates of a request.
const MAX_RATES: usize = 32;
/// How far the clock of a caller may be ahead.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

closed_list!(
    "field problem",
    /// Why a field of a decision request is rejected.
    FieldProblem {
        Missing = "missing": "A required value is missing." => "Send the field; see the OpenAPI document for an example.",
        Negative = "negative": "The number is negative." => "Send a number above 0.",
        Zero = "zero": "The number is zero." => "Send a number above 0.",
        NotDecimal = "not_decimal": "The value is not a decimal." => "Send a decimal, for example \"12.50\" or 12.50.",
        TooLarge = "too_large": "The amount is above 10^18 minor units of its currency." => "Split the payout, or correct the amount.",
        TooPrecise = "too_precise": "The number has more decimal places than allowed." => "Round the amount to the minor unit of its currency, or the rate to 18 places.",
        NotCurrency = "not_currency": "The value is not three upper-case letters." => "Send an ISO 4217 code, for example \"EUR\".",
        UnknownCurrency = "unknown_currency": "The currency is not in ISO 4217, or has no minor unit." => "Send the code of a currency that is in use, for example \"EUR\".",
        NotCountry = "not_country": "The value is not two upper-case letters." => "Send an ISO 3166 code, for example \"SN\".",
        NotName = "not_name": "The value is not the name of a Kubernetes object." => "Send lower-case letters, digits, '-' and '.', at most 63 characters for a namespace and 253 for a route.",
        NotIdentifier = "not_identifier": "The value is empty, too long, or has a character that is not allowed." => "Send 1 to 128 printable ASCII characters without spaces.",
        NotText = "not_text": "The text is empty, longer than 128 characters, or has a character that is not visible." => "Send 1 to 128 visible characters.",
        NotRail = "not_rail": "The value is not the name of a rail." => "Send 1 to 32 letters, digits, '-', '_' and '.', for example \"SEPA\".",
        NotAttempt = "not_attempt": "The number of the attempt is below 1." => "Leave the field out for the first attempt, or send 2 for the second.",
        NotPair = "not_pair": "The key is not two different currencies." => "Send \"USD/XOF\" for the value of one USD in XOF.",
        Repeated = "repeated": "The two currencies have more than one rate." => "Send one rate for the two, in either direction.",
        TooMany = "too_many": "There are more than 32 rates." => "Send the rates between the payout's currency, the reference currency and the currencies of fees.",
        NotInstant = "not_instant": "The value is not an instant." => "Send RFC 3339, for example \"2026-11-29T12:00:00Z\".",
        Future = "future": "The instant is in the future." => "Send the time at which the rate was taken, and check the clock of the caller.",
    }
);

/// A field that is rejected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestError {
    /// The field, as in the request.
    pub field: String,
    /// What is wrong with it.
    pub problem: FieldProblem,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = self.problem.meaning().trim_end_matches('.');
        let first = sentence.get(..1).unwrap_or_default().to_ascii_lowercase();
        let remedy = self.problem.remedy().trim_end_matches('.');
        let verb = remedy.get(..1).unwrap_or_default().to_ascii_lowercase();
        let rest = |text: &'static str| text.get(1..).unwrap_or_default();
        write!(f, "{} is invalid: {first}{}; {verb}{}", self.field, rest(sentence), rest(remedy))
    }
}

impl std::error::Error for RequestError {}

/// A request as its caller wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestDraft {
    /// A decimal.
    pub amount: String,
    /// Number of the attempt; `None` = 1.
    pub attempt_no: Option<u32>,
    /// ISO 3166 code of the beneficiary's country.
    pub country: Option<String>,
    /// ISO 4217 code.
    pub currency: String,
    /// The merchant.
    pub merchant: Option<String>,
    /// Namespace of the route.
    pub namespace: String,
    /// The caller's id of the payout.
    pub payout_id: String,
    /// Payment rail.
    pub rail: Option<String>,
    /// Rates that count before those of the route.
    pub rates: Vec<RateDraft>,
    /// Name of the route.
    pub route: Option<String>,
}

/// A rate as its caller wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RateDraft {
    /// When it was taken.
    pub at: Option<String>,
    /// `USD/XOF` for the value of one USD in XOF.
    pub pair: String,
    /// A decimal.
    pub rate: String,
}

impl RequestDraft {
    /// The request, if every field is valid. `now` bounds the time of rates.
    ///
    /// # Errors
    /// The first field that is not valid.
    pub fn validate(self, now: Timestamp) -> Result<DecisionRequest, RequestError> {
        let currency = currency("currency", &self.currency)?;
        let amount = amount(&self.amount, currency)?;
        check("payout_id", is_identifier(&self.payout_id), FieldProblem::NotIdentifier)?;
        check("namespace", !self.namespace.is_empty(), FieldProblem::Missing)?;
        check("namespace", is_label(&self.namespace), FieldProblem::NotName)?;
        let all = |value: Option<&String>, valid: fn(&str) -> bool| value.is_none_or(|text| valid(text));
        check("route", all(self.route.as_ref(), is_name), FieldProblem::NotName)?;
        check("country", all(self.country.as_ref(), is_country), FieldProblem::NotCountry)?;
        check("rail", all(self.rail.as_ref(), is_rail), FieldProblem::NotRail)?;
        check("merchant", all(self.merchant.as_ref(), is_text), FieldProblem::NotText)?;
        let attempt_no = self.attempt_no.unwrap_or(1);
        check("attempt_no", attempt_no >= 1, FieldProblem::NotAttempt)?;
        let (country, merchant, rail) = (self.country, self.merchant, self.rail);
        Ok(DecisionRequest {
            attempt_no,
            namespace: self.namespace,
            payout: Payout { amount, country, currency, merchant, rail },
            payout_id: self.payout_id,
            rates: rates(&self.rates, now)?,
            route: self.route,
        })
    }
}

fn error(field: impl Into<String>, problem: FieldProblem) -> RequestError {
    RequestError { field: field.into(), problem }
}

fn check(field: &str, valid: bool, problem: FieldProblem) -> Result<(), RequestError> {
    if valid { Ok(()) } else { Err(error(field, problem)) }
}

fn currency(field: &str, code: &str) -> Result<Currency, RequestError> {
    check(field, !code.is_empty(), FieldProblem::Missing)?;
    let currency = Currency::parse(code).map_err(|_| error(field, FieldProblem::NotCurrency))?;
    currency.exponent().map_err(|_| error(field, FieldProblem::UnknownCurrency))?;
    Ok(currency)
}

/// A payout's amount: above 0, at most 10^18 minor units, no finer than the minor unit.
fn amount(text: &str, currency: Currency) -> Result<Decimal, RequestError> {
    let amount = positive("amount", text)?;
    match Money::new(amount, currency).to_minor() {
        Ok(minor) if minor <= MAX_MINOR => Ok(amount),
        Ok(_) => Err(error("amount", FieldProblem::TooLarge)),
        Err(_) => Err(error("amount", FieldProblem::TooPrecise)),
    }
}

/// A decimal above 0, normalized: `7.70` is 7.7.
fn positive(field: &str, text: &str) -> Result<Decimal, RequestError> {
    check(field, !text.is_empty(), FieldProblem::Missing)?;
    let Ok(value) = parse_amount(text) else { return Err(error(field, unreadable(text))) };
    if value.is_zero() {
        return Err(error(field, FieldProblem::Zero));
    }
    check(field, value.is_sign_positive(), FieldProblem::Negative)?;
    Ok(value.normalize())
}

/// Why a text is no decimal that is represented exactly.
fn unreadable(text: &str) -> FieldProblem {
    let (is_negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    match DecimalDigits::parse(unsigned) {
        None => FieldProblem::NotDecimal,
        Some(_) if is_negative => FieldProblem::Negative,
        Some(number) if number.point > 18 => FieldProblem::TooLarge,
        Some(_) => FieldProblem::TooPrecise,
    }
}

/// The rates in the order of their currencies.
fn rates(drafts: &[RateDraft], now: Timestamp) -> Result<Vec<RequestRate>, RequestError> {
    check("rates", drafts.len() <= MAX_RATES, FieldProblem::TooMany)?;
    let mut rates = drafts.iter().map(|draft| rate(draft, now)).collect::<Result<Vec<_>, _>>()?;
    rates.sort_by_key(|rate| (rate.from, rate.to));
    for (n, one) in rates.iter().enumerate() {
        let same = |other: &RequestRate| {
            (one.from, one.to) == (other.from, other.to) || (one.from, one.to) == (other.to, other.from)
        };
        check("rates", !rates.iter().skip(n + 1).any(same), FieldProblem::Repeated)?;
    }
    Ok(rates)
}

fn rate(draft: &RateDraft, now: Timestamp) -> Result<RequestRate, RequestError> {
    let pair = draft.pair.split_once('/');
    let currencies = pair.and_then(|(from, to)| Some((Currency::parse(from).ok()?, Currency::parse(to).ok()?)));
    // A key that is no pair is not shown: it may be anything.
    let Some((from, to)) = currencies.filter(|(from, to)| from != to) else {
        return Err(error("rates", FieldProblem::NotPair));
    };
    let field = |name: &str| format!("rates.{from}/{to}.{name}");
    let at = match draft.at.as_deref() {
        None => None,
        Some(text) => {
            let at: Timestamp = text.parse().map_err(|_| error(field("at"), FieldProblem::NotInstant))?;
            let latest = now.checked_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
            check(&field("at"), at <= latest, FieldProblem::Future)?;
            Some(crate::domain::canonical::to_millis(at))
        }
    };
    Ok(RequestRate { at, from, rate: positive(&field("rate"), &draft.rate)?, to })
}

fn is_identifier(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_ID && !text.chars().any(is_hidden)
}

fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_rail(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=32).contains(&text.len())
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// A name as of RFC 1123, without dots.
fn is_label(text: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.bytes().all(|byte| is_edge(byte) || byte == b'-')
        && text.bytes().next().is_some_and(is_edge)
        && text.bytes().last().is_some_and(is_edge)
}

/// Names as of RFC 1123, joined by dots.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}
