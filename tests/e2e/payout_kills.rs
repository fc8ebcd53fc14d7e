//! A real operator is killed when a call of a payout has arrived at the bank and has had no effect yet, when it had its effect
//! and the answer did not arrive, and after the next attempt: by the books of the banks the payout is executed once, and no
//! recall is repeated blindly. Kills before the call is sent: `tests/it/payouts/kill.rs`.

use busbar::api::v1alpha1::BankRoute;
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::sim::{BankConfig, BankHandle, Behaviour, FailurePoint, PayoutConfig};
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::repository;
use crate::cluster::gateway_calls::{caller_token, get};
use crate::cluster::operator::Operator;
use crate::kit::banks::count_arrivals;
use crate::kit::http::client;
use crate::kit::objects::{candidates, profile_connection, route};
use crate::kit::wait::eventually;
use crate::payouts::post;
use crate::routing_decisions::{staff_token, stored_events, until_route};

const PAYOUT: &str = "p-1";
/// An hour, in milliseconds: longer than the test.
const HOUR: u64 = 3_600_000;

/// An operator, the banks of its route, and who works with it.
struct Killed {
    env: BankEnv,
    a: BankHandle,
    b: BankHandle,
    operator: Operator,
    processing: String,
    staff: String,
    reader: String,
}

impl Killed {
    async fn start(ledger: Option<&str>) -> Self {
        let env = BankEnv::new("paykill").await;
        let bank = async |name: &str, after_ms: u64| {
            let payouts = PayoutConfig { after_ms, ..PayoutConfig::default() };
            let bank = env.sim.add_bank(BankConfig { payouts, ..BankConfig::new(name) }).await.expect("a bank");
            // Checks would be stalled as well.
            let passive = json!({"healthCheck": {"mode": "Passive"}});
            env.put(&profile_connection(name, "profile:payout-bank", &bank.base_url(), passive)).await;
            bank
        };
        let (a, b) = (bank("a", HOUR).await, bank("b", 0).await);
        let stuck = json!({"stuck": {"maxRerouteCostBasisPoints": "10000"}});
        env.put(&route("payouts", &candidates(&["a", "b"]), stuck)).await;
        let processing = caller_token(&env.ns, "processing", Some("busbar-payouts")).await;
        let reader = caller_token(&env.ns, "reader", Some("busbar-events")).await;
        let staff = staff_token(&env, "ann", "busbar-pay-admin").await;
        let profiles = format!("--profiles-dir={}", repository("hack/demo/profiles").display());
        let ledger = ledger.map(|url| format!("--ledger={url}"));
        let flags: Vec<&str> = [Some(profiles.as_str()), ledger.as_deref()].into_iter().flatten().collect();
        let operator = Operator::ready(&env.ns, &flags).await;
        until_route(&env, "payouts", "both are available", |s| s.candidate_summary.as_deref() == Some("2/2")).await;
        Self { env, a, b, operator, processing, staff, reader }
    }

    /// An act on the payout, by a member of staff or by the system that sends payouts.
    async fn act(&self, act: &str, token: &str, body: &Value) -> Value {
        let path = format!("/{PAYOUT}/{act}?namespace={}", self.env.ns.name());
        let (status, said) = post(&self.operator, &path, token, body).await;
        assert_eq!(status, 200, "{act}: {said}");
        said["data"]["payout"].clone()
    }

    async fn payout(&self) -> Value {
        let path = format!("/api/treasury/payouts/{PAYOUT}?namespace={}", self.env.ns.name());
        let (status, _, body) = get(&self.operator, &path, &self.staff).await;
        assert_eq!(status, 200, "{body}");
        body["data"]["payout"].clone()
    }

    async fn register(&self) -> Value {
        let body = json!({
            "namespace": self.env.ns.name(), "route": "payouts", "payout_id": PAYOUT, "amount": "1000",
            "currency": "EUR", "country": "NO",
        });
        eventually("the role arrives, and the payout is registered", async || {
            let (status, body) = post(&self.operator, "", &self.processing, &body).await;
            if status == 200 {
                Ok(body["data"]["payout"]["attempts"][0].clone())
            } else {
                Err(format!("{status} {body}"))
            }
        })
        .await
    }

    /// How often bank A was asked in this way.
    fn asked(&self, method: &str) -> usize {
        count_arrivals(&self.a, |arrival| arrival.path.starts_with("/payouts/") && arrival.method == method)
    }

    /// Has the operator ask bank A, which stalls at this point, and kills it there. At the first point the bank has done
    /// nothing yet, at the second it has done what it was asked for.
    async fn kill_at(&mut self, point: FailurePoint, act: &str) {
        self.a.fail_with(Behaviour::Stall(point)).await.expect("it stalls");
        let method = if act == "recall" { "POST" } else { "GET" };
        let before = self.asked(method);
        self.act(act, &self.staff, &json!({"reason": "e2e"})).await;
        eventually(format!("the bank is asked: {act}, {point:?}"), async || self.asked(method) > before).await;
        self.operator.kill9();
        self.a.recover().await;
        self.restart().await;
        let attempts = self.payout().await["attempts"].clone();
        assert_eq!(
            attempts.as_array().map(Vec::len),
            Some(1),
            "{act}, {point:?}: no attempt without proof: {attempts}"
        );
    }

    /// Starts the operator again, and waits until the new process runs both banks: it answers as a standby before.
    async fn restart(&mut self) {
        self.operator.restart_in_pod().await;
        let requested = self.env.request::<BankRoute>("payouts").await;
        until_route(&self.env, "payouts", "the new process evaluates both banks", |s| {
            s.last_handled_reconcile_at.as_ref() == Some(&requested) && s.candidate_summary.as_deref() == Some("2/2")
        })
        .await;
    }

    async fn run(mut self) {
        use FailurePoint::{AfterHead, BeforeHead};
        let first = self.register().await;
        assert_eq!(first["bank"], json!("a"), "{first}");
        self.a.fail_with(Behaviour::Reset(AfterHead)).await.expect("it resets");
        assert_eq!(submit(&self.a, &first).await, None, "the reply is lost");
        self.a.recover().await;
        for class in ["submitted", "timeout"] {
            self.act("attempts/1/outcomes", &self.processing, &json!({ "class": class })).await;
        }
        for (point, act) in
            [(BeforeHead, "inquire"), (AfterHead, "inquire"), (BeforeHead, "recall"), (AfterHead, "recall")]
        {
            self.kill_at(point, act).await;
        }
        assert_eq!(self.asked("POST"), 2, "a recall that nothing became of, and the one that a person asked for again");

        self.act("inquire", &self.staff, &json!({"reason": "e2e"})).await;
        let next = async |this: &Self| {
            let payout = this.payout().await;
            if payout["attempts"][1]["bank"] == json!("b") { Ok(payout) } else { Err(payout.to_string()) }
        };
        let rerouted = eventually("the payout goes on at the other bank", async || next(&self).await).await;
        self.operator.kill9();
        self.restart().await;
        let payout = self.payout().await;
        assert_eq!(payout["attempts"], rerouted["attempts"], "the same attempt after the kill");
        assert_eq!(payout["attempts"][0]["state"], json!("recalled"), "{payout}");
        let told = stored_events(&self.operator, &self.env, &self.reader, "payout.rerouted").await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(submit(&self.b, &payout["attempts"][1]).await, Some(202));
        let confirmed = self.act("confirmations", &self.processing, &json!({"attempt_no": 2, "status": "ACSC"})).await;
        assert_eq!(confirmed["state"], json!("confirmed"), "{confirmed}");
        let said = client().get(format!("{}/payouts/{}", self.a.base_url(), first["end_to_end_id"].as_str().unwrap()));
        let said: Value = serde_json::from_str(&said.send().await.unwrap().text().await.unwrap()).unwrap();
        assert_eq!(said["status"], json!("CANC"), "bank A will not execute it either: {said}");
        let executed = |bank: &BankHandle| bank.payout_books().executions.get(PAYOUT).copied();
        assert_eq!((executed(&self.a), executed(&self.b)), (Some(0), Some(1)));
        assert_eq!(self.asked("POST"), 2, "no recall was repeated");
        self.operator.finish(&self.env.ns).await;
    }
}

/// Sends an attempt to its bank, as the system that processes payouts does; the status, or `None` without an answer.
async fn submit(bank: &BankHandle, attempt: &Value) -> Option<u16> {
    let text = |field: &str| attempt[field].as_str().expect("text").to_owned();
    let body = json!({"payoutId": PAYOUT, "endToEndId": text("end_to_end_id")});
    let request = client().post(format!("{}/payouts", bank.base_url())).header("content-type", "application/json");
    let sent = request.header("idempotency-key", text("idempotency_key")).body(body.to_string()).send().await.ok()?;
    let status = sent.status().as_u16();
    sent.bytes().await.ok().map(|_| status)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_around_each_call_pays_once() {
    Killed::start(None).await.run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_on_postgres_that_is_killed_around_each_call_pays_once() {
    let server = PostgresServer::shared().await.unwrap();
    let database = server.create_database().await.unwrap();
    Killed::start(Some(&database)).await.run().await;
    server.drop_database(&database);
}
