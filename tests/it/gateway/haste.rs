//! Callers who leave before the end: what they did not wait for is the provider's outcome all the same.

use std::time::Duration;

use busbar::domain::breaker::EffectiveState;
use busbar::testbed::sim::ScriptStep;
use futures::future::join_all;

use super::bulkheads::{arrived, hang, send};
use super::harness::{GatewayHarness, fallback, key};
use crate::kit::wait::eventually;

fn quote(connection: &str, deadline_ms: u64) -> String {
    format!("/api/providers/treasury/{connection}/quote?symbol=ACME&deadline_ms={deadline_ms}")
}

fn circuit(harness: &GatewayHarness, name: &str) -> EffectiveState {
    harness.registry.get(&key(name)).unwrap().snapshot().effective
}

/// The calls of `connection` with this outcome.
fn counted(harness: &GatewayHarness, connection: &str, outcome: &str) -> u64 {
    let (connection, outcome) = (format!("connection=\"{connection}\""), format!("outcome=\"{outcome}\""));
    let text = harness.metrics.render().unwrap();
    let requests = text.lines().filter(|line| line.starts_with("busbar_provider_requests_total{"));
    let own = requests.filter(|line| line.contains(&connection) && line.contains(&outcome));
    own.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_hundred_callers_who_leave_early_do_not_open_a_healthy_circuit() {
    let harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.breaker.consecutive_failures = 3;
        // For a machine that is busy.
        draft.timeouts.request = Duration::from_mins(1);
        draft.timeouts.total = Duration::from_mins(1);
    });
    harness.fmp.fail_with(ScriptStep::slow(Duration::from_millis(1_500))).await.unwrap();
    // Half of them have a short deadline, half close their connection.
    let hasty: Vec<_> =
        ["ann", "bob"].into_iter().flat_map(|user| send(&harness, &quote("fmp", 100), user, 25)).collect();
    let gone: Vec<_> =
        ["ann", "bob"].into_iter().flat_map(|user| send(&harness, &quote("fmp", 60_000), user, 25)).collect();
    arrived(&harness.fmp, 100).await;
    for request in gone {
        request.abort();
    }
    for said in join_all(hasty).await {
        let said = said.unwrap();
        assert_eq!((said.status, said.error()), (502, "provider_failed"), "{said:?}");
        assert_eq!(said.body["data"]["details"]["reason"], "timeout");
    }
    eventually("each is counted once, with its own end", async || match counted(&harness, "fmp", "success") {
        100 => Ok(()),
        seen => Err(format!("{seen}")),
    })
    .await;
    assert_eq!((counted(&harness, "fmp", "failure"), circuit(&harness, "fmp")), (0, EffectiveState::Closed));
    assert_eq!(harness.fmp.arrivals().entries.len(), 100);
    eventually("their tasks have ended", async || harness.registry.tasks().is_empty()).await;
}

#[tokio::test]
async fn a_bank_that_hangs_is_found_although_every_caller_leaves_early() {
    let harness = GatewayHarness::new().await;
    let breaker_and_time = |draft: &mut busbar::settings::Draft| {
        draft.breaker.consecutive_failures = 3;
        draft.timeouts.request = Duration::from_secs(1);
    };
    harness.connect("fmp", &harness.fmp, breaker_and_time);
    harness.connect_as("first", "fmp", &harness.fmp, |draft| {
        breaker_and_time(draft);
        draft.fallback = vec![fallback("polygon")];
    });
    hang(&harness.fmp).await;
    for said in join_all(send(&harness, &quote("fmp", 100), "ann", 3)).await {
        assert_eq!(said.unwrap().error(), "provider_failed");
    }
    eventually("the circuit opens", async || circuit(&harness, "fmp") == EffectiveState::Open).await;
    assert_eq!(counted(&harness, "fmp", "failure"), 3);
    // So does that of a first connection whose share of the time is shorter than its own time-out.
    for said in join_all(send(&harness, &quote("first", 1_500), "ann", 3)).await {
        assert_eq!(*said.unwrap().meta("provider_used"), "polygon_fallback");
    }
    eventually("the circuit of the first connection opens", async || {
        circuit(&harness, "first") == EffectiveState::Open
    })
    .await;
}

#[tokio::test]
async fn reads_without_a_caller_end_with_the_process() {
    let harness = GatewayHarness::new().await;
    hang(&harness.fmp).await;
    for said in join_all(send(&harness, &quote("fmp", 100), "ann", 5)).await {
        assert_eq!(said.unwrap().error(), "provider_failed");
    }
    let tasks = harness.registry.tasks();
    assert_eq!(tasks.len(), 5);
    let left = tasks.drain(Duration::from_secs(20)).await;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!((counted(&harness, "fmp", "failure"), counted(&harness, "fmp", "success")), (0, 0));
    assert!(harness.metrics.render().unwrap().contains("busbar_run_on_reads 0"));
}
