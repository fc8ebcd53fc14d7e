//! Decisions: which bank takes a payout, and why.
//!
//! [`DecisionService`] joins the pure rules of [`domain::decision`](crate::domain::decision) with what runs: the routes and
//! connections of this replica ([`RouteSource`]) and the ledger. It knows no HTTP and no Kubernetes. A decision reads the
//! state of every bank of its route at its start (`snapshot_cache`), evaluates it, and is answered once the ledger has
//! appended it to its audit (`committer`); the ledger, and no memory of this process, is the truth about what was decided.

pub mod adjustments;
pub mod audit;
pub mod bank_health;
mod committer;
mod decide;
pub mod decided;
mod entry_id;
pub mod error;
mod history;
pub mod metrics;
mod open_route;
mod ops;
mod ops_refresh;
pub mod outcomes;
pub mod override_decision;
pub mod payouts;
mod predictions;
mod proposals;
mod route_choice;
pub mod service;
pub mod simulation;
mod snapshot_cache;
pub mod source;
#[cfg(test)]
mod tests;
mod untold;

pub use self::adjustments::AdjustmentRequest;
pub use self::bank_health::{BankHealth, BankState, BankUse};
pub use self::committer::Committer;
pub use self::decided::{Decided, Tested};
pub use self::error::{NoBank, ReplayProblem, RoutingError, UnavailableCause};
pub use self::metrics::DecisionTotals;
pub use self::ops_refresh::OpsRefresh;
pub use self::outcomes::{OutcomeReport, OutcomeResult, OutcomeStored};
pub use self::override_decision::OverrideRequest;
pub use self::payouts::{PayoutRequest, PayoutTotalsRefresh, RegisteredPayout};
pub use self::service::{Actor, DecisionService, RoutingDeps, RoutingTasks};
pub use self::simulation::{BankShare, CostComparison, SimulatedDifference, Simulation, SimulationRequest};
pub use self::source::{ConnectionHealth, LiveIncumbent, LiveRoute, PayoutFeedback, RouteSource};
