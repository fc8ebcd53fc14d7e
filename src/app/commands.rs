//! Subcommands other than the operator: generated files and ledger queries.

use std::path::Path;

use crate::app::error::AppError;
use crate::app::metrics_reference;
use crate::cli::{LedgerCommand, ProbesArgs, TransactionsArgs, flags_reference};
use crate::ledger::record::{StoredTransaction, TransactionFilter};
use crate::ledger::{self, OpenMode, StoredProbe};

/// Writes the custom resource definitions.
pub(super) fn crds(out: &Path) -> Result<(), AppError> {
    crate::api::write_crds(out)?;
    Ok(())
}

/// Writes the generated reference documents.
pub(super) async fn docs(out: &Path) -> Result<(), AppError> {
    let metrics = ("metrics.md", metrics_reference::markdown().await?);
    for (name, text) in documents().into_iter().chain([metrics]) {
        let path = out.join(name);
        std::fs::write(&path, text)
            .map_err(|source| AppError::Io { what: format!("writing {}", path.display()), source })?;
    }
    Ok(())
}

/// The generated documents that need no process: file name and text.
pub(super) fn documents() -> Vec<(&'static str, String)> {
    vec![
        ("flags.md", flags_reference()),
        ("crds.md", crate::api::reference::crds_markdown()),
        ("reasons.md", crate::app::reasons::markdown()),
        ("profiles.md", crate::profile::reference::markdown()),
        ("profile.schema.json", crate::profile::reference::json_schema()),
        ("openapi.json", crate::gateway::openapi::text()),
    ]
}

/// Queries the ledger.
pub(super) async fn ledger(command: LedgerCommand) -> Result<(), AppError> {
    match command {
        LedgerCommand::Transactions(args) => transactions(args).await,
        LedgerCommand::Probes(args) => probes(args).await,
    }
}

#[expect(clippy::print_stdout, reason = "the command prints its result")]
async fn probes(args: ProbesArgs) -> Result<(), AppError> {
    let ledger = ledger::open(&args.ledger, OpenMode::ReadOnly).await?;
    let last = ledger.last_probes(&args.connection, args.limit).await?;
    print!("{}", probe_table(&last));
    let good = last.iter().filter(|probe| probe.success).count();
    println!("{good} of the last {} checks of {} succeeded", last.len(), args.connection);
    ledger.close().await;
    Ok(())
}

/// One line per health check, newest first.
fn probe_table(last: &[StoredProbe]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{:<24}   {:<8}   {:<20}   {:>12}\n", "ENDED", "RESULT", "ANSWER", "TOOK");
    for probe in last {
        let result = match (probe.success, probe.slow) {
            (true, true) => "slow",
            (true, false) => "good",
            (false, _) => "failed",
        };
        let answer = probe.status.map(|status| status.to_string()).or_else(|| probe.error.clone()).unwrap_or_default();
        let took = format!("{}.{:03} ms", probe.elapsed.as_millis(), probe.elapsed.subsec_micros() % 1_000);
        let ended = probe.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let _ = writeln!(text, "{ended:<24}   {result:<8}   {answer:<20}   {took:>12}");
    }
    text
}

#[expect(clippy::print_stdout, reason = "the command prints its result")]
async fn transactions(args: TransactionsArgs) -> Result<(), AppError> {
    let ledger = ledger::open(&args.ledger, OpenMode::ReadOnly).await?;
    let filter = filter(&args);
    let total = ledger.count_transactions(&filter).await?;
    let rows = ledger.list_transactions(&filter, args.limit).await?;
    print!("{}", table(&rows));
    println!("{} of {total} transactions", rows.len());
    ledger.close().await;
    Ok(())
}

/// Rows in columns as wide as their content.
fn table(rows: &[StoredTransaction]) -> String {
    let head = ["CONNECTION", "BOOKED", "ACCOUNT", "AMOUNT", "CURRENCY", "STATUS", "NARRATION"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let t = &row.record;
        let narration = t.narration.clone().unwrap_or_default();
        let booked = t.booked.text.clone();
        let connection = format!("{}/{}", row.namespace, row.connection);
        let (amount, currency, status) = (t.amount.to_string(), t.currency.clone(), t.status.as_str().to_owned());
        // A provider's text must not control the terminal.
        [connection, booked, t.account.clone(), amount, currency, status, narration]
            .map(|cell| cell.replace(char::is_control, " "))
    });
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |cells: &[String; 7]| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Amounts are right-aligned, text is left-aligned.
            let cell = if column == 3 { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text.push_str(&cell);
            text.push_str("   ");
        }
        text.trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

fn filter(args: &TransactionsArgs) -> TransactionFilter {
    TransactionFilter {
        namespace: args.namespace.clone(),
        connection: args.connection.clone(),
        ..TransactionFilter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::TransactionRecord;
    use crate::ledger::contract::fixtures::row;

    fn stored(minor: i64, narration: &str) -> StoredTransaction {
        let seen = jiff::Timestamp::UNIX_EPOCH;
        StoredTransaction {
            namespace: "team".into(),
            connection: "bank-a".into(),
            partition: String::new(),
            record: TransactionRecord { narration: Some(narration.into()), ..row("k", minor) },
            revision: 1,
            run_id: "r".into(),
            created: seen,
            updated: seen,
        }
    }

    #[test]
    fn amounts_are_right_aligned_and_control_characters_are_removed() {
        let printed = table(&[stored(-1_250_000, "RENT"), stored(5, "a\u{1b}[2Jb\nc")]);
        assert_eq!(
            printed,
            "CONNECTION    BOOKED       ACCOUNT       AMOUNT   CURRENCY   STATUS   NARRATION\n\
             team/bank-a   2026-09-01   ****1234   -12500.00   NGN        booked   RENT\n\
             team/bank-a   2026-09-01   ****1234        0.05   NGN        booked   a [2Jb c\n"
        );
    }

    #[test]
    fn a_health_check_is_one_line_with_its_status_or_error() {
        let probe = |success, slow, status, error: Option<&str>| StoredProbe {
            connection: crate::domain::key::ObjectKey::new("team", "bank-a"),
            at: jiff::Timestamp::UNIX_EPOCH,
            elapsed: std::time::Duration::from_micros(1_002_003),
            success,
            slow,
            status,
            error: error.map(str::to_owned),
        };
        let printed = probe_table(&[
            probe(true, false, Some(200), None),
            probe(true, true, Some(200), None),
            probe(false, false, None, Some("credentials_refused")),
        ]);
        assert_eq!(
            printed,
            "ENDED                      RESULT     ANSWER                         TOOK\n\
             1970-01-01T00:00:00.000Z   good       200                     1002.003 ms\n\
             1970-01-01T00:00:00.000Z   slow       200                     1002.003 ms\n\
             1970-01-01T00:00:00.000Z   failed     credentials_refused     1002.003 ms\n"
        );
    }
}
