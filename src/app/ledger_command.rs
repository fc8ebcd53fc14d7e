//! `busbar ledger`: prints what is stored, newest first, beside a running operator; and calls what copies the ledger.

use jiff::Timestamp;

use crate::app::error::AppError;
use crate::app::ledger_copy;
use crate::app::output::print;
use crate::app::table::{left, right, second, table};
use crate::cli::ledger::{LedgerArgs, LedgerCommand, Selection, StreamArgs, TransactionsArgs};
use crate::clock::Clock;
use crate::domain::run_reason::RunReason;
use crate::ledger::audit::{AuditKind, StoredAudit};
use crate::ledger::dead_requests::{DeadRequest, DeadRequestFilter, DeadRequestState};
use crate::ledger::document::StoredDocument;
use crate::ledger::queries::{StoredDeadLetter, StoredRun};
use crate::ledger::raw::Replayability;
use crate::ledger::record::{StoredTransaction, TransactionFilter};
use crate::ledger::{self, Ledger, OpenMode, RunResult, StoredProbe};

mod records;

/// Entries of the audit log read at a time, where only those of one connection are shown.
const AUDIT_PIECE: u32 = 1_000;
/// Most of such reads: a connection without entries must not make the command read the log for minutes.
const MAX_AUDIT_PIECES: u32 = 1_000;

/// Queries the ledger.
pub(super) async fn run(command: &LedgerCommand) -> Result<(), AppError> {
    match command {
        LedgerCommand::Backup(args) => return ledger_copy::backup(args).await,
        LedgerCommand::Restore(args) => return ledger_copy::restore(args).await,
        LedgerCommand::Migrate(args) => return ledger_copy::migrate(args).await,
        LedgerCommand::AcceptLoss(args) => return ledger_copy::accept_loss(args).await,
        _ => {}
    }
    let Some(common) = common(command) else { return Ok(()) };
    let selection = common.selection().map_err(AppError::Arguments)?;
    let ledger = ledger::open(&common.ledger(), OpenMode::ReadOnly).await?;
    let text = text(command, selection, common.limit, &*ledger).await;
    ledger.close().await;
    Ok(print(&text?)?)
}

/// The arguments of a command that prints.
fn common(command: &LedgerCommand) -> Option<&LedgerArgs> {
    Some(match command {
        LedgerCommand::Transactions(args) => &args.selection.common,
        LedgerCommand::Documents(args)
        | LedgerCommand::Accounts(args)
        | LedgerCommand::Balances(args)
        | LedgerCommand::Collaterals(args)
        | LedgerCommand::Quotes(args)
        | LedgerCommand::Observations(args)
        | LedgerCommand::Articles(args)
        | LedgerCommand::DeadLetters(args) => &args.common,
        LedgerCommand::Runs(args)
        | LedgerCommand::DeadRequests(args)
        | LedgerCommand::Audit(args)
        | LedgerCommand::Probes(args) => args,
        LedgerCommand::Backup(_)
        | LedgerCommand::Restore(_)
        | LedgerCommand::Migrate(_)
        | LedgerCommand::AcceptLoss(_) => return None,
    })
}

/// What `command` prints.
async fn text(
    command: &LedgerCommand,
    selection: Selection,
    limit: u32,
    ledger: &dyn Ledger,
) -> Result<String, AppError> {
    Ok(match command {
        LedgerCommand::Transactions(TransactionsArgs { selection: stream, connection }) => {
            let name = connection.clone().or_else(|| selection.name.clone());
            let filter = filter(Selection { name, ..selection }, stream);
            let rows = ledger.list_transactions(&filter, limit).await?;
            let total = ledger.count_transactions(&filter).await?;
            format!("{}{} of {total} transactions\n", transactions(&rows), rows.len())
        }
        LedgerCommand::Documents(args) => {
            let rows = ledger.newest_documents(&filter(selection, args), limit).await?;
            documents(&rows) + &count(rows.len(), "document", limit)
        }
        LedgerCommand::Accounts(args) => records::text(ledger, "accounts", &filter(selection, args), limit).await?,
        LedgerCommand::Balances(args) => records::text(ledger, "balances", &filter(selection, args), limit).await?,
        LedgerCommand::Collaterals(args) => {
            records::text(ledger, "collaterals", &filter(selection, args), limit).await?
        }
        LedgerCommand::Quotes(args) => records::text(ledger, "quotes", &filter(selection, args), limit).await?,
        LedgerCommand::Observations(args) => {
            records::text(ledger, "observations", &filter(selection, args), limit).await?
        }
        LedgerCommand::Articles(args) => records::text(ledger, "articles", &filter(selection, args), limit).await?,
        LedgerCommand::DeadLetters(args) => {
            let filter = filter(selection, args);
            let rows = ledger.newest_dead_letters(&filter, limit).await?;
            let total = ledger.count_dead_letters(&filter).await?;
            format!("{}{} of {total} dead letters\n", dead_letters(&rows, Clock::system().now().wall), rows.len())
        }
        LedgerCommand::Runs(_) => {
            let rows = ledger.newest_runs(selection.namespace.as_deref(), selection.name.as_deref(), limit).await?;
            runs(&rows) + &count(rows.len(), "run", limit)
        }
        LedgerCommand::DeadRequests(_) => {
            let Selection { namespace, name: connection } = selection;
            let filter = DeadRequestFilter { namespace, connection, ..DeadRequestFilter::default() };
            let rows = ledger.list_dead_requests(&filter, limit).await?;
            dead_requests(&rows) + &count(rows.len(), "dead request", limit)
        }
        LedgerCommand::Audit(_) => {
            let rows = audit_of(ledger, &selection, limit).await?;
            audit(&rows) + &count(rows.len(), "entry", limit)
        }
        LedgerCommand::Probes(_) => {
            let connection = selection.object().map_err(AppError::Arguments)?;
            let rows = ledger.last_probes(&connection, limit).await?;
            let good = rows.iter().filter(|probe| probe.success).count();
            format!("{}{good} of the last {} checks of {connection} succeeded\n", probes(&rows), rows.len())
        }
        LedgerCommand::Backup(_)
        | LedgerCommand::Restore(_)
        | LedgerCommand::Migrate(_)
        | LedgerCommand::AcceptLoss(_) => String::new(),
    })
}

fn filter(selection: Selection, args: &StreamArgs) -> TransactionFilter {
    TransactionFilter {
        namespace: selection.namespace,
        connection: selection.name,
        stream: args.stream.clone(),
        ..TransactionFilter::default()
    }
}

/// `2 runs`, and that there may be more.
fn count(rows: usize, one: &str, limit: u32) -> String {
    let many = one.strip_suffix('y').map_or_else(|| format!("{one}s"), |stem| format!("{stem}ies"));
    let mut text = format!("{rows} {}", if rows == 1 { one } else { &many });
    if u32::try_from(rows).is_ok_and(|rows| rows >= limit) {
        text.push_str(", the newest; for more set --limit");
    }
    text + "\n"
}

/// The newest entries about the selected connections.
async fn audit_of(ledger: &dyn Ledger, selection: &Selection, limit: u32) -> Result<Vec<StoredAudit>, AppError> {
    let namespace = selection.namespace.as_deref();
    let Some(name) = selection.name.as_deref() else {
        return Ok(ledger.list_audit(namespace, None, limit).await?);
    };
    let (mut found, mut before) = (Vec::new(), None);
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    for _ in 0..MAX_AUDIT_PIECES {
        let piece = ledger.list_audit(namespace, before, AUDIT_PIECE).await?;
        let Some(last) = piece.last().map(|entry| entry.seq) else { break };
        before = Some(last);
        found.extend(piece.into_iter().filter(|stored| stored.entry.connection == name));
        if found.len() >= most {
            break;
        }
    }
    found.truncate(most);
    Ok(found)
}

fn transactions(rows: &[StoredTransaction]) -> String {
    let columns = [
        left("CONNECTION"),
        left("BOOKED"),
        left("ACCOUNT"),
        right("AMOUNT"),
        left("CURRENCY"),
        left("STATUS"),
        left("NARRATION"),
    ];
    let cells = rows.iter().map(|row| {
        let t = &row.record;
        [
            format!("{}/{}", row.namespace, row.connection),
            t.booked.text.clone(),
            t.account.clone(),
            t.amount.to_string(),
            t.currency.clone(),
            t.status.as_str().to_owned(),
            t.narration.clone().unwrap_or_default(),
        ]
    });
    table(columns, cells)
}

fn documents(rows: &[StoredDocument]) -> String {
    let columns = [
        left("CONNECTION"),
        left("STREAM"),
        left("PARTITION"),
        left("KEY"),
        left("CHANGED"),
        right("REVISION"),
        left("DOCUMENT"),
    ];
    let cells = rows.iter().map(|row| {
        [
            format!("{}/{}", row.namespace, row.connection),
            row.stream.clone(),
            row.partition.clone(),
            row.record.key.clone(),
            second(row.updated),
            row.revision.to_string(),
            row.record.body.clone(),
        ]
    });
    table(columns, cells)
}

fn dead_letters(rows: &[StoredDeadLetter], now: Timestamp) -> String {
    let columns = [
        left("CONNECTION"),
        left("STREAM"),
        left("PARTITION"),
        left("FIELD"),
        left("REASON"),
        right("SEEN"),
        left("LAST"),
        left("REPLAY"),
        left("SAMPLE"),
    ];
    let cells = rows.iter().map(|row| {
        [
            format!("{}/{}", row.namespace, row.connection),
            row.stream.clone(),
            row.partition.clone(),
            row.path.clone(),
            row.reason.clone(),
            row.seen.to_string(),
            second(row.last),
            Replayability::of(row.raw, now).as_str().to_owned(),
            row.sample.clone(),
        ]
    });
    table(columns, cells)
}

fn runs(rows: &[StoredRun]) -> String {
    let columns = [
        left("JOB"),
        left("STARTED"),
        right("TOOK"),
        left("TRIGGER"),
        left("RESULT"),
        left("REASON"),
        left("HTTP"),
        right("FETCHED"),
        right("NEW"),
        right("CHANGED"),
        right("REJECTED"),
        left("PARTITIONS"),
        left("CAUSE"),
    ];
    let cells = rows.iter().map(|StoredRun { job, run }| {
        let took = run.ended.map(|end| end.duration_since(run.started).as_millis().max(0));
        let failure = &run.failure;
        let named: Vec<&str> = failure.partitions.iter().map(|partition| &*partition.name).collect();
        let named = named.join(", ");
        let partitions = match failure.failing {
            0 => String::new(),
            failing if named.is_empty() => format!("{failing} failed"),
            failing => format!("{failing} failed: {named}"),
        };
        [
            job.to_string(),
            second(run.started),
            took.map(|took| format!("{took} ms")).unwrap_or_default(),
            run.trigger.as_str().to_owned(),
            run.result.map_or("running", RunResult::as_str).to_owned(),
            run.reason.map_or("", RunReason::as_str).to_owned(),
            failure.http_status.map(|status| status.to_string()).unwrap_or_default(),
            run.counts.fetched.to_string(),
            run.counts.inserted.to_string(),
            run.counts.updated.to_string(),
            run.counts.rejected.to_string(),
            partitions,
            failure.detail.clone().unwrap_or_default(),
        ]
    });
    table(columns, cells)
}

fn dead_requests(rows: &[DeadRequest]) -> String {
    let columns = [
        left("ID"),
        left("CONNECTION"),
        left("OPERATION"),
        left("CALLER"),
        left("STATE"),
        left("REASON"),
        left("HTTP"),
        right("RETRIES"),
        right("SEEN"),
        left("STORED"),
        left("NEXT"),
    ];
    let cells = rows.iter().map(|row| {
        let request = &row.request;
        let next = (row.state == DeadRequestState::Pending).then(|| second(request.next));
        [
            request.id.to_string(),
            request.connection.to_string(),
            request.operation.clone(),
            request.subject.clone(),
            row.state.as_str().to_owned(),
            request.reason.clone(),
            request.status.map(|status| status.to_string()).unwrap_or_default(),
            row.tries.to_string(),
            row.seen.to_string(),
            second(request.at),
            next.unwrap_or_default(),
        ]
    });
    table(columns, cells)
}

fn audit(rows: &[StoredAudit]) -> String {
    let columns = [
        left("AT"),
        left("KIND"),
        left("CONNECTION"),
        left("ACTION"),
        left("CALLER"),
        left("ALLOWED"),
        left("PROFILE"),
        left("PURPOSE"),
        left("REASON"),
        right("COUNT"),
    ];
    let cells = rows.iter().map(|StoredAudit { entry, .. }| {
        [
            second(entry.at),
            entry.kind.as_str().to_owned(),
            // A request is of no object.
            if entry.kind == AuditKind::Request {
                String::new()
            } else {
                format!("{}/{}", entry.namespace, entry.connection)
            },
            entry.action.clone(),
            entry.subject.clone(),
            if entry.allowed { "yes" } else { "no" }.to_owned(),
            entry.rights_profile.clone().unwrap_or_default(),
            entry.purpose.clone().unwrap_or_default(),
            entry.reason.clone().unwrap_or_default(),
            entry.count().to_string(),
        ]
    });
    table(columns, cells)
}

fn probes(rows: &[StoredProbe]) -> String {
    let columns = [left("ENDED"), left("RESULT"), left("ANSWER"), right("TOOK")];
    let cells = rows.iter().map(|probe| {
        let result = match (probe.success, probe.slow) {
            (true, true) => "slow",
            (true, false) => "good",
            (false, _) => "failed",
        };
        [
            probe.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            result.to_owned(),
            probe.status.map(|status| status.to_string()).or_else(|| probe.error.clone()).unwrap_or_default(),
            format!("{}.{:03} ms", probe.elapsed.as_millis(), probe.elapsed.subsec_micros() % 1_000),
        ]
    });
    table(columns, cells)
}

#[cfg(test)]
mod tests;
