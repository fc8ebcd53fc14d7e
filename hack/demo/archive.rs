//! A long window of bank A, which the outage interrupts in the middle: its committed pages stay, and the run after the
//! outage goes on where the last one ended.

use std::path::Path;
use std::time::Duration;

use busbar::testbed::sim::AccountConfig;
use serde_json::Value;

use crate::environment::Environment;
use crate::error::Error;
use crate::install::{NAMESPACE, kubectl};
use crate::scenario::{REPOSITORY, path, rows_of_bank_a};
use crate::screen::Screen;
use crate::sim_client::SimClient;

/// Transactions of the account: fifteen pages.
pub(crate) const TRANSACTIONS: u64 = 1_500;

/// Pages that are committed before the bank fails, at least.
const PAGES_BEFORE: u64 = 3;
const PAGE: u64 = 100;

/// The bank's time for a page, so that the outage comes in the middle of the window.
const PAGE_TIME: Duration = Duration::from_millis(400);

const DEADLINE: Duration = Duration::from_secs(40);

/// Starts the job, and waits until some pages are committed. `others` are the rows of the bank's other account.
pub(crate) async fn start(
    environment: &Environment,
    screen: &Screen,
    simulator: &SimClient,
    others: u64,
) -> Result<(), Error> {
    let account = AccountConfig { spacing_seconds: 600, seed: 2, ..AccountConfig::new("acc-2", TRANSACTIONS) };
    simulator.set_account("bank-a", &account).await?;
    simulator.slow_down("bank-a", "/v2/accounts/acc-2/transactions", PAGE_TIME).await?;
    let file = Path::new(REPOSITORY).join("hack/demo/archive.yaml");
    let args = ["-n", NAMESPACE, "apply", "--server-side", "-f", &file.to_string_lossy()];
    kubectl(&environment.plane, &args, "").await?;
    let least = others + PAGES_BEFORE * PAGE;
    environment
        .until(screen, "the first pages of the second account are committed", DEADLINE, async || {
            let rows = rows_of_bank_a(environment).await?;
            if rows >= least { Ok(()) } else { Err(format!("{rows} rows")) }
        })
        .await?;
    screen.done(&format!("a second job is in the middle of a window of {} pages", TRANSACTIONS / PAGE));
    Ok(())
}

/// Waits until its run has failed, and prints what is kept of it.
pub(crate) async fn interrupted(environment: &Environment, screen: &Screen, others: u64) -> Result<(), Error> {
    let object = path(NAMESPACE, "syncjobs/bank-a-archive");
    let result = environment
        .until(screen, "the run in the middle of its window has failed", DEADLINE, async || {
            let job = environment.get_object(&object).await?;
            let result = job.pointer("/status/lastResult").and_then(Value::as_str).unwrap_or("unset").to_owned();
            if result == "unset" || result == "Succeeded" { Err(result) } else { Ok(result) }
        })
        .await?;
    let kept = rows_of_bank_a(environment).await.map_err(|detail| Error::Http { what: "the ledger".into(), detail })?;
    let kept = kept.saturating_sub(others);
    if kept == 0 || kept >= TRANSACTIONS {
        let detail = format!("{kept} of {TRANSACTIONS} transactions are stored");
        return Err(Error::Http { what: "a window that is interrupted".into(), detail });
    }
    screen.done(&format!(
        "the second job's run is {result} in the middle of its window; its first {kept} of {TRANSACTIONS} transactions are kept"
    ));
    Ok(())
}

/// Waits until the window is complete, and prints its runs.
pub(crate) async fn resumed(environment: &Environment, screen: &Screen, others: u64) -> Result<(), Error> {
    let wanted = others + TRANSACTIONS;
    environment
        .until(screen, "the interrupted window is complete", DEADLINE, async || {
            match rows_of_bank_a(environment).await? {
                rows if rows == wanted => Ok(()),
                rows => Err(format!("{rows} of {wanted} rows")),
            }
        })
        .await?;
    screen.done(&format!(
        "the interrupted window went on at its page: {TRANSACTIONS} transactions, none lost, none duplicated"
    ));
    Ok(())
}
