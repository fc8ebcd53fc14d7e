//! The audit of routing: decisions, outcomes, Ops adjustments and proposals, as one chain of hashed entries.
//!
//! - [`store`]: the interface, [`Decisions`].
//! - [`entry`], [`adjustment`], [`proposal`]: what is appended.
//! - [`stored`]: what is read.
//! - [`outcome`]: what became of an entry.
//! - `needs`, `state`, `gate`, `plan`, `plan_ops`, `plan_payout`: which entries of a batch are stored, decided here for every
//!   engine: an engine reads the state under the lock of the chain's head and writes the plan.
//! - [`columns`]: what the body of an entry says about its other columns.
//!
//! docs/adr/0029 says what the chain shows and what it cannot.

pub mod adjustment;
pub mod columns;
pub mod entry;
pub(super) mod expired;
pub(super) mod gate;
pub(super) mod needs;
pub mod outcome;
pub(super) mod plan;
mod plan_ops;
mod plan_payout;
pub mod proposal;
pub(super) mod row;
pub(super) mod seek;
pub(super) mod state;
pub mod store;
pub mod stored;

pub use self::adjustment::{AdjustmentChange, AdjustmentEffect, AdjustmentTarget, MAX_ADJUSTMENTS, RouteAdjustment};
pub use self::columns::EntryColumns;
pub use self::entry::{DecisionBatch, EncodedSnapshot, NewDecision, NewEntry, NewOutcome};
pub(crate) use self::gate::earlier_attempts;
pub use self::outcome::{EntryOutcome, MAX_OUTCOMES};
pub use self::proposal::{
    ProposalChange, ProposalFilter, ProposalSettlement, ProposalState, RouteProposal, StoredProposal,
};
pub use self::store::Decisions;
pub use self::stored::{
    ChainEnds, ChainEntry, DecisionFilter, DecisionPage, EntryPosition, LimitDay, StoredDecision, StoredOutcome,
};
