//! Which callers a fallback serves.

use std::time::Duration;

use busbar::gateway::fallback_authorization::FallbackAuthorization;
use busbar::settings::RetryPolicy;
use busbar::testbed::sim::Behaviour;
use serde_json::json;

use super::QUOTE;
use super::world::{Plan, Said, World, fallback};

/// A world whose connection `fmp` fails and has the fallback `polygon`.
async fn failing(plan: Plan) -> World {
    let world = World::with(plan).await;
    world.connect("fmp", &world.fmp, |draft| {
        draft.fallback = vec![fallback("polygon")];
        draft.breaker.consecutive_failures = 0;
    });
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    world
}

async fn quote_as(world: &World, user: &str) -> Said {
    world.ask("GET", QUOTE, &format!("token-{user}"), &[]).await
}

#[tokio::test]
async fn a_fallback_serves_only_callers_who_may_call_it() {
    let mut world = failing(Plan::default()).await;
    let ann = quote_as(&world, "ann").await;
    assert_eq!((ann.status, ann.meta("provider_used")), (200, &json!("polygon_fallback")), "{ann:?}");
    let served = world.polygon.counters().requests;
    for (user, code) in [("desk", "forbidden"), ("cut-off", "authorization_unavailable")] {
        let failed = quote_as(&world, user).await;
        assert_eq!((failed.status, failed.error()), (502, "provider_failed"), "{failed:?}");
        let tried = &failed.body["data"]["details"]["stand_ins"];
        assert_eq!(*tried, json!([{"provider": "polygon", "code": code}]));
    }
    assert_eq!(world.polygon.counters().requests, served, "nothing was sent through the fallback");
    // While the first connection answers, the fallback is no matter.
    world.fmp.recover().await;
    assert_eq!(quote_as(&world, "desk").await.meta("provider_used"), &json!("fmp"));
    let denied = world.audit().await.into_iter().filter(|entry| !entry.allowed);
    let denied: Vec<_> = denied.map(|e| (e.subject, e.connection, e.reason)).collect();
    assert_eq!(denied, [("desk".to_owned(), "polygon".to_owned(), Some("rbac".to_owned()))]);
}

#[tokio::test]
async fn a_caller_without_a_fallback_has_the_whole_time_and_all_retries() {
    let world = World::new().await;
    world.connect("fmp", &world.fmp, |draft| {
        draft.fallback = vec![fallback("polygon")];
        draft.breaker.consecutive_failures = 0;
        draft.retry =
            RetryPolicy { retries: 1, base: Duration::from_millis(1), budget_percent: 100, ..RetryPolicy::default() };
    });
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    for (user, requests) in [("ann", 1), ("desk", 2)] {
        let before = world.fmp.counters().requests;
        quote_as(&world, user).await;
        assert_eq!(world.fmp.counters().requests - before, requests, "{user}");
    }
}

#[tokio::test]
async fn with_the_authors_right_a_fallback_serves_every_caller_of_the_first() {
    let world = failing(Plan { fallbacks: FallbackAuthorization::Author, ..Plan::default() }).await;
    for user in ["ann", "desk", "cut-off"] {
        let served = quote_as(&world, user).await;
        assert_eq!((served.status, served.meta("provider_used")), (200, &json!("polygon_fallback")), "{served:?}");
    }
    let direct = QUOTE.replace("/fmp/", "/polygon/");
    let denied = world.ask("GET", &direct, "token-desk", &[]).await;
    assert_eq!((denied.status, denied.error()), (403, "forbidden"), "a call of its own requires the caller's right");
}
