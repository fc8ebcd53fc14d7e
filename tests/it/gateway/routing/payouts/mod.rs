//! `/api/treasury/payouts` over real sockets: every call, good and bad.

mod people;
mod reading;
mod registering;
mod reporting;
mod rerouting;
mod rights;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::domain::payout::{BankPromises, Effect, Payout, PayoutInput};
use busbar::ledger::payouts::PayoutAct;
use busbar::provider::payouts::PayoutFollower;
use busbar::routing::{Actor, PayoutRequest};
use serde_json::{Value, json};

use super::super::harness::{GatewayHarness, Said, said};
use super::{golden, payout, payout_with};

pub(in crate::gateway) const PAYOUTS: &str = "/api/treasury/payouts";

/// What followed from acts, in order.
#[derive(Default)]
struct Followed(Mutex<Vec<Effect>>);

impl PayoutFollower for Followed {
    fn follow(&self, _: &Payout, effects: &[Effect]) {
        self.0.lock().unwrap().extend_from_slice(effects);
    }
}

impl Followed {
    /// Records what follows at `harness` from now on.
    fn of(harness: &GatewayHarness) -> Arc<Self> {
        let followed = Arc::<Self>::default();
        harness.routing.set_follower(Arc::<Self>::clone(&followed));
        followed
    }

    fn take(&self) -> Vec<Effect> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A bank that can be inquired and recalled, and knows idempotency keys for a day.
fn promising() -> BankPromises {
    BankPromises {
        idempotency_window: Duration::from_hours(24),
        inquiry: true,
        not_found_proof: true,
        recall: true,
        ..BankPromises::default()
    }
}

/// The golden route, whose banks can all be inquired and recalled.
async fn followed_by_banks() -> GatewayHarness {
    let harness = golden().await;
    for bank in ["bank-a", "bank-b", "bank-c"] {
        harness.routes.promise(bank, promising());
    }
    harness
}

async fn post_as(harness: &GatewayHarness, token: &str, path: &str, body: &Value) -> Said {
    let request = harness.http.post(harness.url(&format!("{PAYOUTS}{path}"))).bearer_auth(token);
    said(request.header("content-type", "application/json").body(body.to_string())).await
}

/// Posts as ann, within the namespace.
async fn act(harness: &GatewayHarness, id: &str, act: &str, body: &Value) -> Said {
    act_as(harness, "token-ann", id, act, body).await
}

async fn act_as(harness: &GatewayHarness, token: &str, id: &str, act: &str, body: &Value) -> Said {
    post_as(harness, token, &format!("/{id}/{act}?namespace=treasury"), body).await
}

/// Registers and returns the answer's data.
async fn registered(harness: &GatewayHarness, body: &Value) -> Value {
    let said = post_as(harness, "token-ann", "", body).await;
    assert_eq!(said.status, 200, "{said:?}");
    said.body["data"].clone()
}

/// The payout, with its timeline.
async fn read(harness: &GatewayHarness, id: &str) -> Value {
    let said = harness.get(&format!("{PAYOUTS}/{id}?namespace=treasury")).await;
    assert_eq!(said.status, 200, "{said:?}");
    said.body["data"].clone()
}

/// The answer to an act that must succeed.
fn done(said: &Said) -> &Value {
    assert_eq!(said.status, 200, "{said:?}");
    &said.body["data"]
}

/// Reports what became of an attempt, which must be accepted.
async fn outcome(harness: &GatewayHarness, id: &str, number: u32, class: &str) -> Value {
    let said = act(harness, id, &format!("attempts/{number}/outcomes"), &json!({"class": class})).await;
    done(&said)["payout"].clone()
}

/// Has the clock do what is due about a payout.
async fn tick(harness: &GatewayHarness, id: &str) {
    let request = PayoutRequest {
        act: PayoutAct::Tick,
        input: PayoutInput::Tick,
        namespace: "treasury".to_owned(),
        payout_id: id.to_owned(),
        reason: None,
    };
    let clock = Actor { request_id: None, subject: "busbar".to_owned() };
    harness.routing.act(&request, &clock).await.unwrap();
}

/// A payout that waits for a person, because its route asks no bank.
async fn held(harness: &GatewayHarness, id: &str) -> Value {
    let mut spec = super::super::scripted_routes::golden_spec();
    spec["stuck"] = json!({"policy": "ManualOnly"});
    harness.routes.add("payouts", &spec);
    registered(harness, &payout(id)).await;
    outcome(harness, id, 1, "timeout").await;
    tick(harness, id).await;
    let payout = read(harness, id).await["payout"].clone();
    assert_eq!((&payout["state"], &payout["hold"]), (&json!("held"), &json!("manual_only")), "{payout}");
    payout
}

/// The types of the stored events about payouts, in order.
async fn events(harness: &GatewayHarness) -> Vec<String> {
    let filter = busbar::ledger::outbox::EventFilter {
        aggregate: Some("payout/treasury".to_owned()),
        ..busbar::ledger::outbox::EventFilter::default()
    };
    let stored = harness.ledger.list_events(&filter, 100).await.unwrap();
    stored.into_iter().map(|stored| stored.event_type).collect()
}

/// One response for each error code of payouts.
pub(super) async fn errors(harness: &GatewayHarness) -> Vec<Said> {
    let missing = harness.get(&format!("{PAYOUTS}/none?namespace=treasury")).await;
    registered(harness, &payout_with("refused", "country", json!("SN"))).await;
    let refused = act(harness, "refused", "inquire", &json!({})).await;
    vec![missing, refused]
}
