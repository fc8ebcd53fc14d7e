//! Decisions of a standby: its gateway decides too, by the health and the circuits that the leader wrote.

use busbar::api::v1alpha1::ProviderConnection;
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::gateway_calls::{caller_token, get};
use crate::cluster::operator::Operator;
use crate::kit::banks::unavailable;
use crate::kit::objects::{candidates, route};
use crate::kit::wait::eventually;
use crate::routing_decisions::{decide, staff_token, until_active, until_route};

/// Waits until a decision of `operator` names `bank`; each has a payout of its own.
async fn until_chosen(operator: &Operator, env: &BankEnv, token: &str, bank: &str) -> Value {
    let mut payout = 0;
    eventually(&format!("a decision for {bank}"), async || {
        payout += 1;
        let answer = decide(operator, env, token, "payouts", &format!("{bank}-{payout}")).await;
        let chosen = answer.status == 200 && answer.body["data"]["candidate"] == bank;
        if chosen { Ok(answer.body) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await
}

#[tokio::test]
async fn a_standby_decides_by_what_the_leader_measures() {
    let env = BankEnv::new("standby-decides").await;
    let a = env.bank("a").await;
    env.bank("b").await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let staff = staff_token(&env, "staff", "busbar-finance-ops").await;
    let ledger = env.ns.ledger_flag("a");
    let mut replicas = Vec::new();
    for name in ["a", "b"] {
        let mut operator = Operator::start_replica(&env.ns, name, &[&ledger]).await;
        operator.wait_ready().await;
        if replicas.is_empty() {
            operator.wait_leading().await;
        }
        replicas.push(operator);
    }
    let [leader, standby] = &replicas[..] else { panic!("two replicas") };
    until_route(&env, "payouts", "both are available", |s| s.candidate_summary.as_deref() == Some("2/2")).await;
    let first = until_chosen(standby, &env, &payouts, "a").await;
    assert!(!standby.leads().await, "it decides as a standby");
    // One ledger: the leader replays what the standby decided.
    let id = first["data"]["payout_id"].as_str().unwrap();
    let again = decide(leader, &env, &payouts, "payouts", id).await;
    assert_eq!((&again.body["data"]["replayed"], &again.body["data"]["hash"]), (&json!(true), &first["data"]["hash"]));

    // Only the leader sees that the bank fails.
    a.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    until_active(&env, "payouts", "b").await;
    let moved = until_chosen(standby, &env, &payouts, "b").await;
    let why = moved["data"]["candidates"].as_array().unwrap().iter().find(|one| one["name"] == "a").unwrap();
    assert_eq!(why["state"], "Excluded", "{why}");
    let path = format!("/api/treasury/routing/health?namespace={}", env.ns.name());
    let (status, _, body) = get(standby, &path, &staff).await;
    assert_eq!(status, 200, "{body}");
    let banks = body["data"].to_string();
    assert!(banks.contains("Open"), "the circuit is reported as the leader wrote it: {banks}");
    a.recover().await;
    until_chosen(standby, &env, &payouts, "a").await;
    assert!(!standby.leads().await);
    for operator in replicas {
        operator.finish(&env.ns).await;
    }
}
