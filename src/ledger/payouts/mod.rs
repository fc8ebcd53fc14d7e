//! Payouts: what is stored of each, and the transaction that moves one on.
//!
//! - [`store`]: the interface, [`Payouts`].
//! - [`commit`], [`act`], [`body`]: what is stored.
//! - [`change`]: the entry of the audit about it.
//! - [`stored`]: what is read.
//! - [`outcome`]: what became of a commit.
//! - [`restore`]: what happens to open payouts when newer entries were lost.
//!
//! A payout is committed through the audit ([`NewEntry`](super::decisions::NewEntry)): its row, its attempts, its
//! timeline, its events and its entry of the chain are one transaction, which asks the gate. docs/adr/0034 says why.

pub mod act;
pub mod body;
pub mod change;
pub mod commit;
pub mod outcome;
pub mod restore;
pub(super) mod row;
pub mod store;
pub mod stored;

pub use self::act::{PayoutAct, PayoutCall};
pub use self::body::PayoutBody;
pub use self::change::{PayoutChange, PayoutEntry, PayoutsResume};
pub use self::commit::{PayoutCommit, PayoutIntent, Registration};
pub use self::outcome::PayoutOutcome;
pub use self::restore::hold_open_payouts;
pub use self::store::Payouts;
pub use self::stored::{
    AttemptCount, DuePayout, PayoutCount, PayoutCounts, PayoutFilter, PayoutPage, StoredPayout, TimelineEvent,
    TimelineRow,
};
