//! Random snapshots and requests, the same for the same seed on every machine.

use busbar::api::v1alpha1::BankRoute;
use busbar::domain::breaker::EffectiveState;
use busbar::domain::decision::{
    DayUsage, DecisionRequest, RateDraft, RequestDraft, SealedSnapshot, Snapshot, SnapshotCandidate, SnapshotIncumbent,
    Usage,
};
use busbar::domain::money::parse_decimal;
use busbar::domain::route::{CandidateHealth, CandidatePrediction};
use busbar::resolve::{ResolvedRoute, bank_route};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

/// What one decision is made of.
pub(crate) struct Pair {
    pub(crate) request: DecisionRequest,
    pub(crate) snapshot: SealedSnapshot,
    pub(crate) usage: Usage,
    pub(crate) now: Timestamp,
}

/// The time of the first pair.
const BEGIN: Timestamp = Timestamp::constant(1_796_000_000, 123_456_789);
const CURRENCIES: [&str; 5] = ["EUR", "USD", "XOF", "KWD", "JPY"];
const COUNTRIES: [&str; 4] = ["SN", "DE", "NG", "US"];
const RAILS: [&str; 3] = ["SEPA", "SWIFT", "CARD"];

/// One of a list.
fn one<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

/// A decimal with at most so many places.
fn decimal(rng: &mut StdRng, below: u64, places: u32) -> String {
    let scale = 10_u64.pow(places);
    let value = rng.random_range(0..below * scale);
    match places {
        0 => value.to_string(),
        places => format!("{}.{:0width$}", value / scale, value % scale, width = places as usize),
    }
}

fn maybe(rng: &mut StdRng, percent: u32, value: impl FnOnce(&mut StdRng) -> Value) -> Option<Value> {
    (rng.random_range(0..100) < percent).then(|| value(rng))
}

fn object(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// Pairs for which a spec is used: the states of its banks, the rest of the snapshot and the request are new each time.
const PAIRS_OF_A_SPEC: u64 = 8;

/// Random pairs, one after another.
pub(crate) struct Pairs {
    rng: StdRng,
    number: u64,
    route: ResolvedRoute,
}

impl Pairs {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let route = route(&mut rng, BEGIN);
        Self { rng, number: 0, route }
    }

    /// The next pair.
    pub(crate) fn draw(&mut self) -> Pair {
        let Self { rng, number, route: current } = self;
        let now = BEGIN + SignedDuration::from_millis(i64::try_from(*number * 7).unwrap());
        if number.is_multiple_of(PAIRS_OF_A_SPEC) {
            *current = route(rng, now);
        }
        let snapshot = snapshot(rng, current, now);
        let usage = usage(rng, &snapshot, now);
        let request = request(rng, *number, now);
        *number += 1;
        Pair { request, snapshot: snapshot.seal().unwrap(), usage, now }
    }
}

fn request(rng: &mut StdRng, number: u64, now: Timestamp) -> DecisionRequest {
    let currency = one(rng, &CURRENCIES);
    let places = match currency {
        "XOF" | "JPY" => 0,
        "KWD" => 3,
        _ => 2,
    };
    let amount = decimal(rng, 1_000_000, places);
    let rates = if rng.random_bool(0.3) {
        let other = one(rng, &CURRENCIES);
        let rate =
            RateDraft { at: None, pair: format!("{currency}/{other}"), rate: format!("1{}", decimal(rng, 900, 4)) };
        if other == currency { Vec::new() } else { vec![rate] }
    } else {
        Vec::new()
    };
    let draft = RequestDraft {
        amount: if amount.bytes().all(|byte| byte == b'0' || byte == b'.') { "1".to_owned() } else { amount },
        attempt_no: None,
        country: rng.random_bool(0.7).then(|| one(rng, &COUNTRIES).to_owned()),
        currency: currency.to_owned(),
        merchant: rng.random_bool(0.3).then(|| format!("m-{}", rng.random_range(0..3))),
        namespace: "payments".to_owned(),
        payout_id: format!("random-{number}"),
        rail: rng.random_bool(0.7).then(|| one(rng, &RAILS).to_owned()),
        rates,
        route: None,
    };
    draft.validate(now).unwrap()
}

fn fee(rng: &mut StdRng, n: usize) -> Value {
    object([
        ("name", Some(json!(format!("fee-{n}")))),
        ("basisPoints", maybe(rng, 70, |rng| json!(decimal(rng, 100, 2)))),
        ("fixed", maybe(rng, 70, |rng| json!(decimal(rng, 5, 2)))),
        ("rails", maybe(rng, 30, |rng| json!([one(rng, &RAILS)]))),
        ("currencies", maybe(rng, 20, |rng| json!([one(rng, &CURRENCIES)]))),
        ("upToAmount", maybe(rng, 20, |rng| json!(decimal(rng, 100_000, 0)))),
        ("max", maybe(rng, 20, |rng| json!(format!("1{}", decimal(rng, 90, 2))))),
    ])
}

fn candidate(rng: &mut StdRng, n: usize) -> Value {
    let fees: Vec<Value> = (0..rng.random_range(0..3)).map(|n| fee(rng, n)).collect();
    object([
        ("name", Some(json!(format!("bank-{n}")))),
        ("connectionRef", Some(json!({"name": format!("connection-{n}")}))),
        ("fees", Some(json!(fees))),
        ("tier", maybe(rng, 20, |_| json!("Fallback"))),
        ("score", maybe(rng, 40, |rng| json!(decimal(rng, 1, 3)))),
        ("rails", maybe(rng, 10, |rng| json!([one(rng, &RAILS)]))),
        ("countries", maybe(rng, 10, |rng| json!([one(rng, &COUNTRIES)]))),
        ("minAmount", maybe(rng, 10, |rng| json!(decimal(rng, 500, 2)))),
        ("fundingCurrency", maybe(rng, 30, |rng| json!(one(rng, &CURRENCIES)))),
        ("fx", maybe(rng, 30, |rng| json!({"spreadBasisPoints": format!("-{}", decimal(rng, 30, 2))}))),
        ("settlementDays", maybe(rng, 30, |rng| json!(rng.random_range(0..10)))),
        ("dailyLimit", maybe(rng, 20, |rng| json!({"count": rng.random_range(1..100), "timeZone": "Africa/Dakar"}))),
    ])
}

/// A route with a random spec.
fn route(rng: &mut StdRng, now: Timestamp) -> ResolvedRoute {
    let candidates: Vec<Value> = (0..rng.random_range(1..=5)).map(|n| candidate(rng, n)).collect();
    let rates: Vec<Value> = ["USD", "XOF", "KWD", "JPY"]
        .iter()
        .filter_map(|currency| {
            maybe(rng, 80, |rng| json!({"currency": currency, "rate": format!("1{}", decimal(rng, 9, 4))}))
        })
        .collect();
    let until = |rng: &mut StdRng| (now + SignedDuration::from_secs(rng.random_range(-60..600))).to_string();
    let adjustment = |rng: &mut StdRng| {
        json!([{"name": "a", "candidate": "bank-0", "weight": format!("0.{}", rng.random_range(1..9)), "untilTime": until(rng),
            "reason": "random"}])
    };
    let spec = object([
        ("referenceCurrency", Some(json!("EUR"))),
        ("candidates", Some(json!(candidates))),
        ("referenceRates", (!rates.is_empty()).then(|| json!({"rates": rates, "asOfTime": BEGIN.to_string()}))),
        (
            "cost",
            maybe(
                rng,
                50,
                |rng| json!({"retryBasisPoints": decimal(rng, 200, 1), "delayBasisPoints": decimal(rng, 5, 1)}),
            ),
        ),
        ("hysteresis", maybe(rng, 30, |rng| json!({"switchPercent": rng.random_range(0..20), "minHold": "1m"}))),
        ("adjustments", maybe(rng, 30, adjustment)),
        ("pin", maybe(rng, 10, |rng| json!({"candidate": "bank-0", "untilTime": until(rng), "reason": "random"}))),
        ("mode", Some(json!(one(rng, &["Reactive", "Predictive", "Hybrid"])))),
    ]);
    let object =
        json!({"apiVersion": "busbar.dev/v1alpha1", "kind": "BankRoute", "metadata": {"name": "r"}, "spec": spec});
    let object: BankRoute = serde_json::from_value(object).unwrap();
    bank_route(&object.spec).unwrap()
}

/// The route with its banks in random states.
fn snapshot(rng: &mut StdRng, route: &ResolvedRoute, now: Timestamp) -> Snapshot {
    let candidates = route.candidates.iter().map(|resolved| {
        let mut candidate = resolved.candidate.clone();
        candidate.circuit = Some(one(
            rng,
            &[
                EffectiveState::Closed,
                EffectiveState::Closed,
                EffectiveState::Closed,
                EffectiveState::Open,
                EffectiveState::HalfOpen,
                EffectiveState::ForcedClosed,
            ],
        ));
        candidate.health = one(rng, &[CandidateHealth::Usable, CandidateHealth::Usable, CandidateHealth::Unhealthy]);
        candidate.success = rng.random_bool(0.8).then(|| rng.random_range(500_000..=1_000_000));
        candidate.predictions = (0..rng.random_range(0..2)).map(|_| prediction(rng, now)).collect();
        SnapshotCandidate {
            bank_profile_id: resolved.bank_profile_id.clone(),
            candidate,
            connection: resolved.connection.clone(),
            daily_limit: resolved.daily_limit.clone(),
        }
    });
    Snapshot {
        candidates: candidates.collect(),
        generation: rng.random_range(1..100),
        incumbent: rng.random_bool(0.3).then(|| SnapshotIncumbent { name: "bank-1".to_owned(), since: BEGIN }),
        namespace: "payments".to_owned(),
        route: "random".to_owned(),
        route_uid: "5f0c1c9e-6a51-4d0c-8f0a-000000000002".to_owned(),
        rules: route.rules.clone(),
    }
}

fn prediction(rng: &mut StdRng, now: Timestamp) -> CandidatePrediction {
    CandidatePrediction {
        currency: None,
        demoted: rng.random_bool(0.2),
        expected_fx: rng.random_bool(0.3).then(|| parse_decimal(&decimal(rng, 20, 2)).unwrap()),
        fraud_risk: None,
        rail: None,
        risk: rng.random_range(0..=1_000_000),
        score: None,
        settlement_days: rng.random_bool(0.3).then(|| rng.random_range(0..5)),
        skill: rng.random_range(0..=1_000_000),
        success: rng.random_range(0..=1_000_000),
        valid_until: now + SignedDuration::from_secs(rng.random_range(-60..600)),
    }
}

/// What the daily limits of the snapshot have been used by.
fn usage(rng: &mut StdRng, snapshot: &Snapshot, now: Timestamp) -> Usage {
    let limited = snapshot.candidates.iter().filter_map(|one| Some((&one.candidate.name, one.daily_limit.as_ref()?)));
    let used = limited.map(|(name, limit)| {
        let mut used = DayUsage::none(limit.day(now));
        used.count = rng.random_range(0..100);
        (name.clone(), used)
    });
    Usage(used.collect())
}
