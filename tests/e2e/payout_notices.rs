//! What banks say of payouts unasked, late or against what is true, on a real operator: nothing is paid twice by their books.

use busbar::testbed::sim::{BankHandle, Behaviour, FailurePoint, Notice, NoticeConfig, PayoutConfig};
use serde_json::{Value, json};

use crate::kit::wait::eventually;
use crate::payout_env::{HOUR, PAYOUT, PayoutEnv, submit};
use crate::routing_decisions::{post, stored_events};

impl PayoutEnv {
    /// Has a bank post what it says to the confirmations of payouts, as the receiver of its messages does.
    fn listen_to(&self, bank: &BankHandle, after_ms: u64, says: &[&str]) {
        let says = says.iter().map(|status| Notice { after_ms: 0, status: Some((*status).to_owned()) });
        let path = "/api/treasury/payouts/{payoutId}/confirmations?namespace=";
        let notices = NoticeConfig {
            url: format!("{}{path}{}", self.operator.gateway(), self.env.ns.name()),
            bearer_token: self.processing.clone(),
            says: says.collect(),
        };
        bank.set_payouts(PayoutConfig { after_ms, notices: Some(notices), ..PayoutConfig::default() });
    }

    async fn until_payout(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let payout = self.payout().await;
            if is(&payout) { Ok(payout) } else { Err(payout.to_string()) }
        })
        .await
    }

    /// Another attempt is asked for, and the gate is closed.
    async fn refuses_attempt(&self, attempt_no: u32, reason: &str) {
        let body = json!({
            "namespace": self.env.ns.name(), "route": "payouts", "payout_id": PAYOUT, "amount": "1000", "currency": "EUR",
            "country": "NO", "attempt_no": attempt_no,
        });
        let refused = post(&self.operator, "decide", &self.processing, &body).await;
        let said = &refused.body["data"];
        let refusal = (refused.status, &said["error"], &said["details"]["reason"]);
        assert_eq!(refusal, (409, &json!("attempt_unresolved"), &json!(reason)), "{}", refused.body);
    }

    fn executions(&self) -> [Option<usize>; 2] {
        [&self.a, &self.b].map(|bank| bank.payout_books().executions.get(PAYOUT).copied())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_confirmation_of_a_recalled_payout_freezes_it() {
    let it = PayoutEnv::start(None).await;
    it.listen_to(&it.a, HOUR, &[]);
    it.listen_to(&it.b, 0, &["ACSC"]);
    let first = it.register().await;
    assert_eq!(first["bank"], json!("a"), "{first}");
    it.a.fail_with(Behaviour::Reset(FailurePoint::AfterHead)).await.expect("it resets");
    assert_eq!(submit(&it.a, &first).await, None, "the reply is lost");
    it.a.recover().await;
    for class in ["submitted", "timeout"] {
        it.act("attempts/1/outcomes", &it.processing, &json!({ "class": class })).await;
    }
    it.act("recall", &it.staff, &json!({"reason": "e2e"})).await;
    let rerouted = it.until_payout("it goes on at bank B", |payout| payout["attempts"][1]["bank"] == json!("b")).await;
    assert_eq!(submit(&it.b, &rerouted["attempts"][1]).await, Some(202));
    it.until_payout("bank B confirms by itself", |payout| payout["state"] == json!("confirmed")).await;

    // Bank A cancelled it and says the opposite now.
    let reference = first["end_to_end_id"].as_str().expect("text");
    assert_eq!(it.a.say_of_payout(PAYOUT, reference, Some("ACSC")).await, Some(200));
    let frozen = it.payout().await;
    assert_eq!((&frozen["state"], &frozen["hold"]), (&json!("frozen"), &json!("duplicate_detected")), "{frozen}");
    let told = stored_events(&it.operator, &it.env, &it.reader, "payout.held").await;
    assert_eq!(told.last().expect("an event")["payload"]["hold"], json!("duplicate_detected"), "{told:?}");
    it.refuses_attempt(3, "frozen").await;
    assert_eq!(it.executions(), [Some(0), Some(1)], "by the books");
    it.operator.finish(&it.env.ns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_contradicts_its_confirmation_closes_the_gate() {
    let it = PayoutEnv::start(None).await;
    it.listen_to(&it.a, 0, &["ACSC", "RJCT"]);
    let first = it.register().await;
    assert_eq!(first["bank"], json!("a"), "{first}");
    assert_eq!(submit(&it.a, &first).await, Some(202));
    let held = it.until_payout("it is held", |payout| payout["hold"] == json!("contradicted")).await;
    assert_eq!(held["attempts"][0]["state"], json!("confirmed"), "{held}");
    it.refuses_attempt(2, "executed").await;
    // It says the first again, and what is in its books.
    let reference = first["end_to_end_id"].as_str().expect("text");
    for status in [Some("ACSC"), None] {
        assert_eq!(it.a.say_of_payout(PAYOUT, reference, status).await, Some(200));
    }
    let again = it.payout().await;
    assert_eq!(
        (&again["attempts"][0]["state"], &again["hold"]),
        (&json!("confirmed"), &json!("contradicted")),
        "{again}"
    );
    assert_eq!(it.executions(), [Some(1), None], "by the books");
    it.operator.finish(&it.env.ns).await;
}
