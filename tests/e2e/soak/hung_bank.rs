//! A bank that hangs while many callers of the gateway call it: it slows only itself.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::sim::{Behaviour, FailurePoint};
use futures::future::join_all;

use super::RandomPlan;
use super::random::SoakEnv;
use crate::cluster::bank_env::BankEnv;
use crate::cluster::gateway_calls::{caller_token, get, until_response};
use crate::cluster::operator::Operator;

/// Callers of the hung bank at the same time: more than its bulkhead admits of one user.
const CALLERS: usize = 128;

/// Calls of the other bank in each round.
const GOOD_CALLS: usize = 8;

/// A round takes at least this long, so that all of them are within the caller's rate limit.
const ROUND: Duration = Duration::from_millis(500);

/// Lets one synced bank hang, has callers flood the gateway with calls to it for `time`, and checks that all calls to
/// another one are answered meanwhile.
pub(super) async fn hung_bank_under_load(env: &SoakEnv, plan: &mut RandomPlan, time: Duration) {
    let (hung, good) = SoakEnv::two_synced(plan);
    let (hung, good) = (&env.banks[hung], &env.banks[good]);
    env.operator.wait_leading().await;
    good.recover().await;
    // A token of its own: bindings are revoked in between.
    let token = caller_token(&env.ns, &format!("caller-{}", env.now().as_millisecond()), Some("busbar-caller")).await;
    let path = |name: &str, millis| accounts(env.ns.name(), name, millis);
    until_response(&env.operator, &path(good.name(), 20_000), &token, (200, "")).await;
    hung.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.expect("a script");
    flood(&env.operator, &token, &path(hung.name(), 500), &path(good.name(), 20_000), time).await;
    hung.recover().await;
}

/// A call of the operation `accounts`.
fn accounts(namespace: &str, connection: &str, deadline_ms: u32) -> String {
    format!("/api/providers/{namespace}/{connection}/accounts?deadline_ms={deadline_ms}")
}

/// Calls both connections for `time`, the hung one with many callers; returns the errors of its calls.
async fn flood(operator: &Operator, token: &str, hung: &str, good: &str, time: Duration) -> Vec<String> {
    let clock = Clock::system();
    let (end, mut errors) = (clock.mono() + time, Vec::new());
    while clock.mono() < end {
        let flood = join_all((0..CALLERS).map(|_| get(operator, hung, token)));
        let calls = join_all((0..GOOD_CALLS).map(|_| get(operator, good, token)));
        let (refused, answered, ()) = futures::join!(flood, calls, tokio::time::sleep(ROUND));
        for (status, error, body) in answered {
            // One late check opens the circuit of these banks; a busy machine may cause one.
            assert!(status == 200 || error == "circuit_open", "a call beside the hung bank: {body}");
        }
        for (status, error, body) in refused {
            let expected = ["provider_failed", "bulkhead_full", "circuit_open"];
            assert!(expected.contains(&error.as_str()), "a call of the hung bank: {status} {body}");
            errors.push(error);
        }
    }
    errors
}

#[tokio::test]
async fn a_hung_bank_under_load_delays_no_call_of_another() {
    let env = BankEnv::new("hung-bank").await;
    let (hung, good) = (env.mono("hung", |config| config).await, env.mono("good", |config| config).await);
    let token = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    // No check opens the circuit of the hung bank, so that its bulkhead is seen.
    env.merge("ProviderConnection", "hung", serde_json::json!({"spec": {"healthCheck": {"interval": "10m"}}})).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let path = |name: &str, millis| accounts(env.ns.name(), name, millis);
    for bank in [&hung, &good] {
        until_response(&operator, &path(bank.name(), 20_000), &token, (200, "")).await;
    }
    hung.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.expect("a script");
    let errors = flood(&operator, &token, &path("hung", 500), &path("good", 20_000), Duration::from_secs(4)).await;
    assert!(errors.iter().any(|error| error == "bulkhead_full"), "{errors:?}");
    let metrics = operator.metrics().await;
    let rejected = crate::kit::metrics::value(&metrics, "busbar_bulkhead_rejected_total", &[("provider", "mono")]);
    assert!(rejected > Some(0.0), "{metrics}");
    hung.recover().await;
    operator.finish(&env.ns).await;
}
