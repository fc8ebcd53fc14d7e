//! Checks that a user requests while the provider rate limits the connection.

use busbar::testbed::sim::{BankHandle, Rule, Script, ScriptStep, Sim};

use super::*;

/// A bank that answers all requests with 429 and this `Retry-After`.
async fn limited_bank(retry_after: &str) -> (Sim, BankHandle) {
    let (sim, bank) = plain_bank().await;
    let rule = Rule::on("/health", [ScriptStep::from(Behaviour::rate_limited(retry_after))]);
    bank.set_script(Script { rules: vec![rule] }).await.unwrap();
    (sim, bank)
}

#[tokio::test]
async fn a_requested_check_ends_the_rate_limit_of_a_probed_connection() {
    let time = ManualTime::start();
    let (_sim, bank) = limited_bank("Wed, 01 Jan 2031 00:00:00 GMT").await;
    let env = ProbeEnv::new();
    let connection = env.apply(probed_every(bank.base_url(), Duration::from_secs(30)));
    eventually("limited", async || connection.snapshot().throttled_until.is_some()).await;
    bank.recover().await;
    for _ in 0..10 {
        time.advance(Duration::from_secs(30)).await;
    }
    assert_eq!(bank.counters().requests, 1, "checks are skipped");
    env.probes.probe_now(&key("bank"));
    eventually("ended", async || connection.snapshot().throttled_until.is_none()).await;
    assert_eq!(bank.counters().requests, 2);
}

#[tokio::test]
async fn many_requests_are_one_check_while_the_provider_rate_limits() {
    let time = ManualTime::start();
    let (_sim, bank) = limited_bank("3600").await;
    let env = ProbeEnv::new();
    let connection = env.apply(probed_every(bank.base_url(), RARELY));
    eventually("limited", async || connection.snapshot().throttled_until.is_some()).await;
    for _ in 0..20 {
        env.probes.probe_now(&key("bank"));
        time.advance(Duration::from_millis(100)).await;
    }
    assert_eq!(bank.counters().requests, 2);
}

#[tokio::test]
async fn a_connection_without_checks_is_probed_on_request_while_it_is_rate_limited() {
    let time = ManualTime::start();
    let (_sim, bank) = limited_bank("3600").await;
    let env = ProbeEnv::new();
    let mut passive = probed_every(bank.base_url(), RARELY);
    passive.health_check.mode = CheckMode::Passive;
    let connection = env.apply(passive);
    env.probes.probe_now(&key("bank"));
    time.advance(Duration::from_secs(1)).await;
    assert_eq!(bank.counters().requests, 0, "no check without a rate limit");
    connection.call(Request::get("test", "/health")).await.unwrap();
    bank.recover().await;
    env.probes.probe_now(&key("bank"));
    eventually("ended", async || connection.snapshot().throttled_until.is_none()).await;
    assert_eq!(bank.counters().requests, 2);
}
