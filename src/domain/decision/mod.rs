//! Decisions on payouts: what is asked, what was known, what was chosen, and the chain that shows that nothing was
//! changed later. Pure and total.
//!
//! - [`request`], [`draft`]: what a caller asks, validated.
//! - [`snapshot`]: what was known of the route and its banks, addressed by its content.
//! - [`usage`]: what daily limits have been used by.
//! - [`decide`](mod@decide): the choice; [`record`]: what is kept of it; [`replay`](mod@replay): the same choice again.
//! - [`chain`], [`verifier`]: the hash chain of the audit.

pub mod chain;
pub mod decide;
pub mod draft;
pub mod record;
pub mod replay;
pub mod request;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod verifier;

pub use self::chain::{ChainHead, Checkpoint, EntryKind, GENESIS, link};
pub use self::decide::{NotEligible, decide, eligible};
pub use self::draft::{FieldProblem, RateDraft, RequestDraft, RequestError};
pub use self::record::{ALGORITHM, Ask, DECISION_TTL, Decided, DecisionRecord, NotDecided, Override, RecordKind};
pub use self::replay::{ReplayError, replay};
pub use self::request::{AttemptKey, DecisionRequest, RequestRate};
pub use self::snapshot::{DecodeError, SealedSnapshot, Snapshot, SnapshotCandidate, SnapshotIncumbent};
pub use self::usage::{DailyLimit, DayUsage, Reservation, Usage};
pub use self::verifier::{BreakKind, BrokenLink, ChainVerifier};
pub use crate::domain::canonical::Hash;
// The gate of further attempts, and the outcomes that it reads: one place for decided and for followed payouts.
pub use crate::domain::payout::{
    AttemptObstacle, EarlierAttempt, OutcomeClass, Unresolved, UnresolvedReason, may_attempt,
};
