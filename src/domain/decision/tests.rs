//! Tests of decisions; what they share.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::*;
use crate::domain::breaker::EffectiveState;
use crate::domain::money::{Currency, parse_decimal};
use crate::domain::route::{Candidate, Fee, Payout, Rates, RouteRules};

mod audit;
mod canonical;
mod decisions;
mod limits;
mod properties;
mod random;
mod requests;

fn now() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

fn after(seconds: u64) -> Timestamp {
    now() + Duration::from_secs(seconds)
}

fn dec(text: &str) -> Decimal {
    parse_decimal(text).unwrap()
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

fn bank(name: &str, basis_points: &str, fixed: &str) -> SnapshotCandidate {
    let fee = Fee { name: "all".into(), basis_points: dec(basis_points), fixed: dec(fixed), ..Fee::default() };
    SnapshotCandidate {
        bank_profile_id: None,
        candidate: Candidate {
            circuit: Some(EffectiveState::Closed),
            fees: vec![fee],
            name: name.into(),
            ..Candidate::default()
        },
        connection: format!("{name}-connection"),
        daily_limit: None,
    }
}

fn snapshot(candidates: Vec<SnapshotCandidate>) -> Snapshot {
    Snapshot {
        candidates,
        generation: 3,
        incumbent: None,
        namespace: "payments".into(),
        route: "payouts".into(),
        route_uid: "uid-1".into(),
        rules: RouteRules::new(Rates::none(currency("USD"))),
    }
}

fn request(amount: &str, code: &str) -> DecisionRequest {
    let payout = Payout { amount: dec(amount), country: None, currency: currency(code), merchant: None, rail: None };
    DecisionRequest {
        attempt_no: 1,
        namespace: "payments".into(),
        payout,
        payout_id: "p-1".into(),
        rates: Vec::new(),
        route: None,
    }
}

fn ask<'a>(request: &'a DecisionRequest, snapshot: &'a SealedSnapshot, usage: &'a Usage) -> Ask<'a> {
    Ask { request, request_id: None, snapshot, subject: "system:serviceaccount:payments:payer", usage }
}
