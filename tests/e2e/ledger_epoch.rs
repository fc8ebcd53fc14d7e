//! A ledger that is lost, replaced by an older copy, or restored, under an operator whose leader lease remembers its epoch.

use std::fs;
use std::path::Path;

use busbar::testbed::sim::AccountConfig;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{assert_complete, feed_job, run_now, stored_rows, until_succeeded};
use crate::kit::binary::{busbar, run};
use crate::kit::wait::eventually;

const ANNOTATION: &str = "busbar.dev/ledger-epoch";

/// The epoch in the leader lease.
async fn epoch(env: &BankEnv) -> Option<i64> {
    let lease = env.ns.api::<Lease>().get("busbar").await.ok()?;
    lease.metadata.annotations?.get(ANNOTATION)?.parse().ok()
}

async fn until_epoch(env: &BankEnv, expected: i64) {
    eventually(format!("the lease has epoch {expected}"), async || match epoch(env).await {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
}

/// Removes a ledger with its journal.
fn remove(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
}

/// Waits until the operator refuses to lead, and returns what `/readyz` says.
async fn until_refused(operator: &Operator) -> String {
    let text = eventually("the operator refuses to lead", async || match operator.try_get("/readyz").await {
        Some((503, text)) if text.contains("ledger behind the leader lease") => Ok(text),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(operator.get("/livez").await.0, 200, "a restart would not help");
    assert!(text.contains("[-] ledger epoch") && !operator.leads().await, "{text}");
    text
}

#[tokio::test]
async fn a_lost_ledger_is_not_led_with_until_a_backup_is_restored_and_the_loss_accepted() {
    let env = BankEnv::new("epoch").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 150)])).await;
    let ledger = env.ns.ledger_file("a");
    let flag = env.ns.ledger_flag("a");
    let mut operator = Operator::ready(&env.ns, &[]).await;
    env.put(&feed_job("1h", json!({}))).await;
    until_succeeded(&env, "the job has run").await;
    until_epoch(&env, 1).await;
    let backup = ledger.with_file_name("backup.db");
    let to = backup.to_str().unwrap();
    let printed = run(busbar(&["ledger", "backup", &flag, "--to", to])).ok();
    assert!(printed.contains("transactions") && printed.contains("150"), "{printed}");
    operator.restart().await;
    operator.wait_leading().await;
    until_epoch(&env, 2).await;

    // The file is gone: the operator makes an empty one, and does not lead with it.
    operator.kill9();
    remove(&ledger);
    operator.spawn().await;
    operator.wait_listening().await;
    let text = until_refused(&operator).await;
    assert!(text.contains("epoch 0 of the ledger, epoch 2 of Lease"), "{text}");
    assert_eq!(operator.logs().matches("not leading: ledger behind").count(), 1, "{}", operator.log_tail());
    let requests = bank.arrivals().next;
    let version = async || env.ns.api::<Lease>().get("busbar").await.unwrap().metadata.resource_version;
    let before = version().await;

    // A backup is behind too: what was written after it is lost. Restored beside the waiting operator.
    let printed = run(busbar(&["ledger", "restore", "--from", to, &flag])).ok();
    assert!(printed.contains("accept-loss"), "{printed}");
    let again = run(busbar(&["ledger", "restore", "--from", to, &flag, "--accept-loss"]));
    assert!(!again.success() && again.stderr.contains("ledger not empty"), "{}", again.stderr);
    let text = until_refused(&operator).await;
    assert!(text.contains("epoch 0 of the ledger"), "the backup of epoch 1 is behind it: {text}");
    assert_eq!((version().await, bank.arrivals().next), (before, requests), "nothing was written or requested");
    run(busbar(&["ledger", "accept-loss", &flag])).ok();
    operator.wait_leading().await;
    operator.wait_ready().await;
    until_epoch(&env, 3).await;
    assert_eq!(stored_rows(&env.ns, "a").await.len(), 150);
    run_now(&env).await;
    assert_complete(&env, &bank).await;
    assert!(
        stored_rows(&env.ns, "a").await.iter().all(|row| row.revision == 1),
        "what was restored is not written again"
    );

    // The acceptance is used up.
    operator.kill9();
    remove(&ledger);
    operator.spawn().await;
    operator.wait_listening().await;
    until_refused(&operator).await;
    run(busbar(&["ledger", "restore", "--from", to, &flag, "--accept-loss"])).ok();
    operator.wait_leading().await;
    until_epoch(&env, 4).await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_standby_is_ready_and_raises_the_epoch_only_when_it_leads() {
    let env = BankEnv::new("epoch-standby").await;
    let flags = [env.ns.ledger_flag("a")];
    let mut first = Operator::start_replica(&env.ns, "a", &flags.each_ref().map(String::as_str)).await;
    first.wait_ready().await;
    first.wait_leading().await;
    until_epoch(&env, 1).await;
    let mut second = Operator::start_replica(&env.ns, "b", &flags.each_ref().map(String::as_str)).await;
    second.wait_ready().await;
    second.assert_standby().await;
    assert_eq!(epoch(&env).await, Some(1));
    assert_eq!(first.sigterm().await.code(), Some(0));
    second.wait_leading().await;
    until_epoch(&env, 2).await;
    first.finish(&env.ns).await;
    second.finish(&env.ns).await;
}

#[tokio::test]
async fn an_ephemeral_ledger_is_led_with_although_it_was_lost() {
    let env = BankEnv::new("epoch-ephemeral").await;
    let mut operator = Operator::ready(&env.ns, &["--ephemeral-ledger"]).await;
    operator.wait_leading().await;
    until_epoch(&env, 1).await;
    operator.kill9();
    remove(&env.ns.ledger_file("a"));
    operator.spawn().await;
    operator.wait_ready().await;
    operator.wait_leading().await;
    until_epoch(&env, 2).await;
    operator.finish(&env.ns).await;
}
