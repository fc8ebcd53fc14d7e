//! The subcommands that are not the operator: generated files, and looks into the ledger.

use std::path::Path;
use std::sync::Arc;

use super::AppError;
use crate::cli::{LedgerCommand, LedgerUrl, TransactionsArgs, flags_reference};
use crate::ledger::Ledger;
use crate::ledger::record::TransactionFilter;
use crate::ledger::sqlite::SqliteLedger;

/// Writes the custom resource definitions.
pub(super) fn crds(out: &Path) -> Result<(), AppError> {
    crate::api::write_crds(out)?;
    Ok(())
}

/// Writes the generated reference documents.
pub(super) fn docs(out: &Path) -> Result<(), AppError> {
    for (name, text) in documents() {
        let path = out.join(name);
        std::fs::write(&path, text)
            .map_err(|source| AppError::Io { what: format!("writing {}", path.display()), source })?;
    }
    Ok(())
}

/// Every generated document: file name and text.
pub(super) fn documents() -> Vec<(&'static str, String)> {
    vec![
        ("flags.md", flags_reference()),
        ("crds.md", crate::api::reference::crds_markdown()),
        ("reasons.md", crate::api::reference::reasons_markdown()),
    ]
}

/// Opens the ledger for the operator, its migrations run.
pub(super) async fn open_ledger(url: &LedgerUrl) -> Result<Arc<dyn Ledger>, AppError> {
    match url {
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path).await?)),
    }
}

/// Looks into the ledger.
#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
pub(super) async fn ledger(command: LedgerCommand) -> Result<(), AppError> {
    let LedgerCommand::Transactions(args) = command;
    let LedgerUrl::Sqlite(path) = &args.ledger;
    let ledger = SqliteLedger::open_read_only(path).await?;
    let filter = filter(&args);
    let total = ledger.count_transactions(&filter).await?;
    let rows = ledger.list_transactions(&filter, args.limit).await?;
    println!(
        "{:<24} {:<20} {:<10} {:>16} {:<3} {:<8} NARRATION",
        "CONNECTION", "BOOKED", "ACCOUNT", "AMOUNT", "", "STATUS"
    );
    for row in &rows {
        let t = &row.record;
        println!(
            "{:<24} {:<20} {:<10} {:>16} {:<3} {:<8} {}",
            row.connection,
            t.booked.text,
            t.account,
            t.amount,
            t.currency,
            t.status.as_str(),
            t.narration.as_deref().unwrap_or_default()
        );
    }
    println!("{} of {total} transactions", rows.len());
    ledger.close().await;
    Ok(())
}

fn filter(args: &TransactionsArgs) -> TransactionFilter {
    TransactionFilter {
        namespace: args.namespace.clone(),
        connection: args.connection.clone(),
        ..TransactionFilter::default()
    }
}
