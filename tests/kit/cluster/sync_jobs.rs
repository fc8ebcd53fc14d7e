//! What sync jobs have stored, compared with what the bank has.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::ledger::record::{StoredTransaction, TransactionFilter};
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::sim::{BankHandle, Rule, ScriptStep};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::bank_env::{BankEnv, secret_name};
use super::namespace::TestNs;
use crate::kit::banks::count_arrivals;
use crate::kit::http::client;
use crate::kit::objects::job;

const TRANSACTIONS: &str = "/v2/accounts/acc-1/transactions";

/// The name of the job in most tests.
pub(crate) const FEED: &str = "feed";

/// The job [`FEED`], which reads the account `acc-1` of the connection `mono`.
pub(crate) fn feed_job(interval: &str, patch: Value) -> Value {
    job(FEED, "mono", interval, patch)
}

/// The same without jitter.
pub(crate) fn steady_job(interval: &str) -> Value {
    feed_job(interval, json!({"jitterPercent": 0}))
}

/// The rows in the ledger, read while the operator writes it.
pub(crate) async fn stored_rows(ns: &TestNs, replica: &str) -> Vec<StoredTransaction> {
    rows_of(ns, ns.ledger_file(replica)).await
}

/// The rows of a namespace in this file of a ledger.
pub(crate) async fn rows_of(ns: &TestNs, ledger: PathBuf) -> Vec<StoredTransaction> {
    let ledger = ledger::open(&LedgerUrl::Sqlite(ledger), OpenMode::ReadOnly).await.expect("the ledger can be read");
    let filter = TransactionFilter { namespace: Some(ns.name().to_owned()), ..TransactionFilter::default() };
    let rows = ledger.list_transactions(&filter, u32::MAX).await.expect("rows");
    ledger.close().await;
    rows
}

/// The transactions of the bank, as it lists them: id → signed minor units.
pub(crate) async fn bank_transactions(env: &BankEnv, bank: &BankHandle) -> BTreeMap<String, i128> {
    let url = format!("{}{TRANSACTIONS}?paginate=false&start=01-01-1970&end=31-12-2100", bank.base_url());
    let key = env.ns.secret_text(&secret_name(bank), "api-key").await;
    let text = client().get(url).header("mono-sec-key", key).send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let signed = |t: &Value| {
        let amount: i128 = t["amount"].to_string().parse().unwrap();
        (t["id"].as_str().unwrap().to_owned(), if t["type"] == "credit" { amount } else { -amount })
    };
    answer["data"].as_array().unwrap_or_else(|| panic!("{text}")).iter().map(signed).collect()
}

/// Asserts that the ledger holds what the bank has.
pub(crate) async fn assert_complete(env: &BankEnv, bank: &BankHandle) {
    assert_same(&stored_rows(&env.ns, "a").await, &bank_transactions(env, bank).await);
}

/// Asserts that these rows are those transactions: each once, each amount exact, in naira.
pub(crate) fn assert_same(rows: &[StoredTransaction], transactions: &BTreeMap<String, i128>) {
    let keys: HashSet<&str> = rows.iter().map(|row| row.record.key.as_str()).collect();
    assert_eq!((rows.len(), keys.len()), (transactions.len(), transactions.len()), "rows, distinct keys");
    for row in rows {
        let record = &row.record;
        let minor = transactions.get(&record.key).unwrap_or_else(|| panic!("the bank has no {}", record.key));
        assert_eq!((record.amount_minor, record.currency.as_str()), (*minor, "NGN"));
        assert_eq!(record.amount, Decimal::from_i128_with_scale(*minor, 2));
    }
    let sum: Decimal = rows.iter().map(|row| row.record.amount).sum();
    assert_eq!(sum, Decimal::from_i128_with_scale(transactions.values().sum(), 2));
}

/// Waits until the status of the job [`FEED`] is as `look` wants it.
#[track_caller]
pub(crate) fn until_job(
    env: &BankEnv,
    what: &str,
    look: impl Fn(&SyncJobStatus) -> bool,
) -> impl Future<Output = SyncJobStatus> {
    let status = move |job: &SyncJob| job.status.as_ref().filter(|status| look(status)).cloned();
    env.until::<SyncJob, _>(FEED, what, status)
}

/// Waits until a run of the job [`FEED`] has succeeded.
#[track_caller]
pub(crate) fn until_succeeded(env: &BankEnv, what: &str) -> impl Future<Output = SyncJobStatus> {
    until_job(env, what, |status| status.last_successful_time.is_some())
}

/// Requests a run, and waits until the operator has started it.
pub(crate) async fn run_now(env: &BankEnv) {
    let requested = env.request::<SyncJob>(FEED).await;
    let handled = |status: &SyncJobStatus| status.last_handled_reconcile_at.as_ref() == Some(&requested);
    until_job(env, "the request is acknowledged", handled).await;
}

/// How many pages were requested from the bank.
pub(crate) fn page_requests(bank: &BankHandle) -> usize {
    count_arrivals(bank, |arrival| arrival.path == TRANSACTIONS && arrival.query_value("page").is_some())
}

/// How many health checks a bank of Mono's kind has had.
pub(crate) fn mono_probes(bank: &BankHandle) -> usize {
    count_arrivals(bank, |arrival| arrival.path == "/v2/accounts")
}

/// The script of the pages alone.
pub(crate) fn pages_script(step: ScriptStep) -> Rule {
    Rule { path: Some(TRANSACTIONS.to_owned()), method: None, steps: vec![step], repeat: true }
}

/// Every page takes a while, so that a kill hits a run in the middle.
pub(crate) fn slow_pages(ms: u64) -> Rule {
    pages_script(ScriptStep::slow(Duration::from_millis(ms)))
}
