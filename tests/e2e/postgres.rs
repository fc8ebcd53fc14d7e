//! Operators that share a ledger on a PostgreSQL server: one is killed in the middle of a run, the server is restarted
//! under the other, and the rows are the bank's.

use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::ledger::record::{StoredTransaction, TransactionFilter};
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::sim::AccountConfig;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{
    assert_same, bank_transactions, page_requests, run_now, slow_pages, steady_job, until_job, until_succeeded,
};
use crate::kit::binary::{busbar, run_async};
use crate::kit::wait::eventually;

async fn replica(env: &BankEnv, name: &str, url: &str) -> Operator {
    let flags = [format!("--ledger={url}"), format!("--identity=replica-{name}")];
    let mut operator = Operator::start_replica(&env.ns, name, &flags.each_ref().map(String::as_str)).await;
    operator.wait_ready().await;
    operator
}

async fn rows(env: &BankEnv, url: &str) -> Vec<StoredTransaction> {
    let url: LedgerUrl = url.parse().unwrap();
    let ledger = ledger::open(&url, OpenMode::ReadOnly).await.expect("the ledger can be read");
    let filter = TransactionFilter { namespace: Some(env.ns.name().to_owned()), ..TransactionFilter::default() };
    let rows = ledger.list_transactions(&filter, 100_000).await.expect("rows");
    ledger.close().await;
    rows
}

/// Whether the condition Ready has this status and reason.
fn ready(status: &'static str, reason: &'static str) -> impl Fn(&SyncJobStatus) -> bool {
    move |job| job.conditions.iter().any(|c| c.type_ == "Ready" && c.status == status && c.reason == reason)
}

#[tokio::test]
async fn replicas_that_share_a_database_lose_and_double_no_row() {
    let env = BankEnv::new("postgres").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 2_000)])).await;
    let server = PostgresServer::start().await.unwrap();
    let url = server.create_database().await.unwrap();
    bank.set_script(slow_pages(250)).await.unwrap();
    let mut first = replica(&env, "a", &url).await;
    first.wait_leading().await;
    let second = replica(&env, "b", &url).await;
    second.assert_standby().await;
    env.put(&steady_job("1h")).await;
    eventually("some pages are stored", async || rows(&env, &url).await.len() >= 200).await;
    first.kill9();
    let stored = rows(&env, &url).await.len();
    assert!((100..2_000).contains(&stored), "killed in the middle of the run: {stored}");

    second.wait_leading().await;
    let asked = page_requests(&bank);
    eventually("it goes on", async || page_requests(&bank) >= asked + 3).await;
    server.restart().await.unwrap();
    bank.set_script(slow_pages(0)).await.unwrap();
    until_succeeded(&env, "the run succeeded").await;
    assert_same(&rows(&env, &url).await, &bank_transactions(&env, &bank).await);
    assert!(rows(&env, &url).await.iter().all(|row| row.revision == 1), "no row was written twice");

    // The server is away for a while: it is said, and jobs go on by themselves when it is back.
    server.stop().unwrap();
    until_job(&env, "the job says that the ledger is away", ready("False", "LedgerUnavailable")).await;
    let (status, text) = second.try_get("/readyz").await.unwrap();
    assert!(
        status == 200 && text.contains("[!] ledger not writable: database server not reachable"),
        "{status} {text}"
    );
    server.start_again().await.unwrap();
    until_job(&env, "the job is ready again", ready("True", "Accepted")).await;
    run_now(&env).await;
    eventually("nothing changed", async || rows(&env, &url).await.len() == 2_000).await;

    // The command line reads it beside the operator.
    let flag = format!("--ledger={url}");
    let table = run_async(busbar(&["ledger", "transactions", &flag, "--limit", "1"])).await.ok();
    assert!(table.ends_with("1 of 2000 transactions\n"), "{table}");
    for operator in [first, second] {
        operator.finish(&env.ns).await;
    }
}
