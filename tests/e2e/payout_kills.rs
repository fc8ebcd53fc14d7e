//! A real operator is killed when a call of a payout has arrived at the bank and has had no effect yet, when it had its effect
//! and the answer did not arrive, and after the next attempt: by the books of the banks the payout is executed once, and no
//! recall is repeated blindly. Kills before the call is sent: `tests/it/payouts/kill.rs`.

use busbar::api::v1alpha1::BankRoute;
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::sim::{BankHandle, Behaviour, FailurePoint};
use serde_json::{Value, json};

use crate::kit::http::client;
use crate::kit::wait::eventually;
use crate::payout_env::{PAYOUT, PayoutEnv, submit};
use crate::routing_decisions::{stored_events, until_route};

impl PayoutEnv {
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

    async fn run_with_kills(mut self) {
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

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_around_each_call_pays_once() {
    PayoutEnv::start(None).await.run_with_kills().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_on_postgres_that_is_killed_around_each_call_pays_once() {
    let server = PostgresServer::shared().await.unwrap();
    let database = server.create_database().await.unwrap();
    PayoutEnv::start(Some(&database)).await.run_with_kills().await;
    server.drop_database(&database);
}
