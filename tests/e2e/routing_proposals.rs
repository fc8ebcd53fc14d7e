//! Mode Hybrid on a real operator: a scorer proves its skill, and what it predicts is proposed, approved, rejected or
//! lapses.

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::sim::BankHandle;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, bank_connection};
use crate::cluster::gateway_calls::{caller_token, get};
use crate::cluster::operator::Operator;
use crate::kit::banks::{further_arrivals, unavailable};
use crate::kit::objects::{candidate, merged, policy, route};
use crate::kit::wait::eventually;
use crate::routing_decisions::{decide, post, staff_token, stored_events, until_active, until_route};

/// Predictions of a window, and how long a window is: long enough for the health check that is requested in each.
const PREDICTIONS: i64 = 12;
const WINDOW: SignedDuration = SignedDuration::from_secs(7);
/// How long the predicted outage lasts, and how often it is tried to prove the skill to predict it.
const OUTAGE: SignedDuration = SignedDuration::from_secs(40);
const PROOFS: usize = 4;

/// Sends predictions of one bank that end at `until`; the last of them counts.
async fn predict(operator: &Operator, env: &BankEnv, token: &str, (success, risk): (&str, &str), until: Timestamp) {
    let now = env.now();
    let one = |n: i64| {
        let issued = now - SignedDuration::from_millis(PREDICTIONS - n);
        json!({
            "connection": "a", "success": success, "risk": risk, "issued_at": issued.to_string(),
            "valid_from": issued.to_string(), "valid_until": until.to_string(),
        })
    };
    let body = json!({"namespace": env.ns.name(), "predictions": (0..PREDICTIONS).map(one).collect::<Vec<_>>()});
    eventually("the predictions are accepted", async || {
        let answer = post(operator, "predictions", token, &body).await;
        let is_accepted = answer.status == 200 && !answer.body.to_string().contains("unknown_bank");
        if is_accepted { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
}

/// How many predictions have matured, as the ledger has it.
async fn matured(env: &BankEnv) -> usize {
    let url = LedgerUrl::Sqlite(env.ns.ledger_file("a"));
    let ledger = ledger::open(&url, OpenMode::ReadOnly).await.expect("the ledger can be read");
    let scores = ledger.scores().await.expect("the scores");
    ledger.close().await;
    let tracks = scores.iter().map(|score| serde_json::from_slice::<Value>(&score.body).expect("the tracks of a bank"));
    tracks
        .flat_map(|of_bank| of_bank.as_array().cloned().unwrap_or_default())
        .fold(0, |count, track| count + track["matured"].as_array().map_or(0, Vec::len))
}

/// Predicts what a window will bring, has the bank checked in it, and waits until that is compared: until then the bank stays
/// as it is.
async fn prove(operator: &Operator, env: &BankEnv, (token, a): (&str, &BankHandle), predicted: (&str, &str)) {
    let before = matured(env).await;
    predict(operator, env, token, predicted, env.now() + WINDOW).await;
    env.request::<ProviderConnection>("a").await;
    further_arrivals(a, "/health", 1).await;
    eventually("the predictions have matured", async || matured(env).await > before).await;
}

/// Proves a scorer's skill and predicts an outage, until it is proposed to fail over; returns when the prediction ends. A
/// window in which a busy machine makes no health check proves nothing: then all of it is done again.
async fn until_proposed(operator: &Operator, env: &BankEnv, token: &str, a: &BankHandle) -> Timestamp {
    for _ in 0..PROOFS {
        for route in ["approved", "rejected", "lapsed", "predictive"] {
            until_active(env, route, "a").await;
        }
        // A scorer that was right about a good window, and about a bad one.
        prove(operator, env, (token, a), ("1", "0")).await;
        a.fail_with(unavailable()).await.unwrap();
        prove(operator, env, (token, a), ("0", "1")).await;
        a.recover().await;
        prove(operator, env, (token, a), ("1", "0")).await;
        for route in ["approved", "rejected", "lapsed", "predictive"] {
            until_active(env, route, "a").await;
        }
        let until = env.now() + OUTAGE;
        predict(operator, env, token, ("0", "1"), until).await;
        let is_proposed = async || {
            let status = env.get::<BankRoute>("approved").await.status;
            status.is_some_and(|status| status.proposal.is_some())
        };
        // Half of its time is left for what follows.
        if is_seen_until(env, until - OUTAGE / 2, is_proposed).await {
            return until;
        }
        eventually("the prediction ends", async || env.now() > until).await;
    }
    panic!("no failover was proposed after {PROOFS} proofs");
}

/// Whether `look` holds before this instant.
async fn is_seen_until(env: &BankEnv, until: Timestamp, mut look: impl AsyncFnMut() -> bool) -> bool {
    eventually("it is seen, or its time is over", async || {
        if look().await { Some(true) } else { (env.now() > until).then_some(false) }
    })
    .await
}

/// The newest proposal of a route.
async fn proposal(operator: &Operator, env: &BankEnv, token: &str, route: &str) -> Option<Value> {
    let (status, _, body) =
        get(operator, &format!("/api/treasury/routing/proposals?namespace={}", env.ns.name()), token).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["items"].as_array()?.iter().find(|one| one["route"] == route).cloned()
}

/// Answers the pending proposal of a route.
async fn answer(operator: &Operator, env: &BankEnv, token: &str, route: &str, what: &str) {
    let pending = proposal(operator, env, token, route).await.expect("a proposal");
    assert_eq!((&pending["state"], &pending["candidate"]), (&json!("pending"), &json!("b")), "{pending}");
    let path = format!("proposals/{}/{what}?namespace={}", pending["id"].as_str().unwrap(), env.ns.name());
    let answer = post(operator, &path, token, &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Two banks whose checks never open a circuit; three routes over them in mode Hybrid and one in mode Predictive, cheapest
/// through `a`.
async fn hybrid_routes(env: &BankEnv) -> BankHandle {
    env.put(&policy("never", json!({"preset": "Api", "trip": {"consecutiveFailures": 0}}))).await;
    let patient = json!({"breakerPolicyRef": {"name": "never"}, "healthCheck": {"unhealthyThreshold": 10}});
    let (a, b) = (env.bank_with_secret("a").await, env.bank_with_secret("b").await);
    for bank in [&a, &b] {
        env.put(&bank_connection(bank, patient.clone())).await;
    }
    let fee = |fixed: &str| json!({"fees": [{"name": "all", "fixed": fixed}]});
    let candidates = [candidate("a", "a", fee("0.30")), candidate("b", "b", fee("3.50"))];
    // The source's constants: a bank that fails costs 20 of 1000 more.
    let spec = json!({"mode": "Hybrid", "cost": {"retryBasisPoints": "100", "healthPenalty": "10"}});
    for name in ["approved", "rejected", "lapsed"] {
        env.put(&merged(route(name, &candidates, json!({})), json!({ "spec": spec }))).await;
    }
    let predictive = merged(spec, json!({"mode": "Predictive"}));
    env.put(&merged(route("predictive", &candidates, json!({})), json!({ "spec": predictive }))).await;
    a
}

#[tokio::test]
async fn a_proposal_is_approved_rejected_or_lapses() {
    let env = BankEnv::new("hybrid").await;
    let a = hybrid_routes(&env).await;
    let scorer = caller_token(&env.ns, "scorer", Some("busbar-scorer")).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let reader = caller_token(&env.ns, "reader", Some("busbar-events")).await;
    let admin = staff_token(&env, "admin", "busbar-pay-admin").await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let until = until_proposed(&operator, &env, &scorer, &a).await;
    for route in ["approved", "rejected", "lapsed"] {
        let status = until_route(&env, route, "a failover is proposed", |s| s.proposal.is_some()).await;
        assert_eq!((status.active.as_deref(), &*status.proposal.unwrap().candidate), (Some("a"), "b"));
    }
    // What Hybrid proposes, Predictive does.
    until_active(&env, "predictive", "b").await;
    let decided = decide(&operator, &env, &payouts, "predictive", "p-0").await;
    assert_eq!(decided.body["data"]["candidate"], json!("b"), "{}", decided.body);
    env.until_event("BankRoute", "approved", "FailoverProposed", "failover proposed from a to b").await;
    answer(&operator, &env, &admin, "approved", "approve").await;
    answer(&operator, &env, &admin, "rejected", "reject").await;

    let moved = until_active(&env, "approved", "b").await;
    assert_eq!((moved.failovers, &*moved.last_failover.unwrap().reason), (Some(1), "PredictiveHybrid"));
    env.until_event("BankRoute", "approved", "FailedOver", "the proposal of b was approved").await;
    let decided = decide(&operator, &env, &payouts, "approved", "p-1").await;
    let data = &decided.body["data"];
    assert_eq!((&data["candidate"], &data["reason"]), (&json!("b"), &json!("PredictiveHybrid")), "{}", decided.body);
    let failovers = stored_events(&operator, &env, &reader, "bank.failover").await;
    let said: Vec<_> =
        failovers.iter().map(|event| (&event["payload"]["route"], &event["payload"]["reason"])).collect();
    assert_eq!(said, [(&json!("approved"), &json!("PredictiveHybrid"))]);

    let rejected = until_route(&env, "rejected", "the proposal is gone", |s| s.proposal.is_none()).await;
    assert_eq!((rejected.active.as_deref(), rejected.failovers), (Some("a"), None));
    env.until_event("BankRoute", "rejected", "ProposalRejected", "failover to b rejected").await;

    let lapsed = until_route(&env, "lapsed", "the proposal lapsed", |s| s.proposal.is_none()).await;
    assert_eq!((lapsed.active.as_deref(), lapsed.failovers), (Some("a"), None));
    env.until_event("BankRoute", "lapsed", "ProposalLapsed", "proposed failover to b lapsed").await;
    assert!(env.now() >= until, "not before its time");
    eventually("the ledger says so", async || {
        let stored = proposal(&operator, &env, &admin, "lapsed").await;
        if stored.as_ref().is_some_and(|one| one["state"] == "lapsed") { Ok(()) } else { Err(stored) }
    })
    .await;
    until_active(&env, "predictive", "a").await;
    operator.finish(&env.ns).await;
}
