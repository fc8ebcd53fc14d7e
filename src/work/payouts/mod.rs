//! Follows payouts to their end: inquires banks, recalls, and proposes the next attempt once the last one is proven not
//! to have been executed.
//!
//! - [`clock`]: does what is due, under a lease.
//! - [`follower`]: carries out what follows from the acts of people and submitters.
//! - `due_queue`: what is due, by bank.
//! - `effects`: the calls, and what their answers come to.
//! - `step_guard`: notices that the wall clock was stepped.
//!
//! What is to be asked, and when, is decided in `domain::payout` and stored before it is done: the stored payout, with
//! its count of inquiries and recalls, is the intent, and the fencing number of the lease is in its timeline. A process
//! that ends between the intent and the call leaves nothing to be repeated blindly: the next question is asked when it
//! is due. docs/adr/0035 says why.

pub mod clock;
mod due_queue;
mod effects;
pub mod follower;
mod metrics;
mod step_guard;
#[cfg(test)]
mod tests;

pub use self::clock::PayoutClock;
pub use self::effects::PayoutDeps;
pub use self::follower::Follower;
