//! The whole operator while the ledger's volume is full, and after.

use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::testbed::sim::AccountConfig;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::ledger_volume::LedgerVolume;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{assert_complete, page_requests, steady_job, stored_rows, until_job, until_succeeded};
use crate::kit::wait::eventually;

/// Status and reason of the condition Ready.
fn ready(status: &SyncJobStatus) -> Option<(&str, &str)> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((&ready.status, &ready.reason))
}

#[tokio::test]
async fn a_full_ledger_is_reported_and_runs_start_by_themselves_when_it_is_not() {
    let env = BankEnv::new("ledger-full").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 20)])).await;
    let Some(volume) = LedgerVolume::mount(&env.ns.ledger_file("a")) else { return };
    let mut operator = Operator::start(&env.ns, &[]).await;
    operator.wait_ready().await;
    env.put(&steady_job("10s")).await;
    until_succeeded(&env, "the job has run").await;
    for _ in 0..2 {
        volume.fill();
        let unavailable = |status: &SyncJobStatus| ready(status) == Some(("False", "LedgerUnavailable"));
        until_job(&env, "the job says that the ledger is full", unavailable).await;
        let (status, text) = operator.try_get("/readyz").await.unwrap();
        assert!(status == 200 && text.contains("[!] ledger not writable: disk full; retrying"), "{status} {text}");
        let (_, metrics) = operator.try_get("/metrics").await.unwrap();
        assert!(metrics.contains("\nbusbar_ledger_writable 0\n"));
        let before = page_requests(&bank);
        volume.free();
        until_job(&env, "the job is ready again", |status| ready(status) == Some(("True", "Accepted"))).await;
        eventually("the job runs again", async || page_requests(&bank) > before).await;
        let (status, text) = operator.try_get("/readyz").await.unwrap();
        assert!(status == 200 && !text.contains("[!]"), "{status} {text}");
    }
    eventually("all rows are there", async || stored_rows(&env.ns, "a").await.len() == 20).await;
    assert_complete(&env, &bank).await;
    operator.finish(&env.ns).await;
}
