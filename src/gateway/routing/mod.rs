//! `/api/treasury/routing`: decisions of banks for payouts, and what operations staff and scorers add to them.
//!
//! The handlers check form and rights and print results; what a decision is, is [`crate::routing`]'s. `fields` reads the
//! bodies, `access` holds the rights and the error of each failure, `view` prints decisions.

mod access;
pub mod adjustments;
mod candidate_view;
pub mod decide;
pub mod decisions;
mod errors;
mod fields;
pub mod health;
pub mod outcomes;
pub mod override_decision;
pub mod payouts;
pub mod predictions;
pub mod proposals;
pub mod simulate;
pub mod verify;
pub mod view;
