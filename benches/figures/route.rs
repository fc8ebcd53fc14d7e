//! Routing: one pure decision, decisions over HTTP, their replay, choices after a trip, and the time from a tripped
//! breaker to the moved route on the API server.
#![allow(clippy::disallowed_methods, reason = "a decision is timed in nanoseconds")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use busbar::domain::breaker::EffectiveState;
use busbar::domain::decision::{DecisionRequest, Snapshot, SnapshotCandidate, Usage, decide as choose};
use busbar::domain::money::{Currency, parse_decimal};
use busbar::domain::route::{Candidate, Fee, Rates, RouteRules, Tier};
use busbar::testbed::control_plane::RunDir;
use jiff::Timestamp;

use crate::Figures;
use crate::late_trips::request;
use crate::stats::Sample;
use crate::{late_choices, route_http, route_replay};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(150);
const BATCH: u32 = 256;

pub(crate) fn run(figures: &mut Figures) {
    decide(figures);
    let run = Arc::new(RunDir::create("route").expect("a folder for the run"));
    // One thread for the load generator.
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ledger = single.block_on(route_http::run(figures, &run));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        route_replay::run(figures, &ledger).await;
        late_choices::run(figures, &run).await;
        crate::failover::run(figures).await;
    });
}

/// Wall time of batches far shorter than a time slice, as in the breaker's group: nearly every batch runs undisturbed.
fn decide(figures: &mut Figures) {
    let (request, snapshot, usage) = (request("bench"), snapshot(), Usage::default());
    let chosen = choose(&request, &snapshot, &usage, Timestamp::UNIX_EPOCH);
    assert_eq!((chosen.standings.len(), chosen.active.as_deref()), (5, Some("bank-0")), "all are explained");
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let (end, mut batches) = (Instant::now() + ROUND, Vec::new());
        while Instant::now() < end {
            let start = Instant::now();
            for _ in 0..BATCH {
                let asked: &DecisionRequest = black_box(&request);
                black_box(choose(asked, black_box(&snapshot), &usage, Timestamp::UNIX_EPOCH));
            }
            batches.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
        }
        if round > 0 {
            rounds.push(Sample::new(batches).median());
        }
    }
    let rounds = Sample::new(rounds);
    println!("one decision between five banks, explained, ns: {rounds} rounds");
    figures.figure("route.decide_ns", format_args!("{:.0}", rounds.median()), "ns");
}

fn decimal(text: &str) -> rust_decimal::Decimal {
    parse_decimal(text).expect("a decimal")
}

fn snapshot() -> Snapshot {
    let currency = Currency::parse("EUR").expect("a currency");
    let candidates = candidates().into_iter().map(|candidate| SnapshotCandidate {
        bank_profile_id: None,
        connection: candidate.name.clone(),
        candidate,
        daily_limit: None,
    });
    let snapshot = Snapshot {
        candidates: candidates.collect(),
        generation: 1,
        incumbent: None,
        namespace: "payments".to_owned(),
        route: "payouts".to_owned(),
        route_uid: "5f0c1c9e-6a51-4d0c-8f0a-000000000001".to_owned(),
        rules: RouteRules::new(Rates::none(currency)),
    };
    // As it is decided on: read from its own bytes.
    snapshot.seal().expect("a snapshot").snapshot
}

/// Three primaries, one of them open, and two fallbacks, each with a price list of two entries.
fn candidates() -> Vec<Candidate> {
    (0..5_u32)
        .map(|n| Candidate {
            name: format!("bank-{n}"),
            tier: if n < 3 { Tier::Primary } else { Tier::Fallback },
            circuit: Some(if n == 1 { EffectiveState::Open } else { EffectiveState::Closed }),
            fees: vec![
                Fee {
                    name: "sepa".to_owned(),
                    rails: vec!["SEPA".to_owned()],
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
