//! One decision between six banks, and the time from a tripped breaker to the moved route on the API server.
#![allow(clippy::disallowed_methods, reason = "a decision is timed in nanoseconds")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use busbar::domain::breaker::EffectiveState;
use busbar::domain::money::{Currency, parse_decimal};
use busbar::domain::route::{Candidate, Fee, Payout, Rates, RouteRules, Tier, evaluate};
use jiff::Timestamp;

use crate::Figures;
use crate::stats::Sample;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(150);
const BATCH: u32 = 256;

pub(crate) fn run(figures: &mut Figures) {
    decide(figures);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(crate::failover::run(figures));
}

/// Wall time of batches far shorter than a time slice, as in the breaker's group: nearly every batch runs undisturbed.
fn decide(figures: &mut Figures) {
    let (reference, candidates) = (reference(), candidates());
    let rules = RouteRules::new(Rates::none(reference.currency));
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let (end, mut batches) = (Instant::now() + ROUND, Vec::new());
        while Instant::now() < end {
            let start = Instant::now();
            for _ in 0..BATCH {
                black_box(evaluate(black_box(&reference), &rules, black_box(&candidates), None, Timestamp::UNIX_EPOCH));
            }
            batches.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
        }
        if round > 0 {
            rounds.push(Sample::new(batches).median());
        }
    }
    let rounds = Sample::new(rounds);
    println!("one decision between six banks, ns: {rounds} rounds");
    figures.figure("route.decide_ns", format_args!("{:.0}", rounds.median()), "ns");
}

fn decimal(text: &str) -> rust_decimal::Decimal {
    parse_decimal(text).expect("a decimal")
}

fn reference() -> Payout {
    let currency = Currency::parse("EUR").expect("a currency");
    Payout {
        amount: decimal("1250.00"),
        currency,
        rail: Some("sepa".to_owned()),
        country: Some("DE".to_owned()),
        merchant: None,
    }
}

/// Four primaries, one of them open, and two fallbacks, each with a price list of two entries.
fn candidates() -> Vec<Candidate> {
    (0..6_u32)
        .map(|n| Candidate {
            name: format!("bank-{n}"),
            tier: if n < 4 { Tier::Primary } else { Tier::Fallback },
            circuit: Some(if n == 1 { EffectiveState::Open } else { EffectiveState::Closed }),
            fees: vec![
                Fee {
                    name: "sepa".to_owned(),
                    rails: vec!["sepa".to_owned()],
                    up_to_amount: Some(decimal("5000")),
                    basis_points: decimal("12.5"),
                    fixed: decimal(&format!("0.{}", 20 + n)),
                    max: Some(decimal("5")),
                    ..Fee::default()
                },
                Fee { name: "all".to_owned(), fixed: decimal("1.50"), ..Fee::default() },
            ],
            ..Candidate::default()
        })
        .collect()
}
