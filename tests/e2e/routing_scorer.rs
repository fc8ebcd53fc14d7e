//! An external scorer on a real operator: the leader asks it for predictions, decisions show them, and outcomes are sent
//! back to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get as on_get, post as on_post};
use busbar::clock::Clock;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::gateway_calls::caller_token;
use crate::cluster::operator::Operator;
use crate::kit::objects::{candidates, connection, merged, route};
use crate::kit::wait::eventually;
use crate::routing_decisions::{decide, post};

/// A scoring service that predicts the same of every bank it is asked about.
struct ScorerServer {
    address: SocketAddr,
    seen: Arc<Seen>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    queries: Mutex<Vec<String>>,
    outcomes: Mutex<Vec<Value>>,
}

impl ScorerServer {
    async fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let app = Router::new()
            .route("/health", on_get(|| async { "{}" }))
            .route("/predictions", on_get(predictions))
            .route("/outcomes", on_post(outcomes))
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Self { address, seen, _serving: AbortOnDropHandle::new(serving) }
    }
}

async fn predictions(State(seen): State<Arc<Seen>>, RawQuery(query): RawQuery) -> String {
    let query = query.unwrap_or_default();
    let now = Clock::system().now().wall;
    let end = now + SignedDuration::from_mins(5);
    let predicted: Vec<_> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("bank="))
        .map(|bank| {
            json!({
                "connection": bank, "success": "0.915", "score": 0.25, "issued_at": now, "valid_from": now,
                "valid_until": end,
            })
        })
        .collect();
    seen.queries.lock().unwrap().push(query);
    json!({ "predictions": predicted }).to_string()
}

async fn outcomes(State(seen): State<Arc<Seen>>, body: Bytes) -> StatusCode {
    seen.outcomes.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    StatusCode::ACCEPTED
}

#[tokio::test]
async fn a_scorer_is_asked_shown_in_decisions_and_told_of_outcomes() {
    let env = BankEnv::new("scorer").await;
    for name in ["a", "b"] {
        env.bank(name).await;
    }
    let server = ScorerServer::start().await;
    env.put(&connection("sira", &format!("http://{}", server.address), json!({}))).await;
    let spec = json!({"mode": "Predictive", "scorer": {"connectionRef": {"name": "sira"}, "maxAge": "15s"}});
    env.put(&merged(route("payouts", &candidates(&["a", "b"]), json!({})), json!({ "spec": spec }))).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let operator = Operator::ready(&env.ns, &[]).await;

    let query = format!("namespace={}&bank=a&bank=b", env.ns.name());
    eventually("the scorer is asked about the banks of its route", async || {
        let queries = server.seen.queries.lock().unwrap().clone();
        if queries.contains(&query) { Ok(()) } else { Err(queries) }
    })
    .await;
    let mut payout = 0;
    let decided = eventually("a decision shows its prediction", async || {
        payout += 1;
        let answer = decide(&operator, &env, &payouts, "payouts", &format!("p-{payout}")).await;
        let predicted = &answer.body["data"]["candidates"][0]["predictions"][0];
        let is_shown = predicted["success"] == "0.915" && predicted["score"] == "0.25";
        if is_shown { Ok(answer.body.clone()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
    let data = &decided["data"];
    assert_eq!((&data["candidate"], &data["candidates"][0]["predictions"][0]["skill"]), (&json!("a"), &json!("0")));
    let body = json!({
        "namespace": env.ns.name(),
        "outcomes": [{"decision_id": data["decision_id"], "class": "success", "latency_ms": 120}],
    });
    let reported = post(&operator, "outcomes", &payouts, &body).await;
    assert_eq!(reported.status, 200, "{}", reported.body);
    let received = eventually("the scorer is told", async || {
        server.seen.outcomes.lock().unwrap().first().cloned().ok_or("no outcome")
    })
    .await;
    let outcome = &received["outcomes"][0];
    assert_eq!((&received["namespace"], &outcome["decision_id"]), (&json!(env.ns.name()), &data["decision_id"]));
    assert_eq!(
        (&outcome["class"], &outcome["connection"], &outcome["route"]),
        (&json!("success"), &json!("a"), &json!("payouts"))
    );
    operator.finish(&env.ns).await;
}
