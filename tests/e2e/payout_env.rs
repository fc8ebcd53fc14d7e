//! Payouts at two banks with books of their own, on a real operator: bank A executes what it is sent after an hour, bank B at once.

use busbar::testbed::sim::{BankConfig, BankHandle, PayoutConfig};
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
use crate::routing_decisions::{staff_token, until_route};

/// The payout of a test.
pub(crate) const PAYOUT: &str = "p-1";
/// An hour, in milliseconds: longer than a test.
pub(crate) const HOUR: u64 = 3_600_000;

/// An operator, the banks of its route, and who works with it.
pub(crate) struct PayoutEnv {
    pub(crate) env: BankEnv,
    pub(crate) a: BankHandle,
    pub(crate) b: BankHandle,
    pub(crate) operator: Operator,
    pub(crate) processing: String,
    pub(crate) staff: String,
    pub(crate) reader: String,
}

impl PayoutEnv {
    pub(crate) async fn start(ledger: Option<&str>) -> Self {
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
    pub(crate) async fn act(&self, act: &str, token: &str, body: &Value) -> Value {
        let path = format!("/{PAYOUT}/{act}?namespace={}", self.env.ns.name());
        let (status, said) = post(&self.operator, &path, token, body).await;
        assert_eq!(status, 200, "{act}: {said}");
        said["data"]["payout"].clone()
    }

    pub(crate) async fn payout(&self) -> Value {
        let path = format!("/api/treasury/payouts/{PAYOUT}?namespace={}", self.env.ns.name());
        let (status, _, body) = get(&self.operator, &path, &self.staff).await;
        assert_eq!(status, 200, "{body}");
        body["data"]["payout"].clone()
    }

    pub(crate) async fn register(&self) -> Value {
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
    pub(crate) fn asked(&self, method: &str) -> usize {
        count_arrivals(&self.a, |arrival| arrival.path.starts_with("/payouts/") && arrival.method == method)
    }
}

/// Sends an attempt to its bank, as the system that processes payouts does; the status, or `None` without an answer.
pub(crate) async fn submit(bank: &BankHandle, attempt: &Value) -> Option<u16> {
    let text = |field: &str| attempt[field].as_str().expect("text").to_owned();
    let body = json!({"payoutId": PAYOUT, "endToEndId": text("end_to_end_id")});
    let request = client().post(format!("{}/payouts", bank.base_url())).header("content-type", "application/json");
    let sent = request.header("idempotency-key", text("idempotency_key")).body(body.to_string()).send().await.ok()?;
    let status = sent.status().as_u16();
    sent.bytes().await.ok().map(|_| status)
}
