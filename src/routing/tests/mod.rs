//! Tests of the decision service: scripted routes and connections, and a real ledger.

mod adjustments;
mod attempts;
mod decisions;
mod env;
mod limits;
mod outcomes;
mod simulation;
mod trips;
