//! `busbar ledger backup`, `restore`, `migrate` and `accept-loss`.

use crate::app::error::AppError;
use crate::app::output::{print, print_progress};
use crate::app::table::{left, right, table};
use crate::cli::ledger_copy::{AcceptLossArgs, BackupArgs, MigrateArgs, RestoreArgs};
use crate::clock::Clock;
use crate::ledger::payouts::hold_open_payouts;
use crate::ledger::transfer::{self, Progress, TransferSummary};
use crate::ledger::{self, LedgerError, LedgerUrl, OpenMode};

/// A table this large reports its progress in pieces of as many rows.
const PROGRESS_ROWS: u64 = 100_000;

/// Writes a backup.
pub(super) async fn backup(args: &BackupArgs) -> Result<(), AppError> {
    let summary = transfer::backup(&args.ledger(), &args.to, &mut show).await?;
    let done =
        format!("backup written to {}; it holds no encryption keys, back up --key-secret too", args.to.display());
    Ok(print(&text(&summary, &done))?)
}

/// Restores a backup.
pub(super) async fn restore(args: &RestoreArgs) -> Result<(), AppError> {
    let summary = transfer::restore(&args.from, &args.ledger(), args.accept_loss, &mut show).await?;
    let next = if args.accept_loss {
        "the operator leads with it; what was written after the backup is lost"
    } else {
        "if the operator was active after the backup, it refuses to lead until `busbar ledger accept-loss`"
    };
    let held = hold_payouts(&args.ledger()).await?;
    let done = format!("restored from {}; {next}\n{}", args.from.display(), suspended(held));
    Ok(print(&text(&summary, &done))?)
}

/// Copies the ledger into another one.
pub(super) async fn migrate(args: &MigrateArgs) -> Result<(), AppError> {
    let now = Clock::system().now().wall;
    let summary = transfer::migrate(&args.ledger(), &args.to(), now, &mut show).await?;
    Ok(print(&text(&summary, "migrated; start the operator with the new --ledger"))?)
}

/// Accepts that a part of the ledger is lost.
pub(super) async fn accept_loss(args: &AcceptLossArgs) -> Result<(), AppError> {
    let ledger = ledger::open(&args.ledger(), OpenMode::Migrate).await?;
    let accepted = ledger.accept_loss().await;
    ledger.close().await;
    accepted?;
    let held = hold_payouts(&args.ledger()).await?;
    let done = "loss accepted: the next leader takes this ledger as it is; runs read their windows again";
    Ok(print(&format!("{done}\n{}\n", suspended(held)))?)
}

/// Puts the payouts that may lack attempts under review; returns how many.
async fn hold_payouts(url: &LedgerUrl) -> Result<u64, LedgerError> {
    let ledger = ledger::open(url, OpenMode::Existing).await?;
    let held = hold_open_payouts(&*ledger, Clock::system().now().wall).await;
    ledger.close().await;
    held
}

fn suspended(held: u64) -> String {
    format!(
        "payouts suspended: attempts may be missing, {held} put under review; compare with the banks' statements, \
         then POST /api/treasury/payouts/resume"
    )
}

fn show(progress: Progress<'_>) {
    match progress {
        Progress::Copied(table, rows) if rows % PROGRESS_ROWS == 0 => print_progress(&format!("{table}: {rows} rows")),
        Progress::Copied(..) | Progress::Verified(_, 0) => {}
        Progress::Verified(table, rows) => print_progress(&format!("{table}: {rows} rows verified")),
    }
}

fn text(summary: &TransferSummary, done: &str) -> String {
    let columns = [left("TABLE"), right("ROWS"), left("HASH")];
    let cells = summary.tables.iter().map(|row| [row.table.clone(), row.rows.to_string(), row.hash.clone()]);
    let rows: u64 = summary.tables.iter().map(|row| row.rows).sum();
    format!(
        "{}{rows} rows in {} tables verified, epoch {}\n{done}\n",
        table(columns, cells),
        summary.tables.len(),
        summary.epoch
    )
}
