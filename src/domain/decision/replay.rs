//! The same decision once more, by the version of the algorithm that made it. Pure.

use super::decide::{decide, eligible};
use super::record::{ALGORITHM, DecisionRecord, RecordKind};
use super::snapshot::Snapshot;
use crate::domain::route::{CandidateReason, Evaluation};

/// Why a record does not replay.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// The version is newer than this one.
    #[error("algorithm {0} is unknown: this version replays up to {ALGORITHM}; use the version that wrote the record")]
    UnknownAlgorithm(u32),
    /// The same inputs lead to another bank.
    #[error("recorded {recorded}, replayed {}; the record or its snapshot was changed", .replayed.as_deref().unwrap_or("none"))]
    Different {
        /// The recorded candidate.
        recorded: String,
        /// The candidate that the inputs lead to.
        replayed: Option<String>,
    },
    /// The candidate of an override is excluded by its inputs.
    #[error("override to {candidate} is not available by its own inputs; the record or its snapshot was changed")]
    NotEligible {
        /// The recorded candidate.
        candidate: String,
        /// Why it is excluded; `None` if the snapshot has no such candidate.
        reason: Option<CandidateReason>,
    },
    /// The reservation differs.
    #[error("the reservation of the daily limit is not that of the inputs; the record or its snapshot was changed")]
    Reservation,
}

/// The evaluation that led to `record`, by the algorithm of its version. `snapshot` is the one that the record names.
///
/// # Errors
/// If the inputs do not lead to the recorded candidate.
pub fn replay(record: &DecisionRecord, snapshot: &Snapshot) -> Result<Evaluation, ReplayError> {
    let evaluation = match record.algorithm {
        1 => decide(&record.request, snapshot, &record.usage, record.at),
        other => return Err(ReplayError::UnknownAlgorithm(other)),
    };
    match record.kind {
        RecordKind::Override => {
            eligible(&evaluation, &record.candidate)
                .map_err(|error| ReplayError::NotEligible { candidate: error.candidate, reason: error.reason })?;
        }
        RecordKind::Decision if evaluation.active.as_deref() != Some(&*record.candidate) => {
            let recorded = record.candidate.clone();
            return Err(ReplayError::Different { recorded, replayed: evaluation.active });
        }
        RecordKind::Decision => {}
    }
    if record.reserves(snapshot) { Ok(evaluation) } else { Err(ReplayError::Reservation) }
}
