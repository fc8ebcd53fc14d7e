//! `busbar audit`: whether the recorded decisions are as they were written, and come out the same when made again.

use std::num::NonZeroUsize;

use super::output;
use crate::cli::audit::{AuditArgs, AuditCommand, ReplayArgs};
use crate::domain::canonical::hex;
use crate::ledger::{self, LedgerError, OpenMode};
use crate::routing::audit::{BrokenRecord, Mismatch, replay_all, verify};
use crate::tasks::TaskGroup;

/// Why `busbar audit` did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record does not verify.
    #[error("audit verification failed: {0}; compare with a backup of the ledger, and keep this one as evidence")]
    Broken(BrokenRecord),
    /// Decisions do not come out as recorded.
    #[error(
        "audit replay failed: {mismatches} of {decisions} decisions differ, the first is record {} ({}): {}; run busbar audit verify",
        .first.seq,
        .first.id.map_or_else(|| "unreadable".to_owned(), |id| id.to_string()),
        .first.problem
    )]
    Mismatch {
        /// The number of decisions that differ.
        mismatches: u64,
        /// The number of decisions.
        decisions: u64,
        /// The first that differs.
        first: Mismatch,
    },
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] output::OutputError),
}

impl AuditError {
    /// The exit code of the process: that of a bad audit differs from that of an audit that could not be read.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) | Self::Mismatch { .. } => 3,
            Self::Ledger(_) | Self::Output(_) => 1,
        }
    }
}

/// Runs a subcommand of `busbar audit`.
pub(super) async fn run(command: AuditCommand) -> Result<(), AuditError> {
    match command {
        AuditCommand::Verify(args) => verify_ledger(&args).await,
        AuditCommand::Replay(args) => replay_ledger(&args).await,
    }
}

async fn verify_ledger(args: &AuditArgs) -> Result<(), AuditError> {
    let ledger = ledger::open(&args.ledger(), OpenMode::ReadOnly).await?;
    let verdict = verify(&*ledger).await;
    ledger.close().await;
    let verdict = verdict?;
    if let Some(broken) = verdict.broken {
        return Err(AuditError::Broken(broken));
    }
    let removed = match verdict.checkpoint {
        0 => String::new(),
        seq => format!(", after the checkpoint at record {seq}"),
    };
    Ok(output::print_line(&format!(
        "audit verified: {} records, {} of them decisions{removed}; head is record {} with hash {}",
        verdict.entries,
        verdict.decisions,
        verdict.head,
        hex(&verdict.head_hash)
    ))?)
}

async fn replay_ledger(args: &ReplayArgs) -> Result<(), AuditError> {
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let ledger = ledger::open(&args.common.ledger(), OpenMode::ReadOnly).await?;
    let report = replay_all(&*ledger, threads, &TaskGroup::default()).await;
    ledger.close().await;
    let report = report?;
    match report.first {
        Some(first) => Err(AuditError::Mismatch { mismatches: report.mismatches, decisions: report.decisions, first }),
        None => Ok(output::print_line(&format!(
            "audit replayed: {} decisions from {} snapshots, {} mismatches",
            report.decisions, report.snapshots, report.mismatches
        ))?),
    }
}
