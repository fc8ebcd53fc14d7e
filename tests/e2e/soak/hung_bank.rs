//! A bank that hangs while many callers of the gateway call it: it slows only itself.

use std::time::Duration;

use busbar::testbed::sim::{Behaviour, FailurePoint};
use futures::future::join_all;

use super::RandomPlan;
use super::random::SoakEnv;
use crate::cluster::gateway_calls::{caller_token, get, until_response};

/// Callers of the hung bank at the same time: more than its bulkhead admits of one caller.
const CALLERS: usize = 112;

/// Calls of the other bank in each round.
const GOOD_CALLS: usize = 8;

/// A round takes at least this long, so that all of them are within the caller's rate limit.
const ROUND: Duration = Duration::from_millis(500);

/// Lets one synced bank hang, has callers flood the gateway with calls to it for `time`, and checks that all calls to
/// another one are answered meanwhile.
pub(super) async fn hung_bank_under_load(env: &SoakEnv, plan: &mut RandomPlan, time: Duration) {
    let (hung, good) = SoakEnv::two_synced(plan);
    let (hung, good) = (&env.banks[hung], &env.banks[good]);
    good.recover().await;
    // A token of its own: bindings are revoked in between.
    let token = caller_token(&env.ns, &format!("caller-{}", env.now().as_millisecond()), Some("busbar-caller")).await;
    let path =
        |name: &str, millis: u32| format!("/api/providers/{}/{name}/accounts?deadline_ms={millis}", env.ns.name());
    let good = path(good.name(), 20_000);
    until_response(&env.operator, &good, &token, (200, "")).await;
    let flooded = path(hung.name(), 500);
    hung.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.expect("a script");
    let end = env.clock.mono() + time;
    while env.clock.mono() < end {
        let flood = join_all((0..CALLERS).map(|_| get(&env.operator, &flooded, &token)));
        let calls = join_all((0..GOOD_CALLS).map(|_| get(&env.operator, &good, &token)));
        let (refused, answered, ()) = futures::join!(flood, calls, tokio::time::sleep(ROUND));
        for (status, _, body) in answered {
            assert_eq!(status, 200, "a call beside the hung bank: {body}");
        }
        for (status, error, body) in refused {
            let expected = ["provider_failed", "bulkhead_full", "circuit_open"];
            assert!(expected.contains(&error.as_str()), "a call of the hung bank: {status} {body}");
        }
    }
    hung.recover().await;
}
