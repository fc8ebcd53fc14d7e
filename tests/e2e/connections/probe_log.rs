//! The raw log of health checks, read beside the operator that writes it.

use busbar::testbed::sim::{Behaviour, RequiredAuth};
use serde_json::json;
use tokio::process::Command;

use super::{World, connection, further, verified};
use crate::jobs::ledger_file;
use crate::support::eventually;
use crate::support::plane::PATIENCE;

#[tokio::test]
async fn what_health_checks_found_can_be_read_from_the_ledger() {
    let world = World::new("probe-log").await;
    let token = world.ns.canary("token");
    let bank = world.bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    world.ns.secret("bank", &[("token", token.as_bytes())]).await;
    let spec = json!({
        "auth": {"bearer": {"secretRef": {"name": "bank"}}},
        "healthCheck": {"interval": "5s"},
    });
    world.put(&connection("bank", &bank.base_url(), spec)).await;
    world.until("bank", "verified", verified).await;
    bank.set_script(Behaviour::status(503)).await.unwrap();
    further(&bank, "/health", 1).await;

    let ledger = format!("--ledger=sqlite:{}", ledger_file(&world.ns, "a").display());
    let name = format!("{}/bank", world.ns.name());
    eventually(PATIENCE, "both checks are in the log", async || {
        let look = ["ledger", "probes", &name, &ledger];
        let output = Command::new(env!("CARGO_BIN_EXE_busbar")).args(look).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(!printed.contains(&token), "the log holds a credential");
        let line = |words: [&str; 2]| printed.lines().any(|l| words.iter().all(|word| l.contains(word)));
        (line(["good", "200"]) && line(["failed", "503"])).then_some(())
    })
    .await;
    world.finish().await;
}
