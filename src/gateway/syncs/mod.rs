//! `/api/syncs/{namespace}/{name}`: runs, resyncs, plans and dead letters of sync jobs.

pub mod dead_letters;
pub mod operations;
pub mod plan;
pub mod replay;
pub mod resync;
pub mod run;
pub mod runs;
mod target;
pub mod view;
