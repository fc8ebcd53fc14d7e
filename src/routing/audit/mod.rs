//! Checks of the recorded decisions, on the ledger itself: that no record was changed, removed or moved, and that each
//! decision is what its snapshot and its request come to.

mod problem;
mod replay;
mod verify;

pub use problem::{BrokenRecord, RecordProblem};
pub use replay::{Mismatch, ReplayReport, replay_all};
pub use verify::{AuditVerdict, verify};
