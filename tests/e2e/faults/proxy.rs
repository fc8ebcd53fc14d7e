//! Faults between the operator and a working API server.

use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::faults::Fault;
use serde_json::json;

use super::{KINDS, LEASE_REQUEST_FAILED, connection_field_is, fail_bank_a, fail_over_during, get_object, is_active};
use crate::cluster::bank_env::{bank_connection, named_connection};
use crate::cluster::control_planes::shared_plane;
use crate::cluster::failover_env::{FailoverEnv, RECOVERY_DEADLINE};
use crate::cluster::fault_run::Expected;
use crate::kit::objects::{bearer_auth, candidates, route};
use crate::kit::wait::within;

/// Every request fails with this status for a minute.
async fn all_requests_fail(topic: &str, status: u16) {
    let plane = shared_plane().await;
    let expected = Expected { reason: LEASE_REQUEST_FAILED, ..Expected::default() };
    let run = fail_over_during(&plane, topic, Fault::AllRejected(status), expected, async |env, run| {
        run.last_for(env, Duration::from_mins(1)).await;
    });
    let (mut env, outcome) = run.await;
    outcome.assert_recovered(&mut env).await;
    let (requests, rejected) = (env.fault_env.proxy.requests(), env.fault_env.proxy.rejected());
    // Four watches every ten seconds, the lease every two, and nothing else.
    assert!(rejected < 120, "{rejected} of {requests} requests were rejected: too many");
    env.finish().await;
}

#[tokio::test]
async fn the_operator_survives_503_for_a_minute() {
    all_requests_fail("failing", 503).await;
}

#[tokio::test]
async fn the_operator_survives_429_for_a_minute() {
    all_requests_fail("busy", 429).await;
}

#[tokio::test]
async fn the_operator_survives_random_503() {
    let plane = shared_plane().await;
    // Of thirty renewals some certainly fail; which status writes fail is random, and the checks hold that each failure is
    // logged once.
    let expected = Expected { reason: LEASE_REQUEST_FAILED, ..Expected::default() };
    let run = fail_over_during(&plane, "flaky", Fault::SomeRejected(50), expected, async |env, run| {
        run.last_for(env, Duration::from_secs(30)).await;
    });
    let (mut env, outcome) = run.await;
    outcome.assert_recovered(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn half_open_watches_are_noticed_within_a_minute() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "half-open").await;
    let mut run = env.begin(Fault::WatchesSilent).await;
    env.patch_spec::<BankRoute>("payouts", json!({"priority": 7})).await;
    let observed = |r: &BankRoute| (r.status.as_ref()?.observed_generation == Some(2)).then_some(());
    within(Duration::from_mins(1), "the change is observed", async || {
        get_object::<BankRoute>(&env, "payouts").await.is_some_and(|route| observed(&route).is_some())
    })
    .await;
    // Each kind has a watch of its own, and all of them fell silent at the same time.
    let reason = "watch failed; retrying with backoff";
    let every_kind = async || run.log_count(&env, reason) >= KINDS.len();
    within(Duration::from_mins(1), "every kind's watch is opened anew", every_kind).await;
    run.end(&env).await;
    let expected = Expected { reason, kinds: &KINDS, writes: &[("bankroutes/payouts", 1)], ..Expected::default() };
    let outcome = run.outcome(&env, expected, async |env| is_active(env, "a").await).await;
    outcome.assert_recovered(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn an_object_replaced_between_two_watches_is_another() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "replaced").await;
    let other = env.bank_with_secret("other").await;

    let mut run = env.begin(Fault::WatchesHeld).await;
    env.delete("ProviderConnection", "a").await;
    env.put(&named_connection("a", &other, json!({}))).await;
    run.end(&env).await;
    let address = other.address().to_string();
    let host = |c: &ProviderConnection| c.status.as_ref()?.host.clone();
    let expected = Expected { writes: &[("providerconnections/a", 1)], ..Expected::default() };
    let outcome =
        run.outcome(&env, expected, async |env| connection_field_is(env, "a", host, address.clone()).await).await;
    assert_ne!(outcome.statuses["providerconnections/a"]["uid"], outcome.before["providerconnections/a"]["uid"]);
    let before = env.a.arrivals().next;
    outcome.assert_recovered(&mut env).await;
    assert_eq!(env.a.arrivals().next, before, "the bank of the deleted connection is not called any more");
    env.finish().await;
}

#[tokio::test]
async fn the_credential_of_a_replaced_connection_is_not_used() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "orphan").await;
    let mut run = env.begin(Fault::WatchesHeld).await;
    env.delete("ProviderConnection", "a").await;
    env.put(&bank_connection(&env.a, bearer_auth("missing"))).await;
    run.end(&env).await;
    let reason = |c: &ProviderConnection| {
        let conditions = &c.status.as_ref()?.conditions;
        Some(conditions.iter().find(|c| c.type_ == "Ready")?.reason.clone())
    };
    within(RECOVERY_DEADLINE, "the Secret of the successor is not found", async || {
        connection_field_is(&env, "a", reason, "SecretNotFound".to_owned()).await
    })
    .await;
    // The probes of the other bank measure the time.
    let (before, b) = (env.a.arrivals().next, env.b.arrivals().next);
    within(RECOVERY_DEADLINE, "bank b is probed three times more", async || env.b.arrivals().next >= b + 3).await;
    assert_eq!(env.a.arrivals().next, before, "the old credential is not used any more");
    env.finish().await;
}

#[tokio::test]
async fn the_status_of_a_replaced_object_is_not_written_to_its_successor() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "successor").await;
    // The status of the old object has a generation that the new one does not have.
    env.patch_spec::<BankRoute>("payouts", json!({"priority": 7})).await;
    let observed = |r: &BankRoute| (r.status.as_ref()?.observed_generation == Some(2)).then_some(());
    env.until("payouts", "the change is observed", observed).await;
    let mut run = env.begin(Fault::WatchesHeld).await;
    env.delete("BankRoute", "payouts").await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    fail_bank_a(&env).await;
    run.end(&env).await;
    let expected = Expected::default();
    let outcome = run.outcome(&env, expected, async |env| is_active(env, "b").await).await;
    assert_ne!(outcome.statuses["bankroutes/payouts"]["uid"], outcome.before["bankroutes/payouts"]["uid"]);
    outcome.assert_recovered(&mut env).await;
    env.finish().await;
}
