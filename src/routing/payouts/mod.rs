//! Payouts that are followed from the decision to the proof: registration, acts of callers, further attempts.
//!
//! What becomes of a payout is [`domain::payout`](crate::domain::payout)'s to say, and what is stored the ledger's; here an
//! act is applied to the stored payout, committed through the queue of decisions, and applied again to what another act
//! stored first. What follows from a stored act (inquiries, recalls) is handed to the follower.
//!
//! - [`register`]: a payout with its first decision.
//! - `attempt`: a decision that is the next attempt of a followed payout.
//! - [`reroute`]: the next attempt without a person.
//! - [`act`]: everything that callers do or report.
//! - [`read`]: payouts and their timelines.
//! - [`totals`]: how many are not final, for gauges and for the status of routes.

pub mod act;
pub(crate) mod attempt;
pub mod read;
pub mod register;
pub mod reroute;
mod resume;
pub(crate) mod state;
pub mod totals;

pub use self::act::PayoutRequest;
pub use self::register::RegisteredPayout;
pub use self::totals::PayoutTotalsRefresh;
