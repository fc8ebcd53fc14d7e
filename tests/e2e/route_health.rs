//! Routes and the health checks of their banks: a bank whose checks fail, or never passed, takes no payout.

use busbar::api::v1alpha1::bank_route::BankRouteStatus;
use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::sim::{BankHandle, Behaviour};
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, bank_connection, has_condition};
use crate::cluster::operator::Operator;
use crate::kit::objects::{candidates, policy, route};

/// Waits until the route's active candidate is this one.
async fn until_active(env: &BankEnv, name: Option<&str>) -> BankRouteStatus {
    let active = |route: &BankRoute| {
        route.status.as_ref().filter(|s| s.available.is_some() && s.active.as_deref() == name).cloned()
    };
    env.until("payouts", &format!("{name:?} is active"), active).await
}

/// State and reason of a candidate.
fn candidate_of<'a>(status: &'a BankRouteStatus, name: &str) -> (&'a str, &'a str) {
    let found = status.candidates.iter().find(|candidate| candidate.name == name).expect("a candidate");
    (found.state.as_str(), found.reason.as_str())
}

/// Banks `a` and `b`, whose circuits this policy governs, and a route that prefers `a` by its name.
async fn two_banks(topic: &str, trip: Value) -> (BankEnv, BankHandle, Operator) {
    let env = BankEnv::new(topic).await;
    env.put(&policy("lenient", trip)).await;
    let mut banks = Vec::new();
    for name in ["a", "b"] {
        let bank = env.bank_with_secret(name).await;
        env.put(&bank_connection(&bank, json!({"breakerPolicyRef": {"name": "lenient"}}))).await;
        banks.push(bank);
    }
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_active(&env, Some("a")).await;
    (env, banks.swap_remove(0), operator)
}

#[tokio::test]
async fn an_unhealthy_bank_is_excluded_in_every_policy_mode() {
    let never = json!({"consecutiveFailures": 0, "unhealthy": "Ignore"});
    for (mode, answer) in [("Shadow", Behaviour::status(503)), ("Enforce", Behaviour::status(403))] {
        let (env, a, operator) = two_banks("policies", json!({"mode": mode, "trip": never})).await;
        a.fail_with(answer).await.unwrap();
        env.request::<ProviderConnection>("a").await;
        let moved = until_active(&env, Some("b")).await;
        assert_eq!(candidate_of(&moved, "a"), ("Excluded", "Unhealthy"), "{mode}");
        env.until_event("BankRoute", "payouts", "FailedOver", "a is excluded (Unhealthy)").await;

        let until = "2099-01-01T00:00:00Z";
        let forced = |mode: &str| json!({"circuitOverride": {"mode": mode, "untilTime": until, "reason": "drill"}});
        env.patch_spec::<ProviderConnection>("a", forced("ForcedClosed")).await;
        until_active(&env, Some("a")).await;
        env.patch_spec::<ProviderConnection>("a", forced("Shadow")).await;
        until_active(&env, Some("b")).await;
        env.patch_spec::<ProviderConnection>("a", json!({"circuitOverride": null})).await;
        a.recover().await;
        env.request::<ProviderConnection>("a").await;
        until_active(&env, Some("a")).await;
        env.until_event("BankRoute", "payouts", "FailedBack", "failed back to a").await;
        operator.finish(&env.ns).await;
    }
}

#[tokio::test]
async fn a_restart_forgets_neither_that_a_bank_was_well_nor_that_it_is_not() {
    let trip = json!({"trip": {"consecutiveFailures": 0, "unhealthy": "Ignore"}});
    let (env, a, mut operator) = two_banks("restarts", trip).await;
    a.fail_with(Behaviour::status(401)).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    let moved = until_active(&env, Some("b")).await;
    let first = env.get::<ProviderConnection>("b").await.status.and_then(|s| s.passed_check);
    assert!(first.as_ref().is_some_and(|check| check.passed), "{first:?}");

    // The connection's own status is what the next process starts from.
    let unhealthy = |connection: &ProviderConnection| {
        let conditions = &connection.status.as_ref()?.conditions;
        has_condition(conditions, "Healthy", "False", "ChecksFailing").then_some(())
    };
    env.until("a", "Unhealthy", unhealthy).await;
    operator.kill9();
    operator.restart().await;
    let handled = env.request::<BankRoute>("payouts").await;
    let after = env
        .until("payouts", "evaluated after the restart", |route: &BankRoute| {
            route.status.as_ref().filter(|s| s.last_handled_reconcile_at.as_ref() == Some(&handled)).cloned()
        })
        .await;
    // No check has ended yet, or it has failed: either way `b` takes the payouts, and no failover was made.
    assert_eq!((after.active.as_deref(), after.last_failover), (Some("b"), moved.last_failover));
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn another_endpoint_has_to_pass_a_check_of_its_own() {
    let (env, _a, operator) = two_banks("moved", json!({"preset": "Bank"})).await;
    let other = env.bank_with_secret("other").await;
    other.fail_with(Behaviour::status(503)).await.unwrap();
    let moved = json!({"endpoint": {"baseURL": other.base_url()}});
    env.patch_spec::<ProviderConnection>("a", moved).await;
    let excluded = until_active(&env, Some("b")).await;
    assert_eq!(candidate_of(&excluded, "a"), ("Excluded", "NeverHealthy"));
    let checked = |connection: &ProviderConnection| {
        let status = connection.status.as_ref()?;
        let first = status.passed_check.as_ref()?;
        (!first.passed && has_condition(&status.conditions, "Ready", "True", "Unverified")).then_some(())
    };
    env.until("a", "unverified at the new endpoint", checked).await;
    operator.finish(&env.ns).await;
}
