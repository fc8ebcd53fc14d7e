//! The log of health checks, read while the operator writes it.

use busbar::testbed::sim::RequiredAuth;
use serde_json::json;

use super::ConnectionEnv;
use crate::kit::banks::{further_arrivals, unavailable};
use crate::kit::binary::{busbar, run_async};
use crate::kit::objects::connection;
use crate::kit::wait::eventually;

#[tokio::test]
async fn the_results_of_health_checks_are_in_the_ledger() {
    let env = ConnectionEnv::new("probe-log").await;
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    env.ns.secret("bank", &[("token", token.as_bytes())]).await;
    let spec = json!({
        "auth": {"bearer": {"secretRef": {"name": "bank"}}},
        "healthCheck": {"interval": "5s"},
    });
    env.put(&connection("bank", &bank.base_url(), spec)).await;
    env.until_verified("bank").await;
    bank.set_script(unavailable()).await.unwrap();
    further_arrivals(&bank, "/health", 1).await;

    let ledger = env.ns.ledger_flag("a");
    let name = format!("{}/bank", env.ns.name());
    eventually("both checks are in the log", async || {
        let printed = run_async(busbar(&["ledger", "probes", &name, &ledger])).await.ok();
        assert!(!printed.contains(&token), "the log has a credential");
        let has_line = |words: [&str; 2]| printed.lines().any(|l| words.iter().all(|word| l.contains(word)));
        has_line(["good", "200"]) && has_line(["failed", "503"])
    })
    .await;
    env.finish().await;
}
